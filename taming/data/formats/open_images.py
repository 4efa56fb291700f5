"""Open Images: boxes around the things of 600 classes.

    open_images/
      class-descriptions-boxable.csv      "/m/011k07,Tortoise"
      oidv6-train-annotations-bbox.csv    ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,...
      validation-annotations-bbox.csv     test-annotations-bbox.csv
      train/<id>.jpg  validation/<id>.jpg  test/<id>.jpg

Source: Kuznetsova et al. 2018, version 6.
"""

import csv
from collections.abc import Mapping
from pathlib import Path

from taming.data.formats.coco import rows_of
from taming.data.formats.records import Record, Records, joined, no_pictures
from taming.data.objects import Annotation, Category
from taming.data.roots import existing, first_of

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
    with open(existing(descriptor_path, ORIGIN), newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines)
        columns = {"ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax"}
        if not (columns | set(MARKS)) <= set(rows.fieldnames or ()):
            raise ValueError(f"{descriptor_path} begins with {rows.fieldnames}; {ORIGIN}")
        for number, row in enumerate(rows):
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


def image_path(folder: Path, image_id: str) -> Path:
    return folder / f"{image_id:0>16}.jpg"


def read(root: Path, split: str) -> Records:
    """Records with boxes, of the pictures that have any."""
    if split == "all":
        return joined([read(root, part) for part in FILES if (root / part).is_dir()])
    folder = root / split
    file = first_of([root / name for name in FILES.get(split, ())])
    if file is None or not folder.is_dir():
        lacking = folder if file is not None else root / FILES.get(split, (split,))[0]
        raise no_pictures(root, split, lacking, ORIGIN)
    categories = load_categories(root / CLASSES)
    numbers = {category: number for number, category in enumerate(categories)}
    entries = []
    for image_id, annotations in load_annotations(file, 0.0, {}, numbers).items():
        path = image_path(folder, image_id)
        entries.append(Record(image_id, str(path), boxes=rows_of(annotations)))
    table = {numbers[key]: category.name for key, category in categories.items()}
    return Records(entries, box_table=table)
