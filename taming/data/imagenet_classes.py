"""The published ImageNet sets: pictures and their classes.

A set prepares itself once: the archives that people get from image-net.org are unpacked and listed
in its folder (`ILSVRC2012_train`, `ILSVRC2012_validation`), which is `root` of the config, else in
the folder named by `TAMING_DATA`, else in the user's cache as before. The files are described in
`formats/imagenet.py`.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from taming.checkpoint import atomic_write
from taming.config import plain
from taming.data.base import ImagePaths, WrappedSet
from taming.data.download import download, retrieve
from taming.data.formats import imagenet as layout
from taming.data.roots import VARIABLE, PathLike, cache_root, data_root, existing, read_lines
from taming.data.unpacking import is_prepared, mark_prepared, unpack, unpack_whole

logger = logging.getLogger(__name__)


def give_synsets_from_indices(
    indices: Iterable[int], path_to_yaml: PathLike | None = None
) -> list[str]:
    """The synsets of classes 0..999; the table is by default in the folder of all data."""
    path = data_root() / "imagenet_idx_to_synset.yaml" if path_to_yaml is None else path_to_yaml
    table = layout.index_to_synset(existing(path, "the table of classes and synsets"))
    synsets = [table[index] for index in indices]
    logger.info("%d synsets make up the restricted ImageNet", len(synsets))
    return synsets


def str_to_indices(string: str) -> list[int]:
    """Numbers of '32-123, 256, 280-321', sorted; as in `range`, the end of a span is left out."""
    indices: list[int] = []
    for part in string.split(","):
        first, span, end = part.partition("-")
        try:
            indices += range(int(first), int(end)) if span else [int(first)]
        except ValueError as error:
            raise ValueError(f"'{string}' is not of the form '32-123, 256, 280-321'") from error
    return sorted(indices)


class ImageNetBase(WrappedSet, ABC):
    """{image, relpath, synsets, class_label, human_label, file_path_} of one split.

    config: {size, sub_indices, root, ImageNetTrain: {random_crop}}; size 0 leaves pictures whole,
    sub_indices, such as '30-32, 281', are the classes to use, which are then numbered anew.
    """

    NAME: str
    SECTION: str  # of the config
    FILES: Sequence[str]
    RANDOM_CROP: bool
    HUMAN = ("https://heibox.uni-heidelberg.de/f/9f28e956cd304264bb82/?dl=1", 2655750)
    INDEX = ("https://heibox.uni-heidelberg.de/f/d835d5b6ceda4d3aa910/?dl=1", None)

    def __init__(self, config: Any = None) -> None:
        self.config: Mapping[str, Any] = plain(config) or {}
        self._prepare()
        self._prepare_synset_to_human()
        self._prepare_idx_to_synset()
        self._load()

    def _prepare(self) -> None:
        """Finds or makes the unpacked pictures and their list."""
        key = f"{self.SECTION}/random_crop"
        self.random_crop = bool(retrieve(self.config, key, default=self.RANDOM_CROP))
        self.root = str(self._root())
        self.datadir = os.path.join(self.root, "data")
        self.txt_filelist = os.path.join(self.root, layout.LIST)
        if is_prepared(self.root):
            return
        data = Path(self.datadir)
        if not data.is_dir():
            logger.info("preparing %s in %s", self.NAME, self.root)
            archive = existing(Path(self.root, self.FILES[0]), layout.ORIGIN)
            unpack_whole(archive, data, self._finish)
        paths = layout.found_paths(data)
        if not paths:
            raise ValueError(f"{data} has no <synset>/<name>.JPEG; {layout.ORIGIN}")
        with atomic_write(self.txt_filelist) as partial:
            partial.write_text("\n".join(paths) + "\n", encoding="utf-8")
        mark_prepared(self.root)

    def _root(self) -> Path:
        if self.config.get("root"):
            return data_root(self.config["root"])
        if os.environ.get(VARIABLE) and (data_root() / self.NAME).is_dir():
            return data_root() / self.NAME
        return cache_root() / self.NAME

    @abstractmethod
    def _finish(self, data: Path) -> None:
        """Sorts the freshly unpacked pictures into a folder for each synset."""

    def _prepare_synset_to_human(self) -> None:
        self.human_dict = os.path.join(self.root, layout.HUMAN)
        if not os.path.exists(self.human_dict):
            url, size = self.HUMAN
            download(url, self.human_dict, size=size)

    def _prepare_idx_to_synset(self) -> None:
        self.idx2syn = os.path.join(self.root, layout.INDEX)
        if "sub_indices" in self.config and not os.path.exists(self.idx2syn):
            download(self.INDEX[0], self.idx2syn)

    def _filter_relpaths(self, relpaths: Iterable[str]) -> list[str]:
        paths = layout.without_broken(relpaths)
        if "sub_indices" not in self.config:
            return paths
        indices = str_to_indices(self.config["sub_indices"])
        synsets = set(give_synsets_from_indices(indices, self.idx2syn))
        return [path for path in paths if path.split("/")[0] in synsets]

    def _load(self) -> None:
        listed = read_lines(self.txt_filelist)
        self.relpaths = self._filter_relpaths(listed)
        logger.info("%s: %d of %d pictures", self.NAME, len(self.relpaths), len(listed))
        self.synsets = [path.split("/")[0] for path in self.relpaths]
        self.abspaths = [os.path.join(self.datadir, path) for path in self.relpaths]
        numbers = {synset: number for number, synset in enumerate(sorted(set(self.synsets)))}
        self.class_labels = [numbers[synset] for synset in self.synsets]
        words = layout.human_names(Path(self.human_dict))
        if unknown := sorted(set(numbers) - set(words)):
            raise ValueError(f"{self.human_dict} does not name {unknown[0]}; fetch it anew")
        self.human_labels = [words[synset] for synset in self.synsets]
        labels = {
            "relpath": np.array(self.relpaths),
            "synsets": np.array(self.synsets),
            "class_label": np.array(self.class_labels),
            "human_label": np.array(self.human_labels),
        }
        size = retrieve(self.config, "size", default=0)
        self.data = ImagePaths(self.abspaths, size, self.random_crop, labels)


class ImageNetTrain(ImageNetBase):
    NAME, SECTION = "ILSVRC2012_train", "ImageNetTrain"
    FILES = ("ILSVRC2012_img_train.tar",)
    RANDOM_CROP = True

    def _finish(self, data: Path) -> None:
        for archive in sorted(data.glob("*.tar")):
            (data / archive.stem).mkdir()
            unpack(archive, data / archive.stem)
            archive.unlink()


class ImageNetValidation(ImageNetBase):
    NAME, SECTION = "ILSVRC2012_validation", "ImageNetValidation"
    FILES = ("ILSVRC2012_img_val.tar", "validation_synset.txt")
    RANDOM_CROP = False
    SYNSETS = ("https://heibox.uni-heidelberg.de/f/3e0f6e9c624e45f2bd73/?dl=1", 1950000)

    def _finish(self, data: Path) -> None:
        table = Path(self.root, self.FILES[1])
        if not table.exists():
            download(self.SYNSETS[0], table, size=self.SYNSETS[1])
        for line in read_lines(table):
            name, synset = line.split()
            (data / synset).mkdir(exist_ok=True)
            os.replace(data / name, data / synset / name)
