"""Open Images: boxes around the things of 600 classes.

    open_images/
      class-descriptions-boxable.csv      "/m/011k07,Tortoise"
      oidv6-train-annotations-bbox.csv    ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,...
      validation-annotations-bbox.csv     test-annotations-bbox.csv
      train/<id>.jpg  validation/<id>.jpg  test/<id>.jpg

Source: Kuznetsova et al. 2018, version 6.
"""

import csv
import logging
import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taming.data.formats.records import Record, Records, joined, no_pictures
from taming.data.objects import Annotation, Category
from taming.data.roots import existing, first_of

logger = logging.getLogger(__name__)

FILES = {
    "train": ("oidv6-train-annotations-bbox.csv", "train-annotations-bbox.csv"),
    "validation": ("validation-annotations-bbox.csv",),
    "test": ("test-annotations-bbox.csv",),
}
CLASSES = "class-descriptions-boxable.csv"
ORIGIN = "get boxes and pictures from storage.googleapis.com/openimages/web (version 6)"
MARKS = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")


def load_categories(csv_path: Path) -> dict[str, Category]:
    """Classes by their ids, such as "/m/01g317"."""
    with open(existing(csv_path, ORIGIN), newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.reader(lines) if len(row) >= 2]
    return {row[0]: Category(row[0], None, row[1]) for row in rows if row[0] != "LabelName"}


def load_annotations(
    descriptor_path: Path,
    min_object_area: float,
    category_mapping: Mapping[str, str],  # classes that count as another
    category_no_for_id: Mapping[str, int],  # others are left out
) -> dict[str, list[Annotation]]:
    """Boxes by the picture's id, as parts of its width and height."""
    annotations: dict[str, list[Annotation]] = {}
    for number, row in enumerate(_box_lines(descriptor_path)):
        x, y = float(row["XMin"]), float(row["YMin"])
        width, height = float(row["XMax"]) - x, float(row["YMax"]) - y
        category = category_mapping.get(row["LabelName"], row["LabelName"])
        area = width * height
        if area < min_object_area or category not in category_no_for_id:
            continue
        occluded, truncated, group, depiction, inside = (bool(int(row[m])) for m in MARKS)
        annotations.setdefault(row["ImageID"], []).append(
            Annotation(
                id=number,
                image_id=row["ImageID"],
                source=row["Source"],
                category_id=category,
                category_no=category_no_for_id[category],
                confidence=float(row["Confidence"]),
                bbox=(x, y, width, height),
                area=area,
                is_occluded=occluded,
                is_truncated=truncated,
                is_group_of=group,
                is_depiction=depiction,
                is_inside=inside,
            )
        )
    return annotations


def load_boxes(path: Path, numbers: Mapping[str, int]) -> dict[str, NDArray[np.float32]]:
    """Boxes (N, 5) by the picture's id: corners x0 y0 x1 y1 in 0..1, category.

    Nothing else is kept of them: the training split has 14.6 million.
    """
    boxes: dict[str, array[float]] = {}
    for row in _box_lines(path):
        if (number := numbers.get(row["LabelName"])) is not None:
            corners = (float(row[key]) for key in ("XMin", "YMin", "XMax", "YMax"))
            boxes.setdefault(row["ImageID"], array("f")).extend((*corners, number))
    return {key: np.frombuffer(each, np.float32).reshape(-1, 5) for key, each in boxes.items()}


def _box_lines(path: Path) -> Iterator[dict[str, str]]:
    with open(existing(path, ORIGIN), newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        columns = {"ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"}
        if not (columns | set(MARKS)) <= set(rows.fieldnames or ()):
            raise ValueError(f"{path} begins with {rows.fieldnames}; {ORIGIN}")
        yield from rows


def image_path(folder: Path, image_id: str) -> Path:
    return folder / f"{image_id:0>16}.jpg"


def read(root: Path, split: str) -> Records:
    """Records with boxes, of the pictures that have any and are there."""
    if split == "all":
        return joined([read(root, part) for part in FILES if (root / part).is_dir()])
    folder = root / split
    file = first_of([root / name for name in FILES.get(split, ())])
    if file is None or not folder.is_dir():
        lacking = folder if file is not None else root / FILES.get(split, (split,))[0]
        raise no_pictures(root, split, lacking, ORIGIN)
    categories = load_categories(root / CLASSES)
    numbers = {category: number for number, category in enumerate(categories)}
    boxes, present = load_boxes(file, numbers), set(os.listdir(folder))
    paths = {image_id: image_path(folder, image_id) for image_id in boxes}
    entries = [
        Record(image_id, str(path), boxes=boxes[image_id])
        for image_id, path in paths.items()
        if path.name in present
    ]
    if len(entries) < len(paths):
        logger.warning("%s: %d of %d pictures with boxes are not in %s", file,
                       len(paths) - len(entries), len(paths), folder)  # fmt: skip
    table = {numbers[key]: category.name for key, category in categories.items()}
    return Records(entries, box_table=table)
