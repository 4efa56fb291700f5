"""What users hand in -> the values that published second stages take as their condition.

Published models number, scale and lay out their conditions in their own way: labels are the ids of
the data set they were trained on, depth is stretched from minimum to maximum, objects are tokens.
A value is one entry of a batch of ours (`taming.data.batch`), without the batch dimension. Which
condition a model takes is told by its `cond_stage_key`. Knows no model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taming.cond_stage.base import Size
from taming.cond_stage.depth import read_inverse
from taming.cond_stage.labels import fit_ids, ids_from_array
from taming.cond_stage.pose import Pose
from taming.cond_stage.sources import as_image, describe, is_path, resize, to_float, whole
from taming.data.annotations import LabelReader, LabelTable
from taming.data.batch import VOID
from taming.data.pictures import upright

# Published keys of batches -> names of conditions; other keys are names themselves.
NAMES = {
    "segmentation": "labels",
    "class": "class_label",
    "lr": "lowres",
    "objects_bbox": "boxes",
    "objects_center_points": "boxes",
    "keypoints": "pose",
}
# COCO-Stuff numbers 0..181 with 255 for unlabelled; its models see 255 as 0 and the rest one up.
SHIFTED_LABELS = 183


def read_labels(source: Any, size: Size, count: int, is_shifted: bool | None = None) -> Tensor:
    """Ids of a label map as the planes of a model with `count` of them: int64 (H, W).

    The ids of the file stay what they are, whatever a `label_names.json` says; VOID is no plane.
    `is_shifted`: plane 0 is "unlabelled", label 0 is plane 1; by default where COCO-Stuff is told
    by its number of planes.
    """
    shift = int(count == SHIFTED_LABELS if is_shifted is None else is_shifted)
    if is_path(source):
        names = [str(index) for index in range(count - shift)]
        table = LabelTable(dict(enumerate(names)), path=f"this model of {len(names)} labels")
        ids = LabelReader(table, names)(Path(source), turned=True)
    else:
        ids = ids_from_array(source, count - shift)
    plane = fit_ids(ids, size)
    return torch.where(plane == VOID, 0, plane + 1) if shift else plane


def read_depth(source: Any, size: Size) -> Tensor:
    """Inverse depth from -1, the farthest, to 1, the nearest: float32 (1, H, W).

    Takes what `Depth.read` takes, and published files: float32 in the four bytes of an RGBA pixel.
    """
    inverse = read_inverse(_unpacked(source), size)
    low, high = inverse.min(), inverse.max()
    return (inverse - low) / (high - low).clamp(min=1e-8) * 2 - 1


def _unpacked(source: Any) -> Any:
    """The floats (H, W) of an RGBA picture whose pixels are floats; others as they are."""
    if is_path(source) and Path(source).suffix.lower() == ".png" and Path(source).is_file():
        with Image.open(source) as picture:
            packed = np.array(upright(picture)) if picture.mode == "RGBA" else None
    else:
        is_rgba = isinstance(source, Image.Image) and source.mode == "RGBA"
        packed = np.array(upright(source)) if is_rgba else None
    if packed is None:
        return source
    floats = packed.view("<f4")[..., 0]
    # A grey picture with an opaque alpha reads as NaN or as numbers beyond all depth.
    is_depth = bool(np.isfinite(floats).all()) and float(np.abs(floats).max()) < 1e9
    return floats if is_depth else source


def read_class(source: Any, count: int | None = None) -> Tensor:
    """The number of a class: int64 ()."""
    try:
        index = whole("class_label", int(source) if isinstance(source, str) else source)
    except ValueError:
        raise ValueError(
            f"class_label is {source!r}; published models know their classes by whole numbers"
        ) from None
    if index < 0 or (count is not None and index >= count):
        known = "" if count is None else f"; this model has classes 0 to {count - 1}"
        raise ValueError(f"class {index} does not exist{known}")
    return torch.tensor(index)


def read_pose(source: Any, size: Size) -> Tensor:
    """The largest person, in pixels of a picture of this size: float32 (1, 19, 3).

    Takes what `Pose.read` takes.
    """
    people = Pose(width=1, downsample_factor=1, people=1).read(source, size)
    height, width = size
    people[..., :2] = people[..., :2] * torch.tensor([width, height]) - 0.5
    return people


def read_picture(source: Any, size: Size, channels: int) -> Tensor:
    """A picture, or a drawing in one plane, in [-1, 1]: float32 (C, H, W)."""
    if channels not in (1, 3):
        raise ValueError(
            f"{describe(source)}: this model's condition has {channels} planes, a picture has 3; "
            f"give a tensor ({channels}, H, W)"
        )
    image = resize(to_float(as_image(source)), size)
    return image if channels == 3 else image.mean(0, keepdim=True)


def coordinates(size: Size) -> Tensor:
    """How far each pixel lies behind the first one, row by row, in [0, 1): float32 (1, H, W)."""
    height, width = size
    places = torch.arange(height * width, dtype=torch.float64) / (height * width)
    return places.float().reshape(1, height, width)
