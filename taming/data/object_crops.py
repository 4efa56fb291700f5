"""Crops of pictures with objects, each telling which part of the picture it kept.

Pictures are tensors (C, H, W). A crop returns its box (left, top, width, height) as parts of the
picture, and the pixels. Random ones draw from the generator they are given, else from one of their
own. The names are those of the published `taming.data.image_transforms`.
"""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from taming.data.objects import BoundingBox

Drawn = np.random.Generator | None


def convert_pil_to_tensor(image: Image.Image) -> Tensor:
    """uint8 (C, H, W)."""
    pixels = torch.from_numpy(np.array(image))
    return pixels.movedim(-1, 0) if pixels.ndim == 3 else pixels[None]


def resize(image: Tensor, size: int | tuple[int, int]) -> Tensor:
    """uint8 (C, H, W) so that the shorter side, or both (height, width), have this length.

    Bilinear without averaging, as the published models saw their pictures.
    """
    height, width = image.shape[-2:]
    if isinstance(size, int):
        short = min(height, width)
        size = int(size * height / short), int(size * width / short)
    if size == (height, width):
        return image
    scaled = F.interpolate(image[None].float(), size, mode="bilinear", align_corners=False)
    return scaled[0].round().clamp(0, 255).to(image.dtype)


class _Drawing:
    """What draws, from a given generator or its own."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def below(self, bound: int, rng: Drawn) -> int:
        return int((rng or self.rng).integers(bound))


class CenterCropReturnCoordinates:
    """The square of `size` in the middle; the box is that of the largest square."""

    def __init__(self, size: int) -> None:
        self.size = size

    @staticmethod
    def get_bbox_of_center_crop(width: int, height: int) -> BoundingBox:
        if width > height:
            return 0.5 - height / width / 2, 0.0, height / width, 1.0
        return 0.0, 0.5 - width / height / 2, 1.0, width / height

    def __call__(self, img: Tensor, rng: Drawn = None) -> tuple[BoundingBox, Tensor]:
        height, width = img.shape[-2:]
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        box = self.get_bbox_of_center_crop(width, height)
        return box, img[:, top : top + self.size, left : left + self.size]


class RandomCrop1dReturnCoordinates(_Drawing):
    """A square of `size` anywhere; after resizing the shorter side to it, along the longer one."""

    def __init__(self, size: int, seed: int = 0) -> None:
        super().__init__(seed)
        self.size = size

    def __call__(self, img: Tensor, rng: Drawn = None) -> tuple[BoundingBox, Tensor]:
        height, width = img.shape[-2:]
        if min(height, width) < self.size:
            raise ValueError(f"a picture of {height}x{width} has no square of {self.size} pixels")
        top, left = (self.below(side - self.size + 1, rng) for side in (height, width))
        box = (left / width, top / height, self.size / width, self.size / height)
        return box, img[:, top : top + self.size, left : left + self.size]


class Random2dCropReturnCoordinates(_Drawing):
    """A square of at least `min_size`, of any size that fits, anywhere."""

    def __init__(self, min_size: int, seed: int = 0) -> None:
        super().__init__(seed)
        self.min_size = min_size

    def __call__(self, img: Tensor, rng: Drawn = None) -> tuple[BoundingBox, Tensor]:
        height, width = img.shape[-2:]
        largest = min(height, width)
        smallest = min(self.min_size, largest)
        size = smallest + self.below(largest - smallest + 1, rng)
        top, left = (self.below(side - size + 1, rng) for side in (height, width))
        box = (left / width, top / height, size / width, size / height)
        return box, img[:, top : top + size, left : left + size]


class RandomHorizontalFlipReturn(_Drawing):
    """Mirrors with probability `p`, and tells whether it did."""

    def __init__(self, p: float = 0.5, seed: int = 0) -> None:
        super().__init__(seed)
        self.p = p

    def __call__(self, img: Tensor, rng: Drawn = None) -> tuple[bool, Tensor]:
        flipped = bool((rng or self.rng).random() < self.p)
        return flipped, img.flip(-1) if flipped else img
