"""A small picture to be enlarged -> control on the grid: super-resolution by 2 to 8.

The small picture is scaled back up (bicubic, as published super-resolution work measures it) and
carried with a plane that says by how much it was enlarged, so one model serves all factors: the
transformer has to know whether the blur is missing detail or a soft picture.

What is painted must be what was given when it is shrunk again, and codes are too few to say that.
So a painted picture keeps its detail and gets everything else from the small one, the range and the
null space of shrinking: Wang et al. 2022 (arXiv 2212.00490), section 3.1.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.cond_stage.base import ControlCondition, Size
from taming.cond_stage.sources import as_image, describe, resize, to_float, to_pixels

ROUNDS = 2  # enlarging and shrinking again is the identity but nearly


def enlarge(small: Tensor, size: Size) -> Tensor:
    """(3, h', w') -> (4, H, W): the picture at full size and a plane of log2(factor) / 3."""
    height, width = size
    factor = math.sqrt(height * width / (small.shape[-2] * small.shape[-1]))
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
        tall, wide = size[0] / small.shape[-2], size[1] / small.shape[-1]
        factor = math.sqrt(tall * wide)
        seen = f"{describe(source)} is {small.shape[-2]}x{small.shape[-1]}"
        # Half a pixel of rounding in the small picture is as far as two ratios may honestly differ.
        if abs(math.log(tall / wide)) > math.log1p(1.0 / min(small.shape[-2:])) + 1e-6:
            raise ValueError(
                f"{seen}, of another shape than the {size[0]}x{size[1]} asked for; "
                f"crop it, or ask for {round(small.shape[-2] * factor)}x"
                f"{round(small.shape[-1] * factor)}"
            )
        if not self.min_factor * 0.95 <= factor <= self.max_factor * 1.05:
            raise ValueError(
                f"{seen}, which makes {size[0]}x{size[1]} an enlargement by {factor:.2f}; this "
                f"model enlarges by {self.min_factor:g} to {self.max_factor:g}, change the size"
            )
        return enlarge(small, size)

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


def _small_size(value: Tensor) -> Size:
    """Of the picture before it was enlarged."""
    factor = 2.0 ** (3.0 * float(value[3].mean()))
    height, width = value.shape[-2:]
    return max(1, round(height / factor)), max(1, round(width / factor))
