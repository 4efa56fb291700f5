"""Things in a picture -> condition codes of the published scene models, and back, and drawn.

Every object is a short run of codes: what it is, then where. Places are cells of a square grid of
`no_sections` x `no_sections` points that shares its numbers with the categories and the codebook;
objects that are not there are filled with the last code, `none`. A crop of the original picture
may follow as two more codes. Thirty boxes and a crop are 92 codes, the prefix of the COCO and Open
Images models.

Source: taming-transformers, Scene Image Synthesis from Bounding Boxes (arXiv 2012.09841 and its
repository). Unlike there, the order of objects changes only when a generator is given.
"""

import math
import random
import warnings
from collections.abc import Callable, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from taming.data.objects import (
    FULL_CROP,
    Annotation,
    BoundingBox,
    absolute_bbox,
    filter_annotations,
    horizontally_flip_bbox,
    intersection_area,
    pad_list,
    rescale_annotations,
)

__all__ = [
    "BLACK",
    "COLOR_PALETTE",
    "FULL_CROP",
    "GRAY_25",
    "GRAY_50",
    "GRAY_75",
    "WHITE",
    "ObjectsBoundingBoxConditionalBuilder",
    "ObjectsCenterPointsConditionalBuilder",
    "absolute_bbox",
    "additional_parameters_string",
    "filter_annotations",
    "get_circle_size",
    "get_plot_font_size",
    "horizontally_flip_bbox",
    "intersection_area",
    "pad_list",
    "rescale_annotations",
]

# The ten colours of Tableau, which tell neighbours in a list apart.
COLOR_PALETTE = [
    (30, 118, 179), (255, 126, 13), (43, 159, 43), (213, 38, 39), (147, 102, 188),
    (139, 85, 74), (226, 118, 193), (126, 126, 126), (187, 188, 33), (22, 189, 206),
]  # fmt: skip
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
GRAY_75, GRAY_50, GRAY_25 = (63, 63, 63), (127, 127, 127), (191, 191, 191)
# Marks of an object, in the order of the bits that they set.
MARKS = ("is_group_of", "is_occluded", "is_depiction", "is_inside")


