"""COCO 2017 and COCO-Stuff: captions, things in boxes, people's joints, label maps.

    coco/train2017/<id>.jpg  coco/val2017/<id>.jpg
    coco/annotations/{captions,instances,person_keypoints,stuff}_{train,val}2017.json
    stuffthingmaps/{train,val}2017/<id>.png     in coco/, or beside it as cocostuffthings/

Any of the annotations may be missing. A label map has ids 0..181, one less than COCO's categories,
and 255 where nothing is labelled. Sources: Lin et al. 2014; Caesar et al. 2018.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from taming.data.annotations import read_json
from taming.data.coco_entries import (
    INSTANCES,
    check_instances,
    has_sides,
    is_bbox,
    is_category,
)
from taming.data.formats.names import COCO_STUFF
from taming.data.formats.records import Record, Records, joined, no_pictures
from taming.data.keypoints import People
from taming.data.matching import bare
from taming.data.objects import Annotation, Category, ImageDescription
from taming.data.roots import first_of

FOLDERS = {"train": "train2017", "validation": "val2017"}
ANNOTATIONS = "annotations"
ORIGIN = "get the pictures and annotations of 2017 from cocodataset.org"


class Captions(NamedTuple):
    """A captions file: both in its order, by the id of the picture."""

    files: dict[int, str]
    captions: dict[int, list[str]]


def read_captions(path: str | os.PathLike[str]) -> Captions:
    entries = coco_json(Path(path), "images", "annotations")
    captions: dict[int, list[str]] = {image["id"]: [] for image in entries["images"]}
    for entry in entries["annotations"]:
        if entry["image_id"] not in captions:
            raise ValueError(f"{path}: no picture has id {entry['image_id']!r}")
        captions[entry["image_id"]].append(entry["caption"])
    return Captions({image["id"]: image["file_name"] for image in entries["images"]}, captions)


def coco_json(path: Path, *keys: str) -> Mapping[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path} does not exist; {ORIGIN}")
    entries = read_json(path)
    if not isinstance(entries, Mapping) or not set(keys) <= set(entries):
        raise ValueError(f"{path}: expected a COCO file with {', '.join(keys)}")
    return entries


# --- things in boxes -----------------------------------------------------------------------------


def load_image_descriptions(
    description_json: Iterable[Mapping[str, Any]], what: str = "COCO"
) -> dict[str, ImageDescription]:
    """What a file says of its pictures, by their ids; what: the file's name, for errors."""
    images = list(description_json)
    for image in images:
        lacking = [key for key in ("file_name", "width", "height") if not image.get(key)]
        lacking += ["id"] * ("id" not in image)
        if lacking:
            raise ValueError(f"{what}: picture {image!r:.80} has no {' and no '.join(lacking)}")
        if not has_sides(image):
            raise ValueError(f"{what}: picture {image!r:.80} has sides that are no numbers above 0")
    return {
        str(image["id"]): ImageDescription(
            id=image["id"],
            license=image.get("license"),
            file_name=image["file_name"],
            coco_url=image.get("coco_url"),
            original_size=(image["width"], image["height"]),
            date_captured=image.get("date_captured"),
            flickr_url=image.get("flickr_url"),
        )
        for image in images
    }


def load_categories(
    category_json: Iterable[Mapping[str, Any]], without: str | None = "other"
) -> dict[str, Category]:
    """Categories by their ids; COCO-Stuff's "other", which stands for all things, is none."""
    return {
        str(entry["id"]): Category(str(entry["id"]), entry.get("supercategory"), entry["name"])
        for entry in category_json
        if entry["name"] != without
    }


def load_annotations(
    annotations_json: Iterable[Iterable[Mapping[str, Any]]],
    image_descriptions: Mapping[str, ImageDescription],
    category_no_for_id: Callable[[str], int],  # KeyError: a category that is not wanted
    split: str = "train",
) -> dict[str, list[Annotation]]:
    """Boxes of several files by the picture's id, as parts of its width and height.

    split: for errors, as is the file's name in its place.
    """
    annotations: dict[str, list[Annotation]] = {}
    for entry in chain(*annotations_json):
        image_id, category_id = str(entry.get("image_id")), str(entry.get("category_id"))
        if image_id not in image_descriptions:
            raise ValueError(
                f"COCO {split}: annotation {entry.get('id')} is of picture {image_id}, not listed"
            )
        if "category_id" not in entry or not is_bbox(entry.get("bbox")):
            raise ValueError(
                f"COCO {split}: annotation {entry.get('id')} of picture {image_id} needs a "
                "category_id and a bbox of 4 numbers"
            )
        try:
            number = category_no_for_id(category_id)
        except KeyError:
            continue
        width, height = image_descriptions[image_id].original_size
        x, y, w, h = entry["bbox"]
        box = (x / width, y / height, w / width, h / height)
        annotations.setdefault(image_id, []).append(
            Annotation(
                id=entry.get("id"),
                area=box[2] * box[3],
                is_group_of=entry.get("iscrowd", 0),  # 0 or 1, see object_codes
                image_id=entry["image_id"],
                bbox=box,
                category_id=category_id,
                category_no=number,
            )
        )
    return annotations


