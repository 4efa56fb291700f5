"""Things in a picture: what is known of each, and the arithmetic of their boxes.

A box is (left, top, width, height), as parts of the picture's width and height, 0..1. The names
are those of the published `taming.data.helper_types`. Knows nothing of files.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from PIL.Image import Image as PILImage
from torch import Tensor

Image = Tensor | PILImage
BoundingBox = tuple[float, float, float, float]  # x0, y0, w, h
CropMethodType = Literal["none", "center", "random-1d", "random-2d"]
SplitType = Literal["train", "validation", "test"]

FULL_CROP: BoundingBox = (0.0, 0.0, 1.0, 1.0)

Item = TypeVar("Item")


class ImageDescription(NamedTuple):
    id: int
    file_name: str
    original_size: tuple[int, int]  # width, height
    url: str | None = None
    license: int | None = None
    coco_url: str | None = None
    date_captured: str | None = None
    flickr_url: str | None = None
    flickr_id: str | None = None
    coco_id: str | None = None


class Category(NamedTuple):
    id: str
    super_category: str | None
    name: str


class Annotation(NamedTuple):
    area: float | None  # of the box, as a part of the picture
    image_id: str | None
    bbox: BoundingBox
    category_no: int
    category_id: str | None
    id: int | None = None
    source: str | None = None
    confidence: float | None = None
    is_group_of: bool | None = None
    is_truncated: bool | None = None
    is_occluded: bool | None = None
    is_depiction: bool | None = None
    is_inside: bool | None = None
    segmentation: dict[str, Any] | None = None


def intersection_area(rectangle1: BoundingBox, rectangle2: BoundingBox) -> float:
    """Area that two boxes share."""
    (x0, y0, w0, h0), (x1, y1, w1, h1) = rectangle1, rectangle2
    wide = max(0.0, min(x0 + w0, x1 + w1) - max(x0, x1))
    high = max(0.0, min(y0 + h0, y1 + h1) - max(y0, y1))
    return wide * high


def horizontally_flip_bbox(bbox: BoundingBox) -> BoundingBox:
    return 1 - (bbox[0] + bbox[2]), bbox[1], bbox[2], bbox[3]


def absolute_bbox(relative_bbox: BoundingBox, width: int, height: int) -> tuple[int, int, int, int]:
    """Corners (x0, y0, x1, y1) in whole pixels."""
    x0, y0, w, h = relative_bbox
    return int(x0 * width), int(y0 * height), int((x0 + w) * width), int((y0 + h) * height)


def filter_annotations(
    annotations: Iterable[Annotation], crop_coordinates: BoundingBox
) -> list[Annotation]:
    """Those of which something lies in the crop."""
    return [a for a in annotations if intersection_area(a.bbox, crop_coordinates) > 0.0]


def rescale_annotations(
    annotations: Iterable[Annotation], crop_coordinates: BoundingBox, flip: bool
) -> list[Annotation]:
    """Boxes as parts of the crop, mirrored if asked for.

    As published, a box that begins left of or above the crop keeps its width and height, only
    limited by the far side: it is moved inside, not cut.
    """
    left, top, width, height = crop_coordinates

    def rescaled(bbox: BoundingBox) -> BoundingBox:
        x0 = max(min((bbox[0] - left) / width, 1.0), 0.0)
        y0 = max(min((bbox[1] - top) / height, 1.0), 0.0)
        w = min(bbox[2] / width, 1 - x0)
        h = min(bbox[3] / height, 1 - y0)
        return (1 - (x0 + w) if flip else x0), y0, w, h

    return [a._replace(bbox=rescaled(a.bbox)) for a in annotations]


def pad_list(list_: Sequence[Item], pad_element: Item, pad_to_length: int) -> list[Item]:
    return [*list_, *[pad_element] * (pad_to_length - len(list_))]