class ObjectsCenterPointsConditionalBuilder:
    """Two codes an object: what it is, and where its centre is."""

    object_descriptor_length = 2

    def __init__(
        self,
        no_object_classes: int,
        no_max_objects: int,
        no_tokens: int,  # codes there are; the last one means "nothing"
        encode_crop: bool,  # two codes more, and boxes relative to the uncropped picture
        use_group_parameter: bool,  # groups of things are categories of their own
        use_additional_parameters: bool,  # occluded, depicted, seen from inside: likewise
    ) -> None:
        self.no_object_classes = no_object_classes
        self.no_max_objects = no_max_objects
        self.no_tokens = no_tokens
        self.encode_crop = encode_crop
        self.no_sections = int(math.sqrt(no_tokens))
        self.use_group_parameter = use_group_parameter
        self.use_additional_parameters = use_additional_parameters
        if self.no_sections < 2:
            raise ValueError(f"{no_tokens} tokens make no grid of places; give at least 4")

    @property
    def none(self) -> int:
        """The code of an object that is not there."""
        return self.no_tokens - 1

    @property
    def embedding_dim(self) -> int:
        """Codes a picture."""
        return self.no_max_objects * self.object_descriptor_length + 2 * self.encode_crop

    # --- places <-> codes ----------------------------------------------------------------------

    def tokenize_coordinates(self, x: float, y: float) -> int:
        """The grid point nearest to x, y in [0, 1], counted row by row."""
        column, row = (round(at * (self.no_sections - 1)) for at in (x, y))
        return row * self.no_sections + column

    def coordinates_from_token(self, token: int) -> tuple[float, float]:
        row, column = divmod(token, self.no_sections)
        return column / (self.no_sections - 1), row / (self.no_sections - 1)

    def token_pair_from_bbox(self, bbox: BoundingBox) -> tuple[int, int]:
        """Codes of the top left and the bottom right corner."""
        x, y, w, h = bbox
        return self.tokenize_coordinates(x, y), self.tokenize_coordinates(x + w, y + h)

    def bbox_from_token_pair(self, token1: int, token2: int) -> BoundingBox:
        (x0, y0), (x1, y1) = map(self.coordinates_from_token, (token1, token2))
        return x0, y0, x1 - x0, y1 - y0

    # --- objects <-> codes ---------------------------------------------------------------------

    def _marks(self) -> list[tuple[str, int]]:
        """The marks in use, each with its bit."""
        used = [self.use_group_parameter] + [self.use_additional_parameters] * 3
        return [(name, 1 << i) for i, name in enumerate(MARKS) if used[i]]

    def object_representation(self, annotation: Annotation) -> int:
        """The code of a category and its marks."""
        # Only True counts: COCO's 0 and 1 of crowds never did, and models were trained so.
        bits = sum(bit for name, bit in self._marks() if getattr(annotation, name) is True)
        return annotation.category_no + self.no_object_classes * bits

    def representation_to_annotation(self, representation: int) -> Annotation:
        bits, number = divmod(representation, self.no_object_classes)
        marks: dict[str, Any] = dict.fromkeys(MARKS, False)
        marks |= {name: bool(bits & bit) for name, bit in self._marks()}
        return Annotation(None, None, FULL_CROP, number, None, **marks)

    def _describe(self, annotation: Annotation) -> tuple[int, ...]:
        x, y, w, h = annotation.bbox
        where = self.tokenize_coordinates(x + w / 2, y + h / 2)
        return self.object_representation(annotation), where

    def build(
        self,
        annotations: Sequence[Annotation],
        crop_coordinates: BoundingBox | None = None,
        horizontal_flip: bool | None = False,
        rng: random.Random | None = None,  # shuffles the objects, as training does
    ) -> Tensor:
        """Annotations of a whole picture -> the codes (N,) of its crop."""
        if len(annotations) == 0:
            warnings.warn("no annotations: every object of the condition is empty", stacklevel=2)
        if len(annotations) > self.no_max_objects:
            warnings.warn(
                f"{len(annotations)} annotations, {self.no_max_objects} fit: the rest is left out",
                stacklevel=2,
            )
        flip = bool(horizontal_flip)
        crop = crop_coordinates or FULL_CROP
        objects = list(annotations[: self.no_max_objects])
        if rng is not None:
            rng.shuffle(objects)
        objects = filter_annotations(objects, crop)
        extra: tuple[int, ...] = ()
        if self.encode_crop:
            objects = rescale_annotations(objects, FULL_CROP, flip)
            extra = self.token_pair_from_bbox(horizontally_flip_bbox(crop) if flip else crop)
        else:
            objects = rescale_annotations(objects, crop, flip)
        nothing = (self.none,) * self.object_descriptor_length
        described = pad_list([self._describe(a) for a in objects], nothing, self.no_max_objects)
        codes = [code for entry in described for code in entry] + list(extra)
        if not all(0 <= code < self.no_tokens for code in codes):
            raise ValueError(
                f"condition codes {min(codes)}..{max(codes)} do not fit {self.no_tokens} tokens; "
                "give more tokens, fewer categories, or boxes inside the picture"
            )
        return torch.tensor(codes, dtype=torch.int64)

    def inverse_build(self, conditional: Tensor) -> tuple[list[Any], BoundingBox | None]:
        """Codes (N,) -> [(code of what it is, place)] and the crop; places are [0, 1]."""
        codes = conditional.tolist()
        if len(codes) != self.embedding_dim:
            raise ValueError(
                f"{len(codes)} condition codes; {self.no_max_objects} objects take "
                f"{self.embedding_dim}"
            )
        crop = None
        if self.encode_crop:
            *codes, first, last = codes
            crop = self.bbox_from_token_pair(first, last)
        length = self.object_descriptor_length
        entries = [codes[start : start + length] for start in range(0, len(codes), length)]
        return [(e[0], self._place(e[1:])) for e in entries if e[0] != self.none], crop

    def _place(self, codes: Sequence[int]) -> Any:
        return self.coordinates_from_token(codes[0])

    # --- drawing -------------------------------------------------------------------------------

    def plot(
        self,
        conditional: Tensor,
        label_for_category_no: Callable[[int], str],
        figure_size: tuple[int, int],  # width, height
        line_width: int = 3,
        font_size: int | None = None,
    ) -> Tensor:
        """The objects with their names on white, float32 (3, height, width) in [-1, 1]."""
        picture = Image.new("RGB", figure_size, WHITE)
        draw = ImageDraw.Draw(picture)
        font = ImageFont.load_default(get_plot_font_size(font_size, figure_size))
        objects, crop = self.inverse_build(conditional)
        for (code, place), colour in zip(objects, cycle(COLOR_PALETTE), strict=False):
            annotation = self.representation_to_annotation(code)
            marks = additional_parameters_string(annotation)
            label = f"{label_for_category_no(annotation.category_no)} {marks}".rstrip()
            self._draw(draw, place, colour, label, font, line_width, figure_size)
        if crop is not None:
            corners = absolute_bbox(crop, *figure_size)
            draw.rectangle(corners, outline=GRAY_75, width=line_width)
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        return pixels.float() / 127.5 - 1.0

    def _draw(
        self,
        draw: ImageDraw.ImageDraw,
        place: Any,
        colour: tuple[int, int, int],
        label: str,
        font: Any,
        line_width: int,
        figure_size: tuple[int, int],
    ) -> None:
        x, y = place[0] * figure_size[0], place[1] * figure_size[1]
        radius = get_circle_size(figure_size)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour, width=0)
        draw.text((x, y), label, anchor="md", fill=BLACK, font=font)


