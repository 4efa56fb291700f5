"""A small picture to be enlarged -> control on the grid: super-resolution by 2 to 8.

The small picture is scaled back up (bicubic, as published super-resolution work measures it) and
carried with a plane that says by how much it was enlarged, so one model serves all factors: the
transformer has to know whether the blur is missing detail or a soft picture.

What is painted must be what was given when it is shrunk again, and codes are too few to say that.
So a painted picture keeps its detail and gets everything else from the small one, the range and the
null space of shrinking: Wang et al. 2022 (arXiv 2212.00490), section 3.1.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.cond_stage.base import ControlCondition, Size
from taming.cond_stage.sizes import stretch
from taming.cond_stage.sources import as_image, describe, resize, to_float, to_pixels

ROUNDS = 2  # enlarging and shrinking again is the identity but nearly


def enlarge(small: Tensor, size: Size) -> Tensor:
    """(3, h', w') -> (4, H, W): the picture at full size and a plane of log2(factor) / 3."""
    height, width = size
    factor = _enlargement((int(small.shape[-2]), int(small.shape[-1])), size)
    plane = small.new_full((1, height, width), math.log2(factor) / 3.0)
    return torch.cat([resize(small, size), plane])


class LowRes(ControlCondition):
    """Values are float32 (4, H, W): the enlarged picture in [-1, 1] and log2(factor) / 3."""

    name = "lowres"

    def __init__(
        self,
        width: int,
        downsample_factor: int,
        min_factor: float = 2.0,
        max_factor: float = 8.0,
    ) -> None:
        super().__init__(width, downsample_factor, channels=4)
        if not 1.0 < min_factor <= max_factor <= 8.0:
            raise ValueError(
                f"lowres: factors {min_factor} to {max_factor} are not within 1 to 8, in order"
            )
        self.min_factor, self.max_factor = min_factor, max_factor

    def read(self, source: Any, size: Size) -> Tensor:
        """A picture `min_factor` to `max_factor` times smaller than `size`, of the same shape."""
        small = to_float(as_image(source))  # (3, h', w')
        shape = (int(small.shape[-2]), int(small.shape[-1]))
        seen = f"{describe(source)} is {shape[0]}x{shape[1]}"
        if not _is_same_shape(shape, size):
            fits = self._enlargements(shape, self.downsample_factor)
            near = min(fits, key=lambda each: _apart(each, size), default=None)
            raise ValueError(
                f"{seen}, of another shape than the {size[0]}x{size[1]} asked for; crop it"
                + (f", or ask for {near[0]}x{near[1]}" if near else "")
            )
        factor = _enlargement(shape, size)
        if not self.min_factor * 0.95 <= factor <= self.max_factor * 1.05:
            raise ValueError(
                f"{seen}, which makes {size[0]}x{size[1]} an enlargement by {factor:.2f}; this "
                f"model enlarges by {self.min_factor:g} to {self.max_factor:g}, change the size"
            )
        return enlarge(small, size)

    def fitting_size(self, shape: Size, trained: Sequence[Size], factor: int) -> Size:
        """Enlarged without a change of shape, as nearly as can be to what was trained."""
        near = super().fitting_size(shape, trained, factor)
        fits = self._enlargements(shape, factor)
        return min(fits, key=lambda each: _apart(each, near), default=near)

    def _enlargements(self, shape: Size, multiple: int) -> list[Size]:
        """All sizes in multiples of this that a picture of this shape can be enlarged to."""
        first = math.ceil(shape[0] * self.min_factor / multiple)
        last = math.floor(shape[0] * self.max_factor / multiple)
        heights = [multiple * n for n in range(first, last + 1)]
        ratio = shape[1] / shape[0]
        sizes = [(high, max(1, round(high * ratio / multiple)) * multiple) for high in heights]
        return [size for size in sizes if _is_same_shape(shape, size)]

    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        """Shrinks the picture by a drawn factor: half the time 2, 4 or 8, else anything between."""
        image = torch.as_tensor(sample["image"], dtype=torch.float32)
        usual = [k for k in (2.0, 4.0, 8.0) if self.min_factor <= k <= self.max_factor]
        low, high = math.log(self.min_factor), math.log(self.max_factor)
        factor = math.exp(rng.uniform(low, high))
        if usual and rng.random() < 0.5:
            factor = float(rng.choice(usual))
        height, width = image.shape[-2:]
        small = resize(image, (max(1, round(height / factor)), max(1, round(width / factor))))
        small = to_float(to_pixels(small))  # users give files: eight bits a channel
        return enlarge(small, (height, width))

    def blank(self, size: Size) -> Tensor:
        return torch.zeros(4, *size)

    def settle(self, images: Tensor, value: Tensor) -> Tensor:
        value, size = value.to(images), (int(value.shape[-2]), int(value.shape[-1]))
        for _ in range(ROUNDS):
            coarse = [resize(resize(image, _small_size(value)), size) for image in images]
            images = images + value[:3] - torch.stack(coarse)
        return images.clamp(-1.0, 1.0)

    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        """The small picture as its own pixels, enlarged without smoothing."""
        small = resize(value[:3], _small_size(value))
        return to_pixels(F.interpolate(small[None], value.shape[-2:], mode="nearest-exact")[0])


def _enlargement(small: Size, size: Size) -> float:
    """By how much, along one side."""
    return math.sqrt(size[0] * size[1] / (small[0] * small[1]))


def _is_same_shape(small: Size, size: Size) -> bool:
    """Half a pixel of rounding in the small picture is as far as ratios may honestly differ."""
    return stretch(small, size) <= math.log1p(1.0 / min(small)) + 1e-6


def _apart(one: Size, other: Size) -> float:
    """How far two sizes differ in area: |log| of the ratio."""
    return abs(math.log(one[0] * one[1] / (other[0] * other[1])))


def _small_size(value: Tensor) -> Size:
    """Of the picture before it was enlarged."""
    factor = 2.0 ** (3.0 * float(value[3].mean()))
    height, width = value.shape[-2:]
    return max(1, round(height / factor)), max(1, round(width / factor))
