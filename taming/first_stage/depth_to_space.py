"""The last step of a light decoder: cells of features to squares of pixels, and over their seams.

Shi et al., "Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel
Convolutional Neural Network" (arXiv 1609.05158). Knows nothing of the decoder.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@torch.no_grad()
def start_without_checkerboard(layer: nn.Conv2d, stem: int) -> None:
    """All pixels of a cell begin with one kernel (Aitken et al., arXiv 1707.02937)."""
    assert layer.bias is not None
    for weight in (layer.weight, layer.bias):
        weight.copy_(weight[:: stem**2].repeat_interleave(stem**2, dim=0))


class Refinement(nn.Module):
    """Adds to a picture what is made of it and of features beside it; at first nothing.

    Depth-to-space fills each square of stem x stem pixels from one cell, and nothing behind it sees
    where squares meet. At full resolution few channels are enough for that.
    """

    def __init__(self, in_channels: int, width: int, out_ch: int, stem: int) -> None:
        super().__init__()
        self.stem = stem
        self.conv_in = nn.Conv2d(in_channels, width * stem**2, 3, padding=1)
        self.mix = nn.Conv2d(out_ch + width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, out_ch, 3, padding=1)
        start_without_checkerboard(self.conv_in, stem)
        for start in self.conv_out.parameters():
            nn.init.zeros_(start)

    def forward(self, picture: Tensor, features: Tensor) -> Tensor:
        """(B, out_ch, H, W) and (B, C, H/stem, W/stem) -> (B, out_ch, H, W)"""
        beside = F.pixel_shuffle(self.conv_in(features), self.stem)  # (B, width, H, W)
        return picture + self.conv_out(F.silu(self.mix(torch.cat([picture, beside], dim=1))))
