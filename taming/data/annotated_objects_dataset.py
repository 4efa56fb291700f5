"""What the published sets of scenes share: a picture, its objects, and their condition codes.

A sample holds the `keys` asked for: `image` float32 (H, W, 3) in [-1, 1], `objects_bbox` or
`objects_center_points` int64 (N,), `annotations`, `crop_bbox`, `flipped` and what the set says of
the picture. The objects come in a random order, drawn like the crop from (seed, epoch, index).
"""

import importlib
import os
import random
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taming.config import own_prefixes
from taming.data.base import PublishedSet
from taming.data.object_codes import (
    ObjectsBoundingBoxConditionalBuilder,
    ObjectsCenterPointsConditionalBuilder,
)
from taming.data.object_crops import (
    CenterCropReturnCoordinates,
    Random2dCropReturnCoordinates,
    RandomCrop1dReturnCoordinates,
    RandomHorizontalFlipReturn,
    convert_pil_to_tensor,
    resize,
)
from taming.data.objects import Annotation, BoundingBox, Category, CropMethodType, SplitType
from taming.data.pictures import stored_pixels
from taming.data.roots import existing

SUITCASE = "/m/01s55n"  # came to the list of Open Images last; models count on it


class AnnotatedObjectsDataset(PublishedSet):
    """A subclass reads its files into `categories` and `annotations`.

    data_path: the folder of the set.
    min_object_area: smaller boxes, as parts of the picture, are left out.
    min_objects_per_image, max_objects_per_image: pictures with fewer or more are left out.
    crop_method: "none" squeezes into the square; "center", "random-1d" and "random-2d" crop.
    no_tokens: size of the alphabet of condition codes.
    category_allow_list_target: dotted name of a list of (name, count), the categories to use.
    category_mapping_target: dotted name of a dict, categories that count as another.
    no_object_classes: number of categories that condition codes reckon with; None: those there are.
    """

    def __init__(
        self,
        data_path: str | os.PathLike[str],
        split: SplitType,
        keys: Sequence[str],
        target_image_size: int,
        min_object_area: float,
        min_objects_per_image: int,
        max_objects_per_image: int,
        crop_method: CropMethodType,
        random_flip: bool,
        no_tokens: int,
        use_group_parameter: bool,
        encode_crop: bool,
        category_allow_list_target: str = "",
        category_mapping_target: str = "",
        no_object_classes: int | None = None,
        seed: int = 0,
    ) -> None:
        self.data_path, self.split, self.keys = Path(data_path), split, list(keys)
        self.target_image_size, self.seed = target_image_size, seed
        self.min_object_area = min_object_area
        self.min_objects_per_image = min_objects_per_image
        self.max_objects_per_image = max_objects_per_image
        self.crop_method, self.random_flip = crop_method, random_flip
        self.no_tokens = no_tokens
        self.use_group_parameter = use_group_parameter
        self.encode_crop = encode_crop
        self.no_object_classes = no_object_classes
        self.use_additional_parameters = False
        self.image_descriptions: dict[str, Any] = {}
        self.categories: dict[str, Category] = {}
        self.category_ids: list[str] = []
        self.category_number: dict[str, int] = {}
        self.annotations: dict[str, list[Annotation]] = {}
        self.image_ids: list[str] = []
        self._conditional_builders: dict[str, Any] | None = None
        self.paths = self.build_paths(self.data_path)
        self.category_allow_list: set[str] | None = None
        if category_allow_list_target:
            allowed = load_object_from_string(category_allow_list_target)
            self.category_allow_list = {name for name, _ in allowed}
        self.category_mapping: dict[str, str] = {}
        if category_mapping_target:
            self.category_mapping = load_object_from_string(category_mapping_target)
        self.transform_functions = self.setup_transform(target_image_size, crop_method, random_flip)

    @abstractmethod
    def get_path_structure(self) -> Mapping[str, str]:
        """{what: path inside the set's folder}; all must exist."""

    def build_paths(self, top_level: str | os.PathLike[str]) -> dict[str, Path]:
        parts = self.get_path_structure().items()
        what = f"a part of {type(self).__name__}"
        return {name: existing(Path(top_level, part), what) for name, part in parts}

    # --- pictures ------------------------------------------------------------------------------

    @staticmethod
    def load_image_from_disk(path: str | os.PathLike[str]) -> Image.Image:
        return Image.fromarray(stored_pixels(path))

    @staticmethod
    def setup_transform(
        target_image_size: int, crop_method: CropMethodType | None, random_flip: bool
    ) -> list[Any]:
        """Steps on a picture (C, H, W): numbers resize to it, objects crop and flip."""
        steps: dict[Any, list[Any]] = {
            None: [],
            "none": [(target_image_size, target_image_size)],
            "center": [target_image_size, CenterCropReturnCoordinates(target_image_size)],
            "random-1d": [target_image_size, RandomCrop1dReturnCoordinates(target_image_size)],
            "random-2d": [Random2dCropReturnCoordinates(target_image_size), target_image_size],
        }
        if crop_method not in steps:
            raise ValueError(
                f"crop_method is {crop_method!r}; use none, center, random-1d or random-2d"
            )
        return steps[crop_method] + [RandomHorizontalFlipReturn()] * random_flip

    def image_transform(
        self, x: Tensor, rng: np.random.Generator | None = None
    ) -> tuple[BoundingBox | None, bool | None, Tensor]:
        """uint8 (C, H, W) -> the box kept, whether mirrored, float32 (C, h, w) in [-1, 1]."""
        crop_bbox, flipped = None, None
        for step in self.transform_functions:
            if isinstance(step, int | tuple):
                x = resize(x, step)
            elif isinstance(step, RandomHorizontalFlipReturn):
                flipped, x = step(x, rng)
            else:
                crop_bbox, x = step(x, rng)
        return crop_bbox, flipped, x.to(torch.float32) / 127.5 - 1.0

    # --- categories and objects ----------------------------------------------------------------

    @property
    def no_classes(self) -> int:
        return self.no_object_classes or len(self.categories)

    @property
    def conditional_builders(self) -> dict[str, Any]:
        """The makers of condition codes by their key; the number of categories must be known."""
        if self._conditional_builders is None:
            arguments = (
                self.no_classes, self.max_objects_per_image, self.no_tokens, self.encode_crop,
                self.use_group_parameter, self.use_additional_parameters,
            )  # fmt: skip
            self._conditional_builders = {
                "objects_center_points": ObjectsCenterPointsConditionalBuilder(*arguments),
                "objects_bbox": ObjectsBoundingBoxConditionalBuilder(*arguments),
            }
        return self._conditional_builders

    def filter_categories(self) -> None:
        if self.category_allow_list:
            allowed = self.category_allow_list
            self.categories = {i: c for i, c in self.categories.items() if c.name in allowed}
        self.categories = {
            i: c for i, c in self.categories.items() if c.id not in self.category_mapping
        }

    def setup_category_id_and_number(self) -> None:
        self.category_ids = sorted(self.categories, key=lambda index: (index == SUITCASE, index))
        self.category_number = {index: number for number, index in enumerate(self.category_ids)}

    @staticmethod
    def filter_object_number(
        all_annotations: Mapping[str, list[Annotation]],
        min_object_area: float,
        min_objects_per_image: int,
        max_objects_per_image: int,
    ) -> dict[str, list[Annotation]]:
        """Pictures with a fitting number of objects that are large enough."""
        filtered = {}
        for image_id, annotations in all_annotations.items():
            large = [a for a in annotations if a.area is not None and a.area > min_object_area]
            if min_objects_per_image <= len(large) <= max_objects_per_image:
                filtered[image_id] = large
        return filtered

    def use(self, annotations: Mapping[str, list[Annotation]]) -> None:
        """Takes the pictures with a fitting number of objects."""
        self.annotations = self.filter_object_number(
            annotations,
            self.min_object_area,
            self.min_objects_per_image,
            self.max_objects_per_image,
        )
        self.image_ids = list(self.annotations)
        self.image_descriptions = {
            i: d for i, d in self.image_descriptions.items() if i in self.annotations
        }

    # --- samples -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.image_ids)

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        rng = self.rng(index, epoch if self.split == "train" else 0)
        image_id = self.get_image_id(index)
        sample = dict(self.get_image_description(image_id))
        sample["annotations"] = self.get_annotation(image_id)
        crop_bbox, flipped = None, None
        if "image" in self.keys:
            sample["image_path"] = str(self.get_image_path(image_id))
            image = convert_pil_to_tensor(self.load_image_from_disk(sample["image_path"]))
            crop_bbox, flipped, image = self.image_transform(image, rng)
            sample |= {"crop_bbox": crop_bbox, "flipped": flipped, "image": image.permute(1, 2, 0)}
        order = random.Random(int(rng.integers(2**62)))
        for name, builder in self.conditional_builders.items():
            if name in self.keys:
                sample[name] = builder.build(sample["annotations"], crop_bbox, flipped, order)
        return {key: sample[key] for key in self.keys} if self.keys else sample

    def get_image_id(self, no: int) -> str:
        return self.image_ids[no]

    def get_annotation(self, image_id: str) -> list[Annotation]:
        return self.annotations[image_id]

    def get_textual_label_for_category_id(self, category_id: str) -> str:
        return self.categories[category_id].name

    def get_textual_label_for_category_no(self, category_no: int) -> str:
        return self.categories[self.get_category_id(category_no)].name

    def get_category_number(self, category_id: str) -> int:
        return self.category_number[category_id]

    def get_category_id(self, category_no: int) -> str:
        return self.category_ids[category_no]

    @abstractmethod
    def get_image_description(self, image_id: str) -> Mapping[str, Any]:
        """What the set's files say of a picture."""

    @abstractmethod
    def get_image_path(self, image_id: str) -> Path:
        """Where a picture lies."""


def load_object_from_string(object_string: str) -> Any:
    """A list or dict by its dotted name, from the packages that a configuration may name."""
    module, _, name = object_string.rpartition(".")
    prefixes = ("taming.", *own_prefixes())
    if not object_string.startswith(prefixes):
        raise ValueError(f"'{object_string}' is outside {', '.join(prefixes)}")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, list | dict):
        raise ValueError(f"'{object_string}' is no list or dict of categories")
    return found