class ObjectsBoundingBoxConditionalBuilder(ObjectsCenterPointsConditionalBuilder):
    """Three codes an object: what it is, its top left and its bottom right corner."""

    object_descriptor_length = 3

    def _describe(self, annotation: Annotation) -> tuple[int, ...]:
        corners = self.token_pair_from_bbox(annotation.bbox)
        return self.object_representation(annotation), *corners

    def _place(self, codes: Sequence[int]) -> BoundingBox:
        return self.bbox_from_token_pair(codes[0], codes[1])

    def _draw(
        self,
        draw: ImageDraw.ImageDraw,
        place: Any,
        colour: tuple[int, int, int],
        label: str,
        font: Any,
        line_width: int,
        figure_size: tuple[int, int],
    ) -> None:
        x0, y0, x1, y1 = absolute_bbox(place, *figure_size)
        # Codes that a model made up may name the corners the other way round.
        corners = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        draw.rectangle(corners, outline=colour, width=line_width)
        at = (x0 + line_width, y0 + line_width)
        draw.text(at, label, anchor="la", fill=BLACK, font=font)


def additional_parameters_string(annotation: Annotation, short: bool = True) -> str:
    """The marks of an object in brackets, "(g,o)" or "(group,occluded)"; "" without any."""
    words = [name.split("_")[1] for name in MARKS if getattr(annotation, name)]
    return f"({','.join(word[:1] if short else word for word in words)})" if words else ""


def get_plot_font_size(font_size: int | None, figure_size: tuple[int, int]) -> int:
    return font_size if font_size is not None else _by_size(figure_size, (10, 12, 15))


def get_circle_size(figure_size: tuple[int, int]) -> int:
    return _by_size(figure_size, (2, 3, 4))


def _by_size(figure_size: tuple[int, int], choices: tuple[int, int, int]) -> int:
    """One of three values, for pictures below 256, below 512, and from 512 pixels on."""
    return choices[(max(figure_size) >= 256) + (max(figure_size) >= 512)]
