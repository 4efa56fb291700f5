"""The published ImageNet sets of pairs: a picture and its depth, its smaller self, or its edges.

The pictures are those of `imagenet_classes.py`; a sample keeps all that they say. Depth maps lie in
a folder of their own, see `formats/imagenet.py`.
"""

import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from taming.data.base import Preprocessor, PublishedSet, sample_at, to_float
from taming.data.canny import canny, grey
from taming.data.formats import imagenet as layout
from taming.data.imagenet_classes import ImageNetBase, ImageNetTrain, ImageNetValidation
from taming.data.pictures import stored_pixels
from taming.data.roots import PathLike, data_root, existing, read_lines
from taming.data.sflckr import check_size

# The animals of the Restricted ImageNet with depth.
ANIMALS = "30-32, 33-37, 151-268, 281-285, 80-100, 365-382, 389-397, 118-121, 300-319"

# --- with depth ----------------------------------------------------------------------------------


def get_preprocessor(
    size: int | None = None,
    random_crop: bool = False,
    additional_targets: Mapping[str, str] | None = None,
    crop_size: int | None = None,
) -> Preprocessor:
    """Squares of `size`, mirrored at random if cropped so; else only cuts of `crop_size`."""
    resized = size is not None and size > 0
    return Preprocessor(
        size,
        size if resized else crop_size,
        random_crop,
        flip=resized and random_crop,
        targets=tuple(additional_targets or ()),
    )


