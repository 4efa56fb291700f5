"""Stick figures -> control on the grid: pose to person.

A value is joints, not pixels: N people of 19 joints (COCO's 17, neck, head_top), x and y in [0, 1]
of the picture. They are rendered to soft maps, one per joint and per limb, so that the person's
left and right never look alike, on a grid of about four pixels, several times finer than the latent
one, and then encoded as any map. (Pose-to-person synthesis: VQGAN, arXiv 2012.09841, section 4.2.)
"""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taming.cond_stage.base import ControlCondition, Size
from taming.cond_stage.skeleton import MAPS, draw_sticks, render_maps
from taming.cond_stage.sources import describe, is_path, one_of_many, place_in_file
from taming.data.batch import JOINTS
from taming.data.keypoints import People
from taming.data.pictures import SUFFIXES

PIXELS_PER_CELL = 4  # of the maps that joints are drawn on


class Pose(ControlCondition):
    """Values are float32 (people, 19, 3): x, y in [0, 1] and visibility; absent people are 0."""

    name = "pose"

    def __init__(self, width: int, downsample_factor: int, people: int = 4) -> None:
        if people < 1:
            raise ValueError(f"pose: people is {people}; it must be positive")
        # Cells of the drawn maps along one side of a latent cell.
        self.finer = max(1, downsample_factor // PIXELS_PER_CELL)
        super().__init__(width, downsample_factor, channels=MAPS, encoder_factor=self.finer)
        self.people = people

    def read(self, source: Any, size: Size) -> Tensor:
        """People as COCO JSON (a file or what is in it) or as an array (N, 17 or 19, 3).

        COCO's pixels are those of its own picture, whose size stands beside them. An array counts
        in pixels of the picture to be painted, unless nothing in it exceeds 1: then in fractions.
        A file of many pictures needs the one meant behind a hash: `keypoints.json#0001`.
        """
        if is_path(source) or isinstance(source, Mapping):
            people, extent = _from_coco(source)
        else:
            people, extent = _from_array(source), size
            seen = people[people[..., 2] > 0]
            if len(seen) and float(np.abs(seen[:, :2]).max()) <= 1.0:
                people[..., :2] = people[..., :2] * (size[1], size[0]) - 0.5
        value = self._normalised(people, extent)
        if not bool((value[..., 2] > 0).any()):
            raise ValueError(
                f"{describe(source)} has no visible joint inside its {extent[0]}x{extent[1]} "
                f"picture; check that joints are x, y, visibility in pixels"
            )
        return value

    def source_shape(self, source: Any) -> Size | None:
        """Of the picture whose joints a file has; an array does not say."""
        return _from_coco(source)[1] if is_path(source) or isinstance(source, Mapping) else None

    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        if sample.get("keypoints") is None:
            return None
        height, width = sample["image"].shape[-2:]
        people = np.asarray(sample["keypoints"], dtype=np.float64)
        value = self._normalised(people, (height, width))
        return value if bool((value[..., 2] > 0).any()) else None

    def _normalised(self, people: np.ndarray, extent: Size) -> Tensor:
        """Pixels -> fractions; joints outside become invisible, the largest people come first."""
        # Pixel centres are integers: the left rim of the picture is at -0.5.
        points = (people[..., :2] + 0.5) / np.array([extent[1], extent[0]], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            inside = ((points >= 0.0) & (points <= 1.0)).all(axis=-1)
        seen = inside & (people[..., 2] > 0)  # (N, 19)
        points = np.where(seen[..., None], points, 0.0)
        top = np.where(seen[..., None], points, -np.inf).max(axis=1, initial=-np.inf)
        bottom = np.where(seen[..., None], points, np.inf).min(axis=1, initial=np.inf)
        area = np.where(seen.any(axis=1), (top - bottom).clip(min=1e-3).prod(axis=-1), 0.0)
        order = [i for i in np.argsort(-area, kind="stable") if area[i] > 0][: self.people]
        value = torch.zeros(self.people, len(JOINTS), 3)
        joined = np.concatenate([points, seen[..., None]], axis=-1)[order]
        value[: len(order)] = torch.from_numpy(joined.astype(np.float32))
        return value

    def blank(self, size: Size) -> Tensor:
        return torch.zeros(self.people, len(JOINTS), 3)

    def planes(self, values: Tensor, grid: Size | None) -> Tensor:
        if grid is None:
            raise ValueError("poses carry no size of their own; pass the latent grid to embed")
        with torch.no_grad():
            # People are stored largest first and most pictures show few: skip the empty places.
            crowd = max(1, int((values[..., 2] > 0).any(dim=-1).sum(dim=-1).amax()))
            values = values[:, :crowd]
            return render_maps(values.float(), (grid[0] * self.finer, grid[1] * self.finer))

    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        """Coloured sticks: the person's left in blue, right in orange."""
        return draw_sticks(value.detach().float().cpu().numpy(), size or (256, 256))


def _from_array(source: Any) -> np.ndarray:
    """(N, 17 or 19, 3) or one person without N -> float64 (N, 19, 3)."""
    array = np.asarray(source.detach().cpu() if isinstance(source, Tensor) else source, dtype=float)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[1] not in (17, len(JOINTS)) or array.shape[2] != 3:
        raise ValueError(
            f"{describe(source)} is no pose; give (people, 17 or 19 joints, 3) as x, y, visibility"
        )
    people = np.zeros((len(array), len(JOINTS), 3))
    people[:, : array.shape[1]] = array
    return people


def _from_coco(source: Any) -> tuple[np.ndarray, Size]:
    """COCO keypoints of one picture -> (N, 19, 3) in its pixels, and its height and width."""
    if isinstance(source, Mapping):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "keypoints.json")
            path.write_text(json.dumps(source), encoding="utf-8")
            return _of_picture(People(path), "")
    path, wanted = place_in_file(source)
    if path.suffix.lower() in SUFFIXES:
        raise ValueError(
            f"{path} is a picture, and a pose a file of joints in the format of COCO; taming "
            "annotate pose makes one of photographs"
        )
    return _of_picture(People(path), wanted)


def _of_picture(file: People, wanted: str) -> tuple[np.ndarray, Size]:
    name = one_of_many(file.people, wanted, file.path, "person")
    extent = file.sizes[name]
    if extent is None:
        raise ValueError(f"{file.path} does not say the width and height of '{name}'; add them")
    people = file.of(name, *extent)
    assert people is not None
    return people, extent
