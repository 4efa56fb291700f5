"""The published set of Open Images scenes. The files are described in `formats/open_images.py`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taming.data.annotated_objects_dataset import AnnotatedObjectsDataset
from taming.data.formats import open_images as layout
from taming.data.formats.open_images import load_annotations, load_categories
from taming.data.roots import first_of

__all__ = [
    "OPEN_IMAGES_STRUCTURE",
    "AnnotatedObjectsOpenImages",
    "load_annotations",
    "load_categories",
]

OPEN_IMAGES_STRUCTURE = {
    split: {
        "top_level": "",
        "class_descriptions": layout.CLASSES,
        "annotations": names[0],
        "files": split,
    }
    for split, names in layout.FILES.items()
}


class AnnotatedObjectsOpenImages(AnnotatedObjectsDataset):
    """use_additional_parameters: occluded, depicted and inside count as categories of their own."""

    def __init__(self, use_additional_parameters: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.use_additional_parameters = use_additional_parameters
        self.categories = load_categories(self.paths["class_descriptions"])
        self.filter_categories()
        self.setup_category_id_and_number()
        self.use(
            load_annotations(
                self.paths["annotations"],
                self.min_object_area,
                self.category_mapping,
                self.category_number,
            )
        )

    def get_path_structure(self) -> Mapping[str, str]:
        if self.split not in OPEN_IMAGES_STRUCTURE:
            raise ValueError(
                f"Open Images has no split '{self.split}'; use train, validation or test"
            )
        names = layout.FILES[self.split]
        found = first_of([self.data_path / name for name in names])
        annotations = {} if found is None else {"annotations": found.name}
        return {**OPEN_IMAGES_STRUCTURE[self.split], **annotations}

    def get_image_path(self, image_id: str) -> Path:
        return layout.image_path(self.paths["files"], image_id)

    def get_image_description(self, image_id: str) -> dict[str, Any]:
        path = self.get_image_path(image_id)
        return {"file_path": str(path), "file_name": path.name}
