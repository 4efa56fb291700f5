"""How near everything is -> control on the grid.

Values are inverse depth, near is high, stretched so that its 2nd and 98th percentile are -1 and 1:
estimators give inverse depth up to scale and shift (MiDaS, arXiv 1907.01341), and what is measured
in metres is turned into the same quantity. One far or near outlier does not flatten the rest.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from taming.cond_stage.base import ControlCondition, Size
from taming.cond_stage.drawing import ramp
from taming.cond_stage.sources import as_array, describe, file_as_stored, is_path
from taming.data.annotations import DepthTable, normalised_depth, read_depth
from taming.data.pictures import upright

Kind = Literal["inverse", "metric"]


class Depth(ControlCondition):
    """Values are float32 (1, H, W) in [-1, 1], high is near."""

    name = "depth"

    def __init__(self, width: int, downsample_factor: int) -> None:
        super().__init__(width, downsample_factor, channels=1)

    def read(self, source: Any, size: Size, kind: Kind | None = None) -> Tensor:
        """8- or 16-bit picture, `.npy`, array or tensor; `kind` is "inverse" or "metric".

        Without `kind`, a `depth.json` beside the file or in the folder above says what its numbers
        mean, also those of a picture opened from it and not changed since; else they are inverse,
        as estimators give them and painters draw them: light is near.
        """
        return torch.from_numpy(normalised_depth(read_inverse(source, size, kind).numpy()))

    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        depth = sample.get("depth")
        return None if depth is None else torch.as_tensor(depth, dtype=torch.float32)

    def blank(self, size: Size) -> Tensor:
        return torch.zeros(1, *size)

    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        """Light is near."""
        return ramp(value[0].detach().float().cpu().numpy() * 0.5 + 0.5)


def read_inverse(source: Any, size: Size, kind: Kind | None = None) -> Tensor:
    """Inverse depth at a size, float32 (1, H, W), in the units of the source."""
    if kind not in (None, "inverse", "metric"):
        raise ValueError(f"depth kind '{kind}' is unknown; write 'inverse' or 'metric'")
    if kind is None:
        source = file_as_stored(source) or source
    if is_path(source):
        table = None if kind is None else DepthTable(kind)
        inverse = read_depth(source, table, turned=True)
    else:
        inverse = _from_array(source, kind or "inverse")
    plane = torch.from_numpy(np.ascontiguousarray(inverse, dtype=np.float32))[None, None]
    if tuple(plane.shape[-2:]) != tuple(size):
        plane = F.interpolate(plane, size, mode="bilinear", antialias=True)
    return plane[0]


def _from_array(source: Any, kind: Kind) -> np.ndarray:
    """Inverse depth (H, W) of a picture, array or tensor."""
    if isinstance(source, Image.Image):
        picture = upright(source)
        grey = picture.mode in ("L", "F") or picture.mode.startswith("I")
        array = np.asarray(picture if grey else picture.convert("RGB"))
        if array.ndim == 3 and np.ptp(array.astype(np.int32), axis=-1).max() <= 2:
            array = array[..., 0]  # grey, saved as colour
    else:
        array = as_array(source)
    array = array.squeeze()
    if array.ndim != 2 or array.dtype.kind not in "uif":
        raise ValueError(f"{describe(source)} is no depth map; give numbers of shape (H, W)")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        count = int((~np.isfinite(array)).sum())
        raise ValueError(
            f"{describe(source)} holds {count} values that are NaN or infinite; fill them first"
        )
    if kind == "inverse":
        return array
    if array.min() <= 0.0:
        raise ValueError(
            f"{describe(source)} holds depth {array.min():g}; metric depth is above 0, "
            f"inverse depth is read with kind 'inverse'"
        )
    return 1.0 / array
