"""The published sets of faces: CelebA-HQ, FFHQ, and both with the place of a crop as `coord`.

`size` is the side of the picture; `keys` are those of a sample that are kept (None: all). `root`
is the folder of all data, see `roots.py`; the files in it are described in `formats/faces.py`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from taming.data.base import (
    ConcatDatasetWithIndex,
    ImagePaths,
    NumpyPaths,
    Preprocessor,
    PublishedSet,
    WrappedSet,
    sample_at,
)
from taming.data.formats.faces import listed
from taming.data.roots import PathLike, data_root

Keys = Sequence[str] | None


class FacesBase(WrappedSet):
    """A subclass sets `data`; `keys` are those of a sample that are kept."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        self.keys: Keys = None

    def __getitem__(self, i: Any) -> dict[str, Any]:
        example = super().__getitem__(i)
        return example if self.keys is None else {key: example[key] for key in self.keys}


class _Listed(FacesBase):
    name: str
    split: str
    paths: type[ImagePaths]

    def __init__(self, size: int, keys: Keys = None, root: PathLike | None = None) -> None:
        super().__init__()
        self.data = self.paths(listed(data_root(root), self.name, self.split), size)
        self.keys = keys


class CelebAHQTrain(_Listed):
    name, split, paths = "celebahq", "train", NumpyPaths


class CelebAHQValidation(_Listed):
    name, split, paths = "celebahq", "validation", NumpyPaths


class FFHQTrain(_Listed):
    name, split, paths = "ffhq", "train", ImagePaths


class FFHQValidation(_Listed):
    name, split, paths = "ffhq", "validation", ImagePaths


class _FacesHQ(PublishedSet):
    """CelebA-HQ (class 0), then FFHQ (class 1).

    crop_size: side of a square that is cut out of the picture; None: the whole picture.
    coord: adds float64 (H, W, 1) in [0, 1), the number of each pixel in the uncropped picture.
    """

    parts: tuple[type[_Listed], type[_Listed]]
    random_crop: bool

    def __init__(
        self,
        size: int,
        keys: Keys = None,
        crop_size: int | None = None,
        coord: bool = False,
        root: PathLike | None = None,
        seed: int = 0,
    ) -> None:
        self.data = ConcatDatasetWithIndex([part(size, keys, root) for part in self.parts])
        self.coord, self.seed = coord, seed
        self.cropper: Preprocessor | None = None
        if crop_size is not None:
            targets = ("coord",) if coord else ()
            self.cropper = Preprocessor(None, crop_size, self.random_crop, targets=targets)

    def __len__(self) -> int:
        return len(self.data)

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        example, number = sample_at(self.data, index, epoch)
        if self.cropper is not None:
            moved = {"image": example["image"]}
            if self.coord:
                height, width, _ = example["image"].shape
                cells = np.arange(height * width).reshape(height, width, 1)
                moved["coord"] = cells / (height * width)
            example |= self.cropper(self.rng(index, epoch), **moved)
        example["class"] = number
        return example


class FacesHQTrain(_FacesHQ):
    parts, random_crop = (CelebAHQTrain, FFHQTrain), True


class FacesHQValidation(_FacesHQ):
    parts, random_crop = (CelebAHQValidation, FFHQValidation), False
