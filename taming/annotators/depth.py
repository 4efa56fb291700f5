"""Pictures -> depth/<name>.png of 16 bits and depth.json.

Estimators of two kinds are known: relative ones (MiDaS and DPT, Depth Anything) give inverse depth
up to scale and shift, kept from the least to the greatest of each picture; metric ones (GLPN,
ZoeDepth, the metric Depth Anything) give metres, kept in steps of 2 mm.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from taming.annotators.base import (
    Annotator,
    Pixels,
    check_empty,
    check_origin,
    open_network,
    write_json,
    write_map,
)
from taming.data.annotations import read_json

STEP = 0.002  # metres; 16 bits reach to 131 m
METRIC = ("glpn", "zoedepth")


class DepthAnnotator(Annotator):
    task = "depth estimation"

    def __init__(self, root: Path, network: str, device: str = "cpu") -> None:
        super().__init__(root, network, device)
        self.model, self.processor = open_network(
            ["AutoModelForDepthEstimation"], network, self.task, self.device
        )
        config = self.model.config
        told = getattr(config, "depth_estimation_type", "relative")
        self.is_metric = config.model_type in METRIC or told == "metric"
        self.table: dict[str, Any] = {"kind": "metric" if self.is_metric else "inverse"}
        if self.is_metric:
            self.table |= {"scale": STEP, "invalid": 0}
        self.table |= {"model": network, "per_image": {}}
        self._resume()

    @property
    def file(self) -> Path:
        return self.root / "depth.json"

    def _resume(self) -> None:
        if self.file.is_file():
            found = read_json(self.file)
            check_origin(self.file, found.get("model") == self.network, self.network)
            self.table["per_image"] = dict(found.get("per_image") or {})
        else:
            check_empty(self.root / "depth", self.network)

    def _map(self, name: str) -> Path:
        return self.root / "depth" / f"{name}.png"

    def has(self, name: str) -> bool:
        return name in self.table["per_image"] and self._map(name).is_file()

    def add(self, name: str, file: str, pixels: Pixels) -> None:
        depth = self.estimate(pixels)
        low, high = float(depth.min()), float(depth.max())
        if self.is_metric:
            values = np.clip(np.round(depth / STEP), 1, 65535)
        else:
            values = np.round((depth - low) / max(high - low, 1e-12) * 65535)
        if not self.file.is_file():
            self.save()  # maps without it would be nobody's, and in the way of the next pass
        write_map(self._map(name), values.astype(np.uint16))
        self.table["per_image"][name] = {"min": low, "max": high}

    def estimate(self, pixels: Pixels) -> NDArray[np.float64]:
        """(H, W): metres, or inverse depth in the network's own measure."""
        inputs = self.processor(images=pixels, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            outputs = self.model(**inputs)
        height, width = pixels.shape[:2]
        if self.model.config.model_type == "zoedepth":
            margins = self.processor.do_pad
            found = _within_margins(outputs.predicted_depth, height, width, margins)
        else:
            process = self.processor.post_process_depth_estimation
            found = process(outputs, target_sizes=[(height, width)])[0]["predicted_depth"]
        depth = found.double().cpu().numpy()
        if not np.isfinite(depth).all():
            raise ValueError(f"{self.network} answers NaN or infinity; try another network")
        return depth

    def save(self) -> None:
        write_json(self.file, self.table)


def _within_margins(depth: Tensor, height: int, width: int, margins: bool) -> Tensor:
    """What ZoeDepth says of the picture (H, W), without what it says of mirrored margins around it.

    Bhat et al., arXiv 2302.12288: the margins are as in its authors' code. The processor's own way
    back needs torchvision.
    """
    above, beside = (int((side / 2) ** 0.5 * 3) * margins for side in (height, width))
    whole = (height + 2 * above, width + 2 * beside)
    padded = F.interpolate(depth[:, None], whole, mode="bicubic")[0, 0]
    return padded[above : above + height, beside : beside + width]