# --- everything of a picture ---------------------------------------------------------------------


def read(root: Path, split: str) -> Records:
    """Records with whatever of labels, captions, joints and boxes of things is there."""
    if split == "all":
        return joined([read(root, part) for part in FOLDERS if (root / FOLDERS[part]).is_dir()])
    if split not in FOLDERS or not (root / FOLDERS[split]).is_dir():
        raise no_pictures(root, split, root / FOLDERS.get(split, split), ORIGIN)
    year = FOLDERS[split]
    found = {kind: _file(root, kind, year) for kind in ("captions", "instances", "stuff")}
    given = [path for path in found.values() if path is not None]
    people = _file(root, "person_keypoints", year)
    if not given and people is None:
        raise ValueError(f"{root / ANNOTATIONS} holds no {{captions,...}}_{year}.json; {ORIGIN}")
    index = coco_json(given[0] if given else _sure(people), "images")["images"]
    records = {image["id"]: _record(image, root / year) for image in index}
    if found["captions"] is not None:
        for number, captions in read_captions(found["captions"]).captions.items():
            records[number].captions = tuple(captions)
    if people is not None:
        joints = People(people)
        for record in records.values():
            record.keypoints = joints.people.get(record.name)
    table: dict[int, str] = {}
    for path in (found["instances"], found["stuff"]):
        if path is not None:
            boxes = read_boxes(path)
            table |= boxes.table
            for record in records.values():
                both = record.boxes, boxes.rows.get(record.name)
                more = [rows for rows in both if rows is not None]
                record.boxes = np.concatenate(more) if more else None
    maps = label_folder(root, year)
    if maps is not None:
        for record in records.values():
            record.labels = str(maps / f"{record.name}.png")
    return Records(
        list(records.values()),
        label_table=COCO_STUFF if maps is not None else {},
        box_table=table,
    )


def label_folder(root: Path, year: str) -> Path | None:
    """Where the maps of things and stuff together are."""
    inside = [root / "stuffthingmaps", root / "cocostuffthings", root.parent / "cocostuffthings"]
    return first_of([folder / year for folder in inside])


def _file(root: Path, kind: str, year: str) -> Path | None:
    return first_of([root / ANNOTATIONS / f"{kind}_{year}.json"])


def _sure(path: Path | None) -> Path:
    assert path is not None, "one of the files exists"
    return path


def _record(image: Mapping[str, Any], folder: Path) -> Record:
    name = image["file_name"]
    return Record(bare(name), str(folder / name))


class BoxFile(NamedTuple):
    """Boxes of an instances file by picture name, without its suffix."""

    path: Path
    rows: dict[str, NDArray[np.float32]]  # as in `Record`
    sizes: dict[str, tuple[int, int]]  # height and width of every picture, as the file states them
    table: dict[int, str]  # {category: name}


def read_boxes(path: Path) -> BoxFile:
    """The things of a COCO file of instances."""
    return boxes_of(coco_json(path, *INSTANCES), path)


def boxes_of(entries: Mapping[str, Any], path: Path) -> BoxFile:
    """The same of what such a file says; path: its name, for errors."""
    without = "other" if path.name.startswith("stuff_") else None
    check_instances(entries, path, category=_is_numbered)
    categories = load_categories(entries["categories"], without)
    pictures = load_image_descriptions(entries["images"], str(path))
    own_ids = {key: int(key) for key in categories}
    boxes = [entries["annotations"]]
    found = load_annotations(boxes, pictures, own_ids.__getitem__, str(path))
    names = {image_id: bare(picture.file_name) for image_id, picture in pictures.items()}
    sizes = {image_id: picture.original_size for image_id, picture in pictures.items()}
    return BoxFile(
        path,
        {names[image_id]: rows_of(annotations) for image_id, annotations in found.items()},
        {names[image_id]: (h, w) for image_id, (w, h) in sizes.items()},
        {own_ids[key]: category.name for key, category in categories.items()},
    )


def _is_numbered(entry: Mapping[str, Any]) -> bool:
    return is_category(entry) and str(entry["id"]).isdigit()


def rows_of(annotations: Iterable[Annotation]) -> NDArray[np.float32]:
    """(N, 5): corners x0 y0 x1 y1 in 0..1, category."""
    rows = [(x, y, x + w, y + h, a.category_no) for a in annotations for x, y, w, h in [a.bbox]]
    return np.asarray(rows, dtype=np.float32).reshape(-1, 5)
