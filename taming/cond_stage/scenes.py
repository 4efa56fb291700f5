"""What is where, as boxes in JSON -> condition tokens of scene models.

Two forms are read. COCO's own annotation files, several together where things and stuff stand apart
(`categories`, `images`, `annotations`, boxes in pixels); and one picture written by hand:

    {"categories": ["person", "tree", ...], "boxes": [{"category": "tree", "bbox": [x, y, w, h]}]}

with boxes as parts of the picture, 0..1. Categories are numbered as published models number them:
COCO's by their ids as words, sorted, without "other"; a list by its order. Knows no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from taming.cond_stage.base import Size
from taming.cond_stage.boxes import (
    ObjectsBoundingBoxConditionalBuilder,
    ObjectsCenterPointsConditionalBuilder,
)
from taming.cond_stage.sources import describe, is_path
from taming.config import nearest
from taming.data.annotations import read_json
from taming.data.coco_entries import (
    INSTANCES,
    check_instances,
    entries_of,
    has_sides,
    is_bbox,
    is_id,
)
from taming.data.formats.coco import (
    load_annotations,
    load_categories,
    load_image_descriptions,
)
from taming.data.objects import FULL_CROP, Annotation, BoundingBox

MAX_OBJECTS = 30  # of the published scene models, so that their condition has 92 tokens
BOX = '{"category": "tree", "bbox": [x, y, width, height]}, parts of the picture, 0..1'
BY_HAND = '{"categories": ["person", "tree"], "boxes": [{"category": ..., "bbox": [x, y, w, h]}]}'
MIN_AREA = 1e-5  # of the picture; smaller objects were left out in training


class Scene(NamedTuple):
    """The objects of one picture; boxes are parts of it."""

    name: str
    objects: list[Annotation]
    crop: BoundingBox  # what of the picture is painted


class Scenes(NamedTuple):
    """All pictures of some annotation files, and what their categories are called."""

    names: list[str]
    scenes: list[Scene]


def read_scenes(source: Any) -> Scenes:
    """From a path, several paths that belong together, or what `json.load` made of one."""
    if isinstance(source, Scenes):
        return source
    if isinstance(source, Mapping) or is_path(source):
        source = [source]
    files = [read_json(Path(each)) if is_path(each) else each for each in source]
    what = ", ".join(describe(each) for each in source)
    if len(files) == 1 and isinstance(files[0], Mapping) and "boxes" in files[0]:
        return _by_hand(files[0], what)
    for entries, each in zip(files, source, strict=True):
        _check_coco(entries, describe(each))
    return _coco(files, what)


def scene_tokens(scenes: Scenes, scene: Scene, key: str, no_tokens: int) -> Tensor:
    """The condition of one scene under a published key: int64 (P,)."""
    builder = scene_builder(key, len(scenes.names), no_tokens)
    return builder.build(scene.objects[:MAX_OBJECTS], scene.crop)


def draw_scene(scenes: Scenes, key: str, no_tokens: int, size: Size) -> Tensor:
    """The boxes of the one scene, in what is painted of it: float32 (3, H, W) in [-1, 1]."""
    scene = only_scene(scenes, "this list")
    builder = scene_builder(key, len(scenes.names), no_tokens, encode_crop=False)
    tokens = builder.build(scene.objects[:MAX_OBJECTS], scene.crop)
    return builder.plot(tokens, lambda number: scenes.names[number], (size[1], size[0]))


def scene_builder(
    key: str, categories: int, no_tokens: int, encode_crop: bool = True
) -> ObjectsCenterPointsConditionalBuilder:
    """The builder that a published key names; `no_tokens` is the size of the vocabulary.

    Marks of objects are not read here, so it does not matter which of them a model was told.
    """
    builders = {
        "objects_bbox": ObjectsBoundingBoxConditionalBuilder,
        "objects_center_points": ObjectsCenterPointsConditionalBuilder,
    }
    if key not in builders:
        raise ValueError(f"'{key}' names no boxes; {nearest(key, builders)}")
    return builders[key](categories, MAX_OBJECTS, no_tokens, encode_crop, True, True)


def _by_hand(entries: Mapping[str, Any], what: str) -> Scenes:
    names = entries.get("categories")
    if not isinstance(names, list | tuple) or not names or not all(map(_is_word, names)):
        raise ValueError(
            f"{what} has no categories; list the names, in the order of the model, as in {BY_HAND}"
        )
    boxes = entries_of(entries["boxes"], "boxes", what, BOX, _is_box)
    stem = Path(what).stem if what.endswith(".json") else "scene"
    return Scenes(
        list(names), [Scene(stem, [_drawn(each, names, what) for each in boxes], FULL_CROP)]
    )


def _drawn(entry: Mapping[str, Any], names: Sequence[str], what: str) -> Annotation:
    """A box by hand; its category is a name or a number."""
    category, (x, y, width, height) = entry["category"], entry["bbox"]
    if _is_word(category):
        if category not in names:
            raise ValueError(
                f"{what}: category '{category}' is unknown; {nearest(category, names)}"
            )
        category = names.index(category)
    if not 0 <= category < len(names):
        raise ValueError(f"{what}: category {category} is none of the {len(names)}")
    corners = (x, y, x + width, y + height)
    if not (width > 0 and height > 0 and all(-0.001 <= at <= 1.001 for at in corners)):
        raise ValueError(f"{what}: box {entry['bbox']} is not inside the picture; give {BOX}")
    left, top = max(x, 0.0), max(y, 0.0)
    return _annotation(category, (left, top, min(width, 1 - left), min(height, 1 - top)))


def _check_coco(entries: Any, what: str) -> None:
    missing = [key for key in INSTANCES if not isinstance(entries, Mapping) or key not in entries]
    if missing:
        raise ValueError(
            f"{what} has no {' and no '.join(missing)}; give COCO annotations, or {BY_HAND}"
        )
    check_instances(entries, what, picture=_is_picture, thing=_is_object)


def _coco(files: Sequence[Mapping[str, Any]], what: str) -> Scenes:
    known = load_categories(each for file in files for each in file["categories"])
    ids = sorted(known)
    numbers = {each: number for number, each in enumerate(ids)}
    images = load_image_descriptions((each for file in files for each in file["images"]), what)
    boxes = [file["annotations"] for file in files]
    found = load_annotations(boxes, images, numbers.__getitem__, what)
    scenes = []
    for key, image in images.items():
        boxed = [(each.category_no, each.bbox) for each in found.get(key, ())]
        objects = [_annotation(*each) for each in boxed if each[1][2] * each[1][3] > MIN_AREA]
        if objects:
            crop = _centre(*image.original_size)
            scenes.append(Scene(Path(image.file_name).stem, objects, crop))
    if not scenes:
        raise ValueError(f"{what} holds no picture with objects of a known category")
    return Scenes([known[each].name for each in ids], _told_apart(scenes))


def _told_apart(scenes: Sequence[Scene]) -> list[Scene]:
    """Pictures that share a name, as train/1.jpg and val/1.jpg, get their place in the list."""
    shared = Counter(scene.name for scene in scenes)
    return [
        scene if shared[scene.name] == 1 else scene._replace(name=f"{scene.name}-{place}")
        for place, scene in enumerate(scenes, start=1)
    ]


def _is_word(value: Any) -> bool:
    return isinstance(value, str)


def _is_box(entry: Mapping[str, Any]) -> bool:
    category = entry.get("category")
    return (_is_word(category) or isinstance(category, int)) and is_bbox(entry.get("bbox"))


def _is_picture(entry: Mapping[str, Any]) -> bool:
    return is_id(entry.get("id")) and _is_word(entry.get("file_name")) and has_sides(entry)


def _is_object(entry: Mapping[str, Any]) -> bool:
    ids = entry.get("image_id"), entry.get("category_id")
    return all(map(is_id, ids)) and is_bbox(entry.get("bbox"))


def _annotation(category: int, bbox: Sequence[float]) -> Annotation:
    x, y, w, h = (float(at) for at in bbox)
    return Annotation(w * h, None, (x, y, w, h), category, None)


def _centre(width: int, height: int) -> BoundingBox:
    """The square in the middle of a picture, which is what is painted of it."""
    side = min(width, height)
    wide, high = side / width, side / height
    return (1 - wide) / 2, (1 - high) / 2, wide, high


def only_scene(scenes: Scenes, what: str) -> Scene:
    """The one scene there is; ValueError if there are more."""
    if len(scenes.scenes) != 1:
        raise ValueError(
            f"{what} holds {len(scenes.scenes)} pictures; paint them with `taming scenes`, or give "
            "one of them"
        )
    return scenes.scenes[0]


def tokens_of(source: Any, key: str, no_tokens: int, count: int | None = None) -> Tensor:
    """What a user has, boxes or tokens, as the condition (P,) of a model."""
    if isinstance(source, Tensor):
        is_tokens = source.ndim == 1 and not source.is_floating_point()
        if not is_tokens or int(source.min()) < 0 or int(source.max()) >= no_tokens:
            raise ValueError(
                f"{describe(source)} is no list of tokens; give integers (P,) below {no_tokens}"
            )
        return source.to(torch.int64)
    scenes = read_scenes(source)
    return scene_tokens(scenes, only_scene(scenes, describe(source)), key, no_tokens)
