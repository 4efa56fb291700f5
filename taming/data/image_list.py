"""A set of pictures without annotations: a folder, searched through, or a text file of paths.

Also the base of sets with annotations: what a subclass adds is `annotations`, nothing else. A
sample is a pure function of (seed, epoch, index): the same in every worker, process and order.
"""

import logging
import os
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from taming.data.pictures import (
    NoPictures,
    UnreadableImage,
    find_pictures,
    listed_pictures,
    read_image,
)
from taming.data.sides import NO_SIDES
from taming.data.transforms import Draw, transformed

logger = logging.getLogger(__name__)

HELD_OUT = 0.05  # share of a set without a split of its own that is kept for validation
ATTEMPTS = 20  # unreadable pictures in a row after which a set is given up


class ImageList(Dataset):
    """Pictures of a folder or list; each sample has `image`, `name` and `set`.

    root: a folder, or a text file with one path a line, relative to the file.
    split: "train", "validation", "test" or "all", or several joined by "+". Without a split of its
        own, a set keeps every twentieth picture, chosen by its name, for validation.
    size: height and width of a sample, or one number for both; None allows `raw` only.
    scale, flip, jitter: see `transforms.Draw`.
    random: whether samples are random draws or central crops; None: in the split "train" only.
    seed: with epoch and index, the origin of every random draw.
    """

    label_table: dict[int, str]
    class_table: dict[int, str]
    box_table: dict[int, str]

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        size: int | Sequence[int] | None = None,
        *,
        scale: Sequence[float] = (1.0, 1.0),
        flip: bool = True,
        jitter: float = 0.0,
        random: bool | None = None,
        seed: int = 0,
        name: str | None = None,
    ):
        self.root = expanded(root)
        self.name = name or (self.root.stem if self.root.is_file() else self.root.name)
        self.split = split
        self.seed = seed
        self.epoch = 0
        self.draw = None
        if size is not None:
            self.draw = Draw(pair(size), (float(scale[0]), float(scale[-1])), flip, float(jitter))
        self.random = "train" in split.split("+") if random is None else random
        self.label_table = {}
        self.class_table = {}
        self.box_table = {}
        self.sides = NO_SIDES
        self.skipped: set[str] = set()
        paths = self._find()
        keep = self._split_names(list(paths))
        self.names = sorted(keep) if len(keep) < len(paths) else list(paths)
        self.paths = [paths[name] for name in self.names]
        if not self.names:
            raise NoPictures(f"{self.root} has no pictures in split '{split}'; {self._remedy()}")

    # --- which pictures ------------------------------------------------------------------------

    def _find(self) -> dict[str, Path]:
        """{name: path} of all pictures of all splits."""
        if self.root.is_dir():
            found = find_pictures(self.root)
            names = [path.relative_to(self.root).as_posix() for path in found]
        elif self.root.is_file():
            found = listed_pictures(self.root)
            names = [_name_beside(path, self.root.parent) for path in found]
        else:
            raise ValueError(f"{self.root} does not exist; give a folder or a text file of paths")
        return dict(zip(names, found, strict=True))

    def _split_names(self, names: list[str]) -> set[str]:
        chosen: set[str] = set()
        for part in self.split.split("+"):
            chosen |= set(split_by_name(names, part))
        return chosen

    def _remedy(self) -> str:
        return "use split 'all', or give more pictures"

    # --- samples -------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.names)

    def set_epoch(self, epoch: int) -> None:
        """The epoch of draws made by plain indices; a sampler of ours sends it with the index."""
        self.epoch = epoch

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        number, epoch = index if isinstance(index, tuple) else (index, self.epoch)
        return self.sample(number, epoch)

    def sample(self, index: int, epoch: int = 0) -> dict[str, Any]:
        """One draw, a pure function of (seed, epoch, index).

        An unreadable picture is replaced by another one of the set, by the same rule each time,
        and named in the log.
        """
        if self.draw is None:
            raise ValueError(
                f"set '{self.name}' was made without a size; give size=(height, width)"
            )
        index = range(len(self))[index]  # negative indices; IndexError ends a plain iteration
        rng = np.random.default_rng((self.seed, epoch, index))
        seed = int(rng.integers(2**31))
        height, width = self.draw.size
        zoom = self.draw.scale[1]
        at_least = (int(height * zoom + 1), int(width * zoom + 1))
        number, raw = self._readable(index, rng, at_least)
        if "captions" in raw:
            chosen = int(rng.integers(len(raw["captions"]))) if self.random else 0
            raw["caption"] = raw["captions"][chosen]
        sample = transformed(raw, self.draw, seed if self.random else None, self.sides)
        sample["name"] = self.names[number]
        sample["set"] = self.name
        return sample

    def _readable(
        self, index: int, rng: np.random.Generator, at_least: tuple[int, int]
    ) -> tuple[int, dict[str, Any]]:
        for _ in range(ATTEMPTS):
            try:
                return index, self.raw(index, at_least)
            except UnreadableImage as error:
                if self.names[index] not in self.skipped:
                    self.skipped.add(self.names[index])
                    logger.warning(
                        "set '%s': picture skipped (%d so far): %s",
                        self.name, len(self.skipped), error,
                    )  # fmt: skip
                index = int(rng.integers(len(self)))
        raise ValueError(
            f"set '{self.name}': {ATTEMPTS} pictures drawn in a row are unreadable, the last is "
            f"{self.paths[index]}; check {self.root}"
        )

    def raw(self, index: int, at_least: tuple[int, int] | None = None) -> dict[str, Any]:
        """What the files say, before any draw: uint8 `image` (H, W, 3) and NumPy annotations."""
        image = read_image(self.paths[index], at_least)
        return {"image": image, **self.annotations(index, image)}

    def told(self) -> Iterator[bytes]:
        """What is known of its pictures beside the annotation files of its folder, see `marks`."""
        return iter(())

    def annotated(self) -> dict[str, int]:
        """How many pictures have each annotation, as far as it is told without opening them."""
        return {}

    def annotations(self, index: int, image: NDArray[np.uint8]) -> dict[str, Any]:
        """labels (H, W), depth (H, W), keypoints (N, 19, 3), class_label, captions; as present."""
        return {}


def _name_beside(path: Path, folder: Path) -> str:
    """The way from a folder to a picture, or the whole path where there is none."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        return path.as_posix()


def expanded(path: str | os.PathLike[str]) -> Path:
    """The path with `~` and environment variables filled in; an unset variable is an error."""
    filled = os.path.expandvars(os.path.expanduser(os.fspath(path)))
    if "$" in filled:
        raise ValueError(f"{path} names an environment variable that is not set; set it")
    return Path(filled)


def pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a size given as one number or two."""
    values = (size, size) if isinstance(size, int) else tuple(int(value) for value in size)
    if len(values) != 2:
        raise ValueError(f"size {size!r} must be one number, or height and width")
    return values[0], values[1]


def split_by_name(names: Sequence[str], split: str) -> list[str]:
    """The part of a set without a split of its own, chosen by a hash of each name.

    A picture keeps its part when others come or go, but for the few at the boundary, and on disks
    that spell accents in another way.
    """
    if split == "all":
        return list(names)

    def rank(name: str) -> tuple[int, str]:
        return zlib.crc32(os.fsencode(unicodedata.normalize("NFC", name))), name

    ranked = sorted(names, key=rank)
    held = int(len(ranked) * HELD_OUT)
    parts = {"train": ranked[held:], "validation": ranked[:held], "test": []}
    if split not in parts:
        raise ValueError(f"split '{split}' is unknown; use train, validation, test or all")
    return parts[split]
