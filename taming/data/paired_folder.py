"""A folder of pictures with whatever annotations lie beside them.

    images/<name>.jpg        labels/<name>.png + label_names.json    depth/<name>.png + depth.json
    keypoints.json (COCO)    class_labels.json {names, images}       captions.json {name: [...]}
    split.json {train, validation, test}

Everything but `images/` may be missing, for the whole set or for single pictures. Labels and
classes are mapped by name into the vocabularies given, or into the set's own.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taming.data.annotations import (
    DepthTable,
    LabelReader,
    LabelTable,
    read_captions,
    read_class_labels,
    read_depth,
    read_json,
)
from taming.data.batch import ANNOTATIONS
from taming.data.image_list import ImageList, expanded, split_by_name
from taming.data.keypoints import People
from taming.data.pictures import find_pictures
from taming.data.vocabulary import merge_class_names, merge_label_names, normalised

logger = logging.getLogger(__name__)

MAP_SUFFIXES = (".png", ".npy", ".tif", ".tiff", ".bmp")


class PairedFolder(ImageList):
    """Pictures of `root/images` and their annotations.

    label_names, class_names: the vocabularies; None takes the set's own names.
    ignore: label names that count as unlabelled.
    annotations: which of labels, depth, keypoints, class_label, caption to read; None reads all.
    The other arguments are those of `ImageList`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        size: int | Sequence[int] | None = None,
        *,
        label_names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        annotations: Sequence[str] | None = None,
        **options: Any,
    ):
        wanted = set(ANNOTATIONS if annotations is None else annotations)
        if not wanted <= set(ANNOTATIONS):
            unknown = sorted(wanted - set(ANNOTATIONS))
            raise ValueError(f"annotations {unknown} are unknown; choose from {ANNOTATIONS}")
        super().__init__(root, split, size, **options)
        self.ignore = tuple(ignore)
        self.labels: LabelReader | None = None
        self.label_names: list[str] = []
        self.class_names: list[str] = []
        self.classes: dict[str, int] = {}
        self._label_table: LabelTable | None = None
        self._own_classes: dict[str, int] = {}
        if "labels" in wanted and (self.root / "labels").is_dir():
            self._label_table = LabelTable.read(self._table("label_names.json", "labels"))
            self.label_table = self._label_table.names
        self.depth = None
        if "depth" in wanted and (self.root / "depth").is_dir():
            self.depth = DepthTable.read(self._table("depth.json", "depth"))
        self.people = None
        if "keypoints" in wanted and (self.root / "keypoints.json").is_file():
            self.people = People(self.root / "keypoints.json")
        if "class_label" in wanted and (self.root / "class_labels.json").is_file():
            tables = read_class_labels(self.root / "class_labels.json")
            self.class_table, self._own_classes = tables
        self.captions: dict[str, list[str]] = {}
        if "caption" in wanted and (self.root / "captions.json").is_file():
            self.captions = read_captions(self.root / "captions.json")
        self.set_vocabulary(label_names, class_names)

    def set_vocabulary(
        self, label_names: Sequence[str] | None, class_names: Sequence[str] | None
    ) -> None:
        """Maps labels and classes into these vocabularies; None takes the set's own names."""
        if label_names is None:
            label_names = merge_label_names([self.label_table], self.ignore)
        if class_names is None:
            class_names = merge_class_names([self.class_table])
        self.label_names, self.class_names = list(label_names), list(class_names)
        if self._label_table is not None:
            self.labels = LabelReader(self._label_table, self.label_names, self.ignore)
            self._log_absent("label", self.labels.absent)
        position = {normalised(name): index for index, name in enumerate(self.class_names)}
        ids = {index: position.get(normalised(name)) for index, name in self.class_table.items()}
        self._log_absent("class", [n for i, n in self.class_table.items() if ids[i] is None])
        self.classes = {
            name: known for name, own in self._own_classes.items()
            if (known := ids[own]) is not None
        }  # fmt: skip

    def _log_absent(self, kind: str, names: Sequence[str]) -> None:
        if names:
            logger.warning(
                "set '%s': %d %s names are not in the vocabulary and count as unlabelled: %s",
                self.name, len(names), kind, ", ".join(names[:8]) + (", ..." * (len(names) > 8)),
            )  # fmt: skip

    def _table(self, file: str, folder: str) -> Path:
        if not (self.root / file).is_file():
            raise ValueError(f"{self.root / file} is missing; {folder}/ means nothing without it")
        return self.root / file

    def _find(self) -> dict[str, Path]:
        folder = self.root / "images"
        if not folder.is_dir():
            raise ValueError(f"{folder} does not exist; a set has its pictures in images/")
        paths: dict[str, Path] = {}
        for path in find_pictures(folder):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in paths:
                raise ValueError(f"{path} and {paths[name].name} share one name; rename one")
            paths[name] = path
        return paths

    def _split_names(self, names: list[str]) -> set[str]:
        file = self.root / "split.json"
        if not file.is_file():
            return super()._split_names(names)
        parts = read_json(file)
        chosen: set[str] = set()
        for part in self.split.split("+"):
            if part == "all":
                chosen |= set(names)
            elif part in parts:
                chosen |= set(parts[part])
            else:
                split_by_name([], part)  # complains about names that are no split at all
        missing = chosen - set(names)
        if missing:
            logger.warning("%s lists %d pictures that do not exist, such as '%s'", file,
                           len(missing), min(missing))  # fmt: skip
        return chosen & set(names)

    def _remedy(self) -> str:
        file = self.root / "split.json"
        if not file.is_file():
            return super()._remedy()
        sizes = {part: len(names) for part, names in read_json(file).items()}
        return f"{file} has {sizes}"

    def raw(self, index: int, at_least: tuple[int, int] | None = None) -> dict[str, Any]:
        # Maps and joints belong to the picture's full size.
        if self.labels is not None or self.depth is not None or self.people is not None:
            at_least = None
        return super().raw(index, at_least)

    def annotations(self, index: int, image: NDArray[np.uint8]) -> dict[str, Any]:
        name, (height, width) = self.names[index], image.shape[:2]
        found: dict[str, Any] = {}
        if self.labels is not None and (path := self._map("labels", name)) is not None:
            found["labels"] = self._fitting(self.labels(path), image, path)
        if self.depth is not None and (path := self._map("depth", name)) is not None:
            found["depth"] = self._fitting(read_depth(path, self.depth, name), image, path)
        if self.people is not None:
            people = self.people.of(name, height, width)
            if people is not None:
                found["keypoints"] = people
        if name in self.classes:
            found["class_label"] = torch.tensor(self.classes[name])
        if name in self.captions:
            found["captions"] = self.captions[name]
        return found

    def _map(self, folder: str, name: str) -> Path | None:
        for suffix in MAP_SUFFIXES:
            path = self.root / folder / (name + suffix)
            if path.is_file():
                return path
        return None

    def _fitting(self, array: NDArray, image: NDArray[np.uint8], path: Path) -> NDArray:
        if array.shape != image.shape[:2]:
            raise ValueError(
                f"{path} is {array.shape[0]}x{array.shape[1]} (height x width), its picture "
                f"{image.shape[0]}x{image.shape[1]}; make them equal"
            )
        return array


def open_set(path: str | os.PathLike[str], split: str = "train", **options: Any) -> ImageList:
    """A `PairedFolder` where there is an `images/` folder, else an `ImageList`."""
    if (expanded(path) / "images").is_dir():
        return PairedFolder(path, split, **options)
    for name in ("label_names", "class_names", "ignore", "annotations"):
        options.pop(name, None)  # mean nothing without annotations
    return ImageList(path, split, **options)
