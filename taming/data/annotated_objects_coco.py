"""The published set of COCO scenes: boxes of things and of stuff.

coco/annotations/{instances,stuff}_{train,val}2017.json    coco/train2017/  coco/val2017/
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taming.data.annotated_objects_dataset import AnnotatedObjectsDataset
from taming.data.formats.coco import (
    coco_json,
    load_annotations,
    load_categories,
    load_image_descriptions,
)

__all__ = [
    "COCO_PATH_STRUCTURE",
    "AnnotatedObjectsCoco",
    "load_annotations",
    "load_categories",
    "load_image_descriptions",
]

COCO_PATH_STRUCTURE = {
    split: {
        "top_level": "",
        "instances_annotations": f"annotations/instances_{year}.json",
        "stuff_annotations": f"annotations/stuff_{year}.json",
        "files": year,
    }
    for split, year in (("train", "train2017"), ("validation", "val2017"))
}


class AnnotatedObjectsCoco(AnnotatedObjectsDataset):
    """use_things, use_stuff: which boxes; the rest as in `AnnotatedObjectsDataset`."""

    def __init__(self, use_things: bool = True, use_stuff: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_things, self.use_stuff = use_things, use_stuff
        keys = ("images", "annotations", "categories")
        things = coco_json(self.paths["instances_annotations"], *keys)
        used = [things] * use_things
        if use_stuff:
            used.append(coco_json(self.paths["stuff_annotations"], *keys))
        self.categories = load_categories(c for part in used for c in part["categories"])
        self.filter_categories()
        self.setup_category_id_and_number()
        self.image_descriptions = load_image_descriptions(things["images"])
        boxes = [part["annotations"] for part in used]
        self.use(
            load_annotations(boxes, self.image_descriptions, self.get_category_number, self.split)
        )

    def get_path_structure(self) -> Mapping[str, str]:
        if self.split not in COCO_PATH_STRUCTURE:
            raise ValueError(f"COCO has no split '{self.split}'; use train or validation")
        return COCO_PATH_STRUCTURE[self.split]

    def get_image_path(self, image_id: str) -> Path:
        return self.paths["files"] / self.image_descriptions[str(image_id)].file_name

    def get_image_description(self, image_id: str) -> dict[str, Any]:
        return self.image_descriptions[image_id]._asdict()