def normalised(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth with its smallest and largest value at -1 and 1, as published."""
    low, high = depth.min(), depth.max()
    return (2.0 * ((depth - low) / max(1e-8, high - low)) - 1.0).astype(np.float32)


class BaseWithDepth(PublishedSet):
    """A set with `depth` float32 (H, W) in [-1, 1], larger is nearer; a subclass says which.

    size: squares of this side, resized; crop_size: squares cut without resizing larger pictures.
    root: folder of the depth maps; None: `imagenet_depth` in the folder of all data.
    """

    DEFAULT_DEPTH_ROOT: PathLike | None = None
    folder: str

    def __init__(
        self,
        config: Any = None,
        size: int | None = None,
        random_crop: bool = False,
        crop_size: int | None = None,
        root: PathLike | None = None,
    ) -> None:
        self.config, self.crop_size = config, crop_size
        self.base_dset = self.get_base_dset()
        self.preprocessor = get_preprocessor(size, random_crop, {"depth": "image"}, crop_size)
        self.rescaler = Preprocessor(crop_size, targets=("depth",))
        if root is not None or self.DEFAULT_DEPTH_ROOT is None:
            self.DEFAULT_DEPTH_ROOT = data_root() / "imagenet_depth" if root is None else root

    @abstractmethod
    def get_base_dset(self) -> Any:
        """The set of pictures."""

    def get_depth_path(self, e: Mapping[str, Any]) -> str:
        folder = Path(os.fspath(self.DEFAULT_DEPTH_ROOT or ""), self.folder)
        stem = os.path.splitext(e["relpath"])[0]
        return layout.depth_path(folder, stem) or str(folder / f"{stem}.png")

    def preprocess_depth(self, path: str) -> NDArray[np.float32]:
        what = "MiDaS depth of the pictures, computed as taming-transformers describes"
        return normalised(layout.read_midas(existing(path, what)))

    def __len__(self) -> int:
        return len(self.base_dset)

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        example = sample_at(self.base_dset, index, epoch)
        path = self.get_depth_path(example)
        pair = {"image": example["image"], "depth": self.preprocess_depth(path)}
        check_size(pair["depth"], pair["image"], path)
        if self.crop_size and min(pair["depth"].shape) < self.crop_size:
            pair = self.rescaler(**pair)
        return {**example, **self.preprocessor(self.rng(index, epoch), **pair)}


class ImageNetTrainWithDepth(BaseWithDepth):
    folder = "train"

    def __init__(
        self, random_crop: bool = True, sub_indices: str | None = None, **kwargs: Any
    ) -> None:
        self.sub_indices = sub_indices
        super().__init__(random_crop=random_crop, **kwargs)

    def get_base_dset(self) -> ImageNetBase:
        return ImageNetTrain({"sub_indices": self.sub_indices} if self.sub_indices else None)


class ImageNetValidationWithDepth(BaseWithDepth):
    folder = "val"

    def __init__(self, sub_indices: str | None = None, **kwargs: Any) -> None:
        self.sub_indices = sub_indices
        super().__init__(**kwargs)

    def get_base_dset(self) -> ImageNetBase:
        return ImageNetValidation({"sub_indices": self.sub_indices} if self.sub_indices else None)


class RINTrainWithDepth(ImageNetTrainWithDepth):
    def __init__(
        self,
        config: Any = None,
        size: int | None = None,
        random_crop: bool = True,
        crop_size: int | None = None,
    ) -> None:
        super().__init__(random_crop, ANIMALS, config=config, size=size, crop_size=crop_size)


class RINValidationWithDepth(ImageNetValidationWithDepth):
    def __init__(
        self,
        config: Any = None,
        size: int | None = None,
        random_crop: bool = False,
        crop_size: int | None = None,
    ) -> None:
        arguments = {"size": size, "random_crop": random_crop, "crop_size": crop_size}
        super().__init__(ANIMALS, config=config, **arguments)


class DRINExamples(PublishedSet):
    """Animals with depth that came with the published model: `drin_examples.txt` and its files."""

    def __init__(self, root: PathLike | None = None) -> None:
        folder = data_root(root)
        what = "examples of the published model, from github.com/CompVis/taming-transformers, data/"
        names = read_lines(folder / "drin_examples.txt", what)
        self.image_paths = [os.path.join(folder, "drin_images", name) for name in names]
        self.depth_paths = [
            os.path.join(folder, "drin_depth", name.replace(".JPEG", ".png")) for name in names
        ]
        self.cropper = Preprocessor(256, 256)
        self.preprocessor = Preprocessor(256, 256, targets=("depth",))

    def __len__(self) -> int:
        return len(self.image_paths)

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        image = stored_pixels(self.image_paths[index])
        image = to_float(self.cropper(image=image)["image"])
        depth = normalised(layout.read_midas(self.depth_paths[index]))
        return self.preprocessor(image=image, depth=depth)


# --- at two scales, and edges --------------------------------------------------------------------


def imscale(
    x: NDArray[np.floating],
    factor: int | None,
    keepshapes: bool = False,  # scale back up to the old size
    keepmode: str = "bicubic",  # how
) -> NDArray[np.floating]:
    """A picture (H, W, 3) in [-1, 1] shrunk by a whole factor, through 8 bits."""
    if factor is None or factor == 1:
        return x
    height, width = x.shape[:2]
    if x.min() < -1 or x.max() > 1 or min(height, width) < factor:
        raise ValueError(
            f"a picture of {height}x{width} from {x.min():g} to {x.max():g} cannot be shrunk by "
            f"{factor}; it must lie in [-1, 1] and have {factor} pixels each way"
        )
    how = getattr(Image.Resampling, keepmode.upper())
    small = Image.fromarray(((x + 1.0) * 127.5).clip(0, 255).astype(np.uint8))
    small = small.resize((width // factor, height // factor), Image.Resampling.BICUBIC)
    if keepshapes:
        small = small.resize((width, height), how)
    return (np.array(small) / 127.5 - 1.0).astype(x.dtype)


class ImageNetScale(PublishedSet):
    """`image`, and with `up_factor` also `lr`, the picture shrunk by it and scaled back up.

    size: the shorter side becomes so long; crop_size: the square cut, None: size.
    hr_factor: shrinks the picture itself first. keep_mode: how `lr` is scaled up.
    """

    def __init__(
        self,
        size: int | None = None,
        crop_size: int | None = None,
        random_crop: bool = False,
        up_factor: int | None = None,
        hr_factor: int | None = None,
        keep_mode: str = "bicubic",
    ) -> None:
        self.base = self.get_base()
        self.size, self.random_crop = size, random_crop
        self.crop_size = crop_size if crop_size is not None else size
        self.up_factor, self.hr_factor, self.keep_mode = up_factor, hr_factor, keep_mode
        side = size if size is not None and size > 0 else self.crop_size
        self.rescaler = Preprocessor(side)
        self.preprocessor = Preprocessor(size, self.crop_size, random_crop, targets=("lr",))

    @abstractmethod
    def get_base(self) -> Any:
        """The set of pictures."""

    def __len__(self) -> int:
        return len(self.base)

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        example = sample_at(self.base, index, epoch)
        image = imscale(example["image"], self.hr_factor)
        if self.crop_size and min(image.shape[:2]) < self.crop_size:
            image = self.rescaler(image=image)["image"]
        pair = {"image": image, **self.derived(image)}
        return {**example, **self.preprocessor(self.rng(index, epoch), **pair)}

    def derived(self, image: NDArray[np.floating]) -> dict[str, NDArray]:
        """What goes with the picture before both are cut."""
        if self.up_factor is None:
            return {}
        return {"lr": imscale(image, self.up_factor, keepshapes=True, keepmode=self.keep_mode)}


class ImageNetEdges(ImageNetScale):
    """`image`, and `lr` float32 (H, W, 3), one on its edges."""

    def __init__(self, up_factor: int = 1, **kwargs: Any) -> None:
        super().__init__(up_factor=1, **kwargs)

    def derived(self, image: NDArray[np.floating]) -> dict[str, NDArray]:
        edges = canny(grey(image), sigma=2).astype(np.float32)
        return {"lr": np.repeat(edges[:, :, None], 3, axis=2)}


class ImageNetScaleTrain(ImageNetScale):
    """Pictures of training, cut anew each time."""

    def __init__(self, random_crop: bool = True, **kwargs: Any) -> None:
        super().__init__(random_crop=random_crop, **kwargs)

    def get_base(self) -> ImageNetBase:
        return ImageNetTrain()


class ImageNetScaleValidation(ImageNetScale):
    """Pictures of validation."""

    def get_base(self) -> ImageNetBase:
        return ImageNetValidation()


class ImageNetEdgesTrain(ImageNetScaleTrain, ImageNetEdges):
    """The same pictures with their edges."""


class ImageNetEdgesValidation(ImageNetScaleValidation, ImageNetEdges):
    """The same pictures with their edges."""
