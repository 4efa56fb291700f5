"""Pictures -> labels/<name>.png of ids and label_names.json, by semantic segmentation.

SegFormer, UperNet, BEiT, DPT, MaskFormer, Mask2Former and what else `transformers` opens by name.
Names that lie there already stay as they are, colours included. `labels.json` says which network
painted the maps that were missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from taming.annotators.base import (
    Annotator,
    Pixels,
    check_empty,
    check_origin,
    open_network,
    write_json,
    write_map,
)
from taming.data.annotations import LabelTable, read_json
from taming.data.batch import VOID

CLASSES = ["AutoModelForSemanticSegmentation", "AutoModelForUniversalSegmentation"]


class LabelAnnotator(Annotator):
    task = "semantic segmentation"

    def __init__(self, root: Path, network: str, device: str = "cpu") -> None:
        super().__init__(root, network, device)
        self.model, self.processor = open_network(CLASSES, network, self.task, self.device)
        named = self.model.config.id2label
        self.names = {int(index): str(name) for index, name in sorted(named.items())}
        if len(self.names) > VOID:
            raise ValueError(
                f"{network} knows {len(self.names)} labels, label maps hold {VOID} at most; choose "
                "a network with fewer"
            )
        if self.file.is_file():
            check_origin(self.file, LabelTable.read(self.file).names == self.names, network)
            if self.origin.is_file():
                check_origin(self.origin, read_json(self.origin) == self.made_by, network)
        else:
            check_empty(self.root / "labels", network)

    @property
    def file(self) -> Path:
        return self.root / "label_names.json"

    @property
    def origin(self) -> Path:
        return self.root / "labels.json"

    @property
    def made_by(self) -> dict[str, str]:
        return {"model": self.network}

    def _map(self, name: str) -> Path:
        return self.root / "labels" / f"{name}.png"

    def has(self, name: str) -> bool:
        return self.file.is_file() and self._map(name).is_file()

    def add(self, name: str, file: str, pixels: Pixels) -> None:
        if not (self.file.is_file() and self.origin.is_file()):
            self.save()  # ids mean nothing without names, and must not be those of two networks
        write_map(self._map(name), self.segment(pixels))

    def segment(self, pixels: Pixels) -> NDArray[np.uint8]:
        """Ids (H, W), VOID where the network says nothing."""
        inputs = self.processor(images=pixels, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            outputs = self.model(**inputs)
        found = self.processor.post_process_semantic_segmentation(
            outputs, target_sizes=[pixels.shape[:2]]
        )
        ids = found[0].cpu().numpy()
        return np.where((ids < 0) | (ids >= len(self.names)), VOID, ids).astype(np.uint8)

    def save(self) -> None:
        if not self.file.is_file():
            write_json(self.file, {str(index): name for index, name in self.names.items()})
        write_json(self.origin, self.made_by)
