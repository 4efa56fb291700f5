"""Boxes of things -> prefix tokens, one a thing: layout to picture.

A value is the largest things of a picture, each a category and its corners in [0, 1]; a token is
the category's vector plus what waves of the corners say (Tancik et al., arXiv 2006.10739), so that
boxes need no grid. The published scene models take codes instead: their builders are in
`taming.data.object_codes`, and their condition stage, which hands codes on, is `DummyCondStage`.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from taming.cond_stage.base import Part, PrefixCondition, Size
from taming.cond_stage.drawing import distinct_colours
from taming.cond_stage.sources import describe, is_path, one_of_many, place_in_file
from taming.config import nearest
from taming.data.annotations import read_json
from taming.data.coco_entries import INSTANCES
from taming.data.formats.coco import boxes_of
from taming.data.object_codes import (
    ObjectsBoundingBoxConditionalBuilder,
    ObjectsCenterPointsConditionalBuilder,
)
from taming.data.vocabulary import normalised

__all__ = [
    "Boxes",
    "DummyCondStage",
    "ObjectsBoundingBoxConditionalBuilder",
    "ObjectsCenterPointsConditionalBuilder",
]

OCTAVES = 6  # of the waves: the finest tells apart 1/64 of the picture
LEAST_AREA = 1e-4  # of a part, of what is seen of a box in it: about a pixel
FORM = '[{"category": "tree", "bbox": [x, y, width, height]}, ...], parts of the picture, 0..1'


class Boxes(PrefixCondition):
    """Values are float32 (objects, 5): x0, y0, x1, y1 in [0, 1], index into `names`; -1: nothing.

    names: the vocabulary. objects: things a picture; the largest are kept.
    """

    name = "boxes"
    vocabulary = "box_names"

    def __init__(self, width: int, names: Sequence[str], objects: int = 12) -> None:
        super().__init__(width, objects)
        self.names = list(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(f"boxes: names must be different words, at least one; {self.names}")
        self.table = nn.Embedding(len(self.names), width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.place = nn.Linear(4 * 2 * OCTAVES, width)
        self.nothing = nn.Parameter(torch.randn(width) * 0.02)

    def read(self, source: Any, size: Size) -> Tensor:
        """A list of boxes as in `FORM`, or JSON with it, alone or under "boxes"; or COCO instances.

        A COCO file of many pictures needs the one meant behind a hash: `boxes.json#0001`.
        """
        path, wanted = place_in_file(source) if is_path(source) else (Path(describe(source)), "")
        entries = read_json(path) if is_path(source) else source
        if isinstance(entries, Mapping) and set(INSTANCES) <= set(entries):
            entries = _from_coco(entries, path, wanted)
        elif isinstance(entries, Mapping):
            entries = entries.get("boxes")
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            raise ValueError(f"{describe(source)} holds no boxes; give {FORM}")
        return self._value([self._row(entry, describe(source)) for entry in entries])

    def _row(self, entry: Any, what: str) -> tuple[float, ...]:
        try:
            name = str(entry["category"])
            x, y, width, height = (float(number) for number in entry["bbox"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{what}: {entry!r:.80} is no box; give {FORM}") from error
        spelt = [normalised(known) for known in self.names]
        if normalised(name) not in spelt:
            raise ValueError(
                f"{what}: '{name}' is not among the {len(self.names)} things that this model "
                f"knows; {nearest(name, self.names)}"
            )
        corners = (x, y, x + width, y + height)
        if not (width > 0 and height > 0 and all(-0.001 <= at <= 1.001 for at in corners)):
            raise ValueError(f"{what}: box {entry['bbox']} of '{name}' is not inside; give {FORM}")
        return (*corners, float(spelt.index(normalised(name))))

    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        boxes = sample.get("boxes")
        if boxes is None or not len(boxes):
            return None
        height, width = sample["image"].shape[-2:]
        scale = torch.tensor([width, height, width, height, 1], dtype=torch.float32)
        return self._value((torch.as_tensor(boxes, dtype=torch.float32) / scale).tolist())

    def _value(self, rows: Sequence[Sequence[float]]) -> Tensor:
        """The largest rows first; the order of equals is kept."""
        largest = sorted(rows, key=lambda row: -(row[2] - row[0]) * (row[3] - row[1]))
        value = self.blank((1, 1))
        kept = torch.tensor(largest[: self.tokens], dtype=torch.float32)
        value[: len(kept)] = torch.cat([kept[:, :4].clamp(0, 1), kept[:, 4:]], dim=1)
        return value  # (objects, 5)

    def blank(self, size: Size) -> Tensor:
        value = torch.zeros(self.tokens, 5)
        value[:, 4] = -1
        return value

    def within(self, values: Tensor, part: Part) -> tuple[Tensor, Tensor | None]:
        """The boxes cut by the part, in its own measure, the largest first, as crops have them.

        They are those of the whole picture: its largest.
        """
        low = values.new_tensor([part.left, part.top, part.left, part.top])
        extent = values.new_tensor([part.right - part.left, part.bottom - part.top])
        corners = ((values[..., :4] - low) / extent.repeat(2)).clamp(0, 1)  # (B, N, 4)
        sides = corners[..., 2:] - corners[..., :2]
        is_seen = (values[..., 4] >= 0) & (sides.prod(dim=-1) > LEAST_AREA)
        area = torch.where(is_seen, sides.prod(dim=-1), -1.0)
        order = area.argsort(dim=-1, descending=True, stable=True)[..., None]
        cut = torch.cat([corners, values[..., 4:]], dim=-1)
        cut = torch.where(is_seen[..., None], cut, self.blank((1, 1)).to(values))
        return cut.gather(1, order.expand_as(cut)), is_seen.any(dim=-1)

    def features(self, values: Tensor) -> Tensor:
        category = values[..., 4].long()  # (B, N)
        octaves = 2.0 ** torch.arange(OCTAVES, device=values.device) * math.pi
        angles = rearrange(values[..., :4, None] * octaves, "b n c o -> b n (c o)")
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        things = self.table(category.clamp(min=0)) + self.place(waves)  # (B, N, C)
        present = (category >= 0)[..., None]
        return rearrange(torch.where(present, things, self.nothing), "b n c -> b (n c)")

    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        """Named outlines on paper, the largest below."""
        height, width = size or (256, 256)
        picture = Image.new("RGB", (width, height), (248, 246, 240))
        draw = ImageDraw.Draw(picture)
        colours = distinct_colours(min(len(self.names), 32))
        font = ImageFont.load_default(max(8, min(height, width) // 20))
        for x0, y0, x1, y1, category in value.tolist():
            if category < 0:
                continue
            colour = colours[int(category) % len(colours)]
            corners = (x0 * (width - 1), y0 * (height - 1), x1 * (width - 1), y1 * (height - 1))
            draw.rectangle(corners, outline=colour, width=max(1, min(height, width) // 100))
            at = (corners[0] + 3, corners[1] + 2)
            draw.text(at, self.names[int(category)], fill=colour, font=font)
        return np.asarray(picture)


def _from_coco(entries: Mapping[str, Any], path: Path, wanted: str) -> list[dict[str, Any]]:
    """The things of one picture, as in `FORM`."""
    file = boxes_of(entries, path)
    rows = file.rows[one_of_many(file.rows, wanted, path, "thing")].tolist()
    return [
        {"category": file.table[int(category)], "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for x0, y0, x1, y1, category in rows
    ]


class DummyCondStage:
    """The condition stage of scene models: the condition is codes already, and stays as it is."""

    def __init__(self, conditional_key: str) -> None:
        self.conditional_key = conditional_key

    def eval(self) -> "DummyCondStage":
        return self

    def train(self, mode: bool = True) -> "DummyCondStage":
        return self

    @staticmethod
    def encode(c: Tensor) -> tuple[Tensor, None, tuple[None, None, Tensor]]:
        return c, None, (None, None, c)

    @staticmethod
    def decode(c: Tensor) -> Tensor:
        return c

    @staticmethod
    def to_rgb(c: Tensor) -> Tensor:
        return c
