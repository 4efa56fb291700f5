"""The entries of a COCO file, whatever they are of: each in its form, or an error that shows it."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

Fits = Callable[[Mapping[str, Any]], bool]

INSTANCES = ("categories", "images", "annotations")  # what a file of things in boxes has
# How entries look, for errors
CATEGORY = '{"id": 1, "name": "person"}'
PICTURE = '{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}'
THING = '{"image_id": 1, "category_id": 1, "bbox": [x, y, width, height]}, in pixels'


def entries_of(
    listed: Any,  # what the file has under `key`
    key: str,
    what: str | Path,  # the file's name
    form: str,  # of an entry, for the error
    fits: Fits,
) -> Sequence[Mapping[str, Any]]:
    """The list as it is; ValueError if it is none, or an entry has another form."""
    if not isinstance(listed, list | tuple):
        raise ValueError(f"{what}: {key} is {listed!r:.40}; give a list of {form}")
    for entry in listed:
        if not isinstance(entry, Mapping) or not fits(entry):
            raise ValueError(f"{what}: {entry!r:.80} is none of {key}; give {form}")
    return listed


def is_category(entry: Mapping[str, Any]) -> bool:
    return is_id(entry.get("id")) and isinstance(entry.get("name"), str)


def is_bbox(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 4 and all(map(is_number, value))


def is_id(value: Any) -> bool:
    return isinstance(value, str | Real)


def is_number(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def has_sides(picture: Mapping[str, Any]) -> bool:
    """Whether its width and height are numbers above 0."""
    sides = [picture.get(side, 0) for side in ("width", "height")]
    return all(is_number(side) and side > 0 for side in sides)


def check_instances(
    entries: Mapping[str, Any],
    what: str | Path,  # the file's name
    *,
    category: Fits = is_category,
    picture: Fits = lambda entry: True,
    thing: Fits = lambda entry: True,
) -> None:
    """ValueError where something in a file of instances, which has `INSTANCES`, does not fit."""
    forms = ((CATEGORY, category), (PICTURE, picture), (THING, thing))
    for key, (form, fits) in zip(INSTANCES, forms, strict=True):
        entries_of(entries[key], key, what, form, fits)
