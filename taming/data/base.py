"""What the published data sets are made of: a list of files, a crop, a dict of NumPy arrays.

A published sample is laid out (H, W, C): `image` is float32 in [-1, 1]. Sets of the framework's own
trainings are `PairedFolder` and `FormatSet`; these here exist for old code and old configurations,
with the published classes, arguments and keys.

Unlike there, random crops come from (seed, epoch, index), not from a worker's own state, which
gives every worker the same crops. An index may be `(index, epoch)`, or `set_epoch` says it. When
nobody does, an epoch is a new visit of the same index, or a new pass of the loader.
"""

import bisect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, Dataset, get_worker_info

from taming.data.pictures import read_planes, stored_pixels
from taming.data.transforms import seed_transforms

Index = int | tuple[int, int]  # index, or index and epoch


class PublishedSet(Dataset, ABC):
    """A set whose `example` is a pure function of (seed, epoch, index)."""

    seed = 0
    epoch: int | None = None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    @abstractmethod
    def __len__(self) -> int: ...

    def __getitem__(self, index: Index) -> Any:
        number, epoch = index if isinstance(index, tuple) else (index, self.epoch)
        number = range(len(self))[number]  # negative indices; IndexError ends a plain iteration
        return self.example(number, self._turn(number) if epoch is None else epoch)

    @abstractmethod
    def example(self, index: int, epoch: int) -> Any:
        """The sample of (seed, epoch, index)."""

    def _turn(self, index: int) -> int:
        """Stands for the epoch where nobody tells it: alike in all workers, new for each pass."""
        visits: dict[int, int] = vars(self).setdefault("_visits", {})
        visits[index] = visits.get(index, -1) + 1
        worker = get_worker_info()
        of_loader = worker.seed - worker.id if worker is not None else 0
        return of_loader % 2**62 + visits[index]

    def rng(self, index: int, epoch: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, epoch, index))


class WrappedSet(Dataset):
    """A set that hands on another one, `data`."""

    data: Any = None

    def set_epoch(self, epoch: int) -> None:
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, i: Index) -> Any:
        return self.data[i]


def sample_at(data: Any, index: int, epoch: int) -> Any:
    """A sample of any set; sets that know epochs are told which."""
    return data[(index, epoch)] if hasattr(data, "set_epoch") else data[index]


class ConcatDatasetWithIndex(ConcatDataset):
    """Sets one after another; a sample comes with the number of its set."""

    def set_epoch(self, epoch: int) -> None:
        parts: list[Any] = self.datasets
        for data in parts:
            if hasattr(data, "set_epoch"):
                data.set_epoch(epoch)

    def __getitem__(self, idx: Index) -> tuple[Any, int]:
        index, epoch = idx if isinstance(idx, tuple) else (idx, None)
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} samples")
        index %= len(self)
        number = bisect.bisect_right(self.cumulative_sizes, index)
        inner = index - (self.cumulative_sizes[number - 1] if number else 0)
        data = self.datasets[number]
        return (data[inner] if epoch is None else sample_at(data, inner, epoch)), number


# --- pixels --------------------------------------------------------------------------------------


def to_float(pixels: NDArray) -> NDArray[np.float32]:
    """0..255 -> [-1, 1], the shape kept."""
    return (pixels / 127.5 - 1.0).astype(np.float32)


class Preprocessor:
    """Resizing and cropping by albumentations, as the published sets do.

    size: the shorter side becomes so long; None or not positive: no resizing.
    crop_size: side of the square that is cut; None or not positive: no crop.
    exact: resize to the square of `size`, whatever the proportions.
    targets: names of further arrays that are moved and interpolated like the image; an array
        `mask` is moved along in any case, its values never mixed.
    """

    def __init__(
        self,
        size: int | None = None,
        crop_size: int | None = None,
        random_crop: bool = False,
        *,
        flip: bool = False,
        exact: bool = False,
        interpolation: str = "bilinear",
        targets: Sequence[str] = (),
    ):
        import albumentations as A
        import cv2

        how = {
            "nearest": cv2.INTER_NEAREST,
            "bilinear": cv2.INTER_LINEAR,
            "bicubic": cv2.INTER_CUBIC,
            "area": cv2.INTER_AREA,
            "lanczos": cv2.INTER_LANCZOS4,
        }
        if interpolation not in how:
            raise ValueError(f"interpolation '{interpolation}' is unknown; use {', '.join(how)}")
        steps: list[Any] = []
        if size is not None and size > 0:
            resize = A.SmallestMaxSize(size, interpolation=how[interpolation])
            steps.append(A.Resize(size, size, how[interpolation]) if exact else resize)
        if crop_size is not None and crop_size > 0 and not exact:
            crop = A.RandomCrop if random_crop else A.CenterCrop
            steps.append(crop(height=crop_size, width=crop_size))
        if flip:
            steps.append(A.HorizontalFlip())
        self.steps = steps
        self.compose = A.Compose(steps, additional_targets=dict.fromkeys(targets, "image"))

    def __call__(self, rng: np.random.Generator | None = None, **arrays: NDArray) -> dict[str, Any]:
        """The arrays after one draw; without `rng` it cannot be repeated."""
        if not self.steps:
            return arrays
        rng = np.random.default_rng() if rng is None else rng
        seed_transforms(self.compose, int(rng.integers(2**31)))
        named: dict[str, Any] = arrays
        return self.compose(**named)


class ImagePaths(PublishedSet):
    """Pictures by their paths, as squares; `labels` holds more of each, `{key: sequence}`.

    seed: with epoch and index, the origin of random crops.
    """

    def __init__(
        self,
        paths: Sequence[str],
        size: int | None = None,
        random_crop: bool = False,
        labels: Mapping[str, Any] | None = None,
        seed: int = 0,
    ):
        self.size, self.random_crop, self.seed = size, random_crop, seed
        self.labels: dict[str, Any] = {**(labels or {}), "file_path_": paths}
        self._length = len(paths)
        self.preprocessor = Preprocessor(size, size, random_crop)

    def __len__(self) -> int:
        return self._length

    def preprocess_image(
        self, image_path: str, rng: np.random.Generator | None = None
    ) -> NDArray[np.float32]:
        return to_float(self.preprocessor(rng, image=self.pixels(image_path))["image"])

    def pixels(self, image_path: str) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) of a file, as it is stored."""
        return stored_pixels(image_path)

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        path = self.labels["file_path_"][index]
        image = self.preprocess_image(path, self.rng(index, epoch))
        return {"image": image, **{key: values[index] for key, values in self.labels.items()}}


class NumpyPaths(ImagePaths):
    """Pictures in `.npy` files of (1, 3, H, W), 0..255, as CelebA-HQ is distributed."""

    def pixels(self, image_path: str) -> NDArray[np.uint8]:
        return read_planes(image_path)
