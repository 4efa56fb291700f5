"""A line drawing -> control on the grid.

Lines for training are found in the picture itself: smoothing, gradient, thinning and hysteresis as
by J. Canny (1986), in a few tensor operations, so nothing but torch is needed. Scale, threshold and
thickness are drawn anew for every sample, because people's drawings differ in all three.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.cond_stage.base import ControlCondition, Size
from taming.cond_stage.lowres import resize
from taming.cond_stage.sources import as_image, describe, to_float

LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def find_edges(image: Tensor, sigma: float = 1.2, low: float = 0.05, high: float = 0.12) -> Tensor:
    """Thin edges of a picture: (3, H, W) in [-1, 1] -> float32 (1, H, W), 0 or 1.

    `low` and `high` are slopes per pixel of brightness in [0, 1]: a line begins where `high` is
    passed and goes on as long as `low` is.
    """
    grey = torch.einsum("chw,c->hw", image.float() * 0.5 + 0.5, torch.tensor(LUMA))[None, None]
    radius = min(max(1, round(2.5 * sigma)), min(grey.shape[-2:]) - 1)
    if radius < 1:
        return grey.new_zeros(1, *grey.shape[-2:])
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1.0) / sigma) ** 2)
    taps = taps / taps.sum()
    grey = F.pad(grey, (radius,) * 4, mode="reflect")
    grey = F.conv2d(F.conv2d(grey, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    padded = F.pad(grey, (1, 1, 1, 1), mode="replicate")[0, 0]
    dx = (padded[1:-1, 2:] - padded[1:-1, :-2]) * 0.5
    dy = (padded[2:, 1:-1] - padded[:-2, 1:-1]) * 0.5
    slope = torch.hypot(dx, dy)  # (H, W)

    # Thinning: a pixel stays if it is the steepest of three across its edge.
    sector = torch.round(torch.atan2(dy, dx) / (torch.pi / 4)).long() % 4
    around = F.pad(slope, (1, 1, 1, 1))
    height, width = slope.shape
    ridge = torch.zeros_like(slope, dtype=torch.bool)
    for index, (down, right) in enumerate([(0, 1), (1, 1), (1, 0), (1, -1)]):
        after = around[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        before = around[1 - down : 1 - down + height, 1 - right : 1 - right + width]
        ridge |= (sector == index) & (slope >= before) & (slope > after)

    weak = (ridge & (slope > low)).float()[None]  # (1, H, W)
    line = weak * (slope > high)
    while True:  # strong lines grow along weak ones until nothing is added
        grown = weak * F.max_pool2d(line, 3, stride=1, padding=1)
        if torch.equal(grown, line):
            return line
        line = grown


class Edges(ControlCondition):
    """Values are float32 (1, H, W) in [0, 1], 1 on a line."""

    name = "edges"

    def __init__(self, width: int, downsample_factor: int) -> None:
        super().__init__(width, downsample_factor, channels=1)

    def read(self, source: Any, size: Size, photo: bool | None = None) -> Tensor:
        """A drawing, dark on light or light on dark; or a photograph, whose edges are found.

        Which of the two is seen from its greys: drawings have few between paper and ink. `photo`
        says so outright.
        """
        image = to_float(as_image(source))  # (3, H, W)
        grey = torch.einsum("chw,c->hw", image * 0.5 + 0.5, torch.tensor(LUMA))
        darkest, lightest = float(grey.min()), float(grey.max())
        if lightest - darkest < 0.1:
            raise ValueError(
                f"{describe(source)} is one flat tone, there is no line in it; "
                f"draw dark on light or light on dark"
            )
        if photo is None:
            level = (grey - darkest) / (lightest - darkest)
            photo = float(((level > 0.15) & (level < 0.85)).float().mean()) > 0.25
        if photo:
            return find_edges(resize(image, size))
        ink = lightest - grey if float(grey.median()) > (darkest + lightest) / 2 else grey - darkest
        ink = resize(ink[None].expand(3, -1, -1) * 2 - 1, size)[:1] * 0.5 + 0.5
        return (ink / ink.max().clamp(min=1e-6)).clamp(0.0, 1.0)  # thin lines fade when shrunk

    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        image = torch.as_tensor(sample["image"], dtype=torch.float32)
        high = float(rng.uniform(0.04, 0.16))
        lines = find_edges(image, float(rng.uniform(0.8, 2.0)), high * 0.4, high)
        if rng.random() < 0.33:  # a broad pen
            lines = F.max_pool2d(lines, 3, stride=1, padding=1)
        return lines

    def blank(self, size: Size) -> Tensor:
        return torch.zeros(1, *size)

    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        """Ink on paper."""
        ink = value[0].detach().float().cpu().numpy()[..., None]
        paper, black = np.array([250.0, 249.0, 245.0]), np.array([30.0, 28.0, 36.0])
        return (paper + (black - paper) * ink).round().astype(np.uint8)
