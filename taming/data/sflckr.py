"""Published sets of pictures with label maps, given by a list: S-FLCKR and examples of others.

A sample has `image` float32 (H, W, 3) in [-1, 1] and `segmentation` float32 (H, W, n_labels), one
where the label is. What the list and folders look like: `formats/sflckr.py`.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taming.data.base import Preprocessor, PublishedSet, to_float
from taming.data.formats.sflckr import Listed, grey_ids, listed
from taming.data.pictures import stored_pixels
from taming.data.roots import PathLike, data_root, existing


class SegmentationBase(PublishedSet):
    """The pictures of a list.

    data_csv: a list of paths, relative to `data_root` and, with .png, to `segmentation_root`.
    size: side of the square that is cut after resizing the shorter side to it; None: untouched.
    n_labels: length of the one-hot vectors.
    shift_segmentation: whether ids move up by one and 255, unlabelled, becomes 0.
    """

    def __init__(
        self,
        data_csv: PathLike,
        data_root: PathLike,
        segmentation_root: PathLike,
        size: int | None = None,
        random_crop: bool = False,
        interpolation: str = "bicubic",
        n_labels: int = 182,
        shift_segmentation: bool = False,
        seed: int = 0,
    ) -> None:
        self.data_csv, self.data_root = str(data_csv), str(data_root)
        self.segmentation_root = str(segmentation_root)
        self.n_labels, self.shift_segmentation, self.seed = n_labels, shift_segmentation, seed
        entries = listed(data_csv, self.data_root, self.segmentation_root)
        self._use(entries, size, size, random_crop, interpolation)

    def _use(
        self,
        entries: Sequence[Listed],
        size: int | None,
        crop_size: int | None,
        random_crop: bool,
        interpolation: str,
    ) -> None:
        self.size = None if size is None or size <= 0 else size
        self.crop_size = self.size if crop_size is None else crop_size
        self.image_paths = [entry.relative for entry in entries]
        self.labels: dict[str, Sequence[Any]] = {
            "relative_file_path_": self.image_paths,
            "file_path_": [entry.image for entry in entries],
            "segmentation_path_": [entry.labels for entry in entries],
        }
        self.preprocessor = Preprocessor(
            self.size, self.crop_size, random_crop, interpolation=interpolation
        )

    def __len__(self) -> int:
        return len(self.image_paths)

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        example = {key: values[index] for key, values in self.labels.items()}
        image = stored_pixels(example["file_path_"])
        path = example["segmentation_path_"]
        ids = grey_ids(path)
        if self.shift_segmentation:
            ids = ids + np.uint8(1)  # 255 becomes 0
        check_size(ids, image, path)
        moved = self.preprocessor(self.rng(index, epoch), image=image, mask=ids)
        example["image"] = to_float(moved["image"])
        example["segmentation"] = one_hot(moved["mask"], self.n_labels, path)
        return example


def one_hot(ids: NDArray[np.uint8], n_labels: int, path: str) -> NDArray[np.float32]:
    """Ids (H, W) -> (H, W, n_labels)."""
    if ids.max() >= n_labels:
        raise ValueError(
            f"{path} holds label {ids.max()}, the set has {n_labels}; give more labels, or "
            "shift_segmentation where 255 means unlabelled"
        )
    return np.eye(n_labels, dtype=np.float32)[ids]


def check_size(array: NDArray, image: NDArray, path: str) -> None:
    """ValueError unless a map has the size of its picture."""
    if array.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"{path} is {array.shape[0]}x{array.shape[1]} (height x width), its picture "
            f"{image.shape[0]}x{image.shape[1]}; make them equal"
        )


class ListedExamples(SegmentationBase):
    """Examples that came with the published models, `<name>_examples.txt` in the folder of data."""

    name: str
    n_labels: int
    shift_segmentation: bool = False

    def __init__(
        self,
        size: int | None = None,
        random_crop: bool = False,
        interpolation: str = "bicubic",
        root: PathLike | None = None,
    ) -> None:
        folder = data_root(root)
        what = "examples of published models, from github.com/CompVis/taming-transformers, data/"
        super().__init__(
            existing(folder / f"{self.name}_examples.txt", what),
            folder / f"{self.name}_images",
            folder / f"{self.name}_segmentations",
            size,
            random_crop,
            interpolation,
            self.n_labels,
            self.shift_segmentation,
        )


class Examples(ListedExamples):
    name, n_labels = "sflckr", 182
