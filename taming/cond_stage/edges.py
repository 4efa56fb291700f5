"""A line drawing -> control on the grid.

Lines for training are found in the picture itself (J. Canny, A computational approach to edge
detection, 1986). Scale, threshold and thickness are drawn anew for every sample, because people's
drawings differ in all three.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.cond_stage.base import ControlCondition, Size
from taming.cond_stage.sources import as_image, describe, resize, to_float, to_pixels

LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def find_edges(image: Tensor, sigma: float = 1.2, low: float = 0.03, high: float = 0.08) -> Tensor:
    """Thin edges of a picture: (3, H, W) in [-1, 1] -> float32 (1, H, W), 0 or 1.

    `low` and `high` are slopes per pixel of brightness in [0, 1]: a line begins where `high` is
    passed and goes on as long as `low` is.
    """
    import cv2  # comes with albumentations; only edges need it here

    grey = cv2.cvtColor(to_pixels(image), cv2.COLOR_RGB2GRAY)
    grey = cv2.GaussianBlur(grey, (0, 0), sigma)
    steepness = 8.0 * 255.0  # what Sobel's 3x3 filter gives for a slope of 1 per pixel
    lines = cv2.Canny(grey, low * steepness, high * steepness, L2gradient=True)
    return torch.from_numpy(lines).float()[None] / 255.0


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
