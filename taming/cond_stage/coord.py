"""Where in the whole picture a crop lies -> prefix tokens of the published second stage.

A map (B,1,H,W) in [0, 1] numbers the pixels of the whole picture row by row; its mean over every
cell, times the number of tokens, is a token. So a model of crops knows what belongs where, and
paints pictures larger than a crop. Esser et al., arXiv 2012.09841, section 3.2 on images of any
size. It speaks the language of a first stage and holds no weights.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class CoordStage(nn.Module):
    """Maps (B,1,H,W) in [0, 1] -> tokens (B,1,h,w) in [0, n_embed), h = H / down_factor."""

    def __init__(self, n_embed: int, down_factor: int) -> None:
        super().__init__()
        self.n_embed = n_embed
        self.down_factor = down_factor

    @property
    def codebook_size(self) -> int:
        return self.n_embed

    def encode(self, c: Tensor) -> tuple[Tensor, None, tuple[Any, Any, Tensor]]:
        """Rounded coordinates (B,1,h,w), no loss, (None, None, tokens)."""
        if c.ndim != 4 or c.shape[1] != 1 or not 0 <= float(c.min()) <= float(c.max()) <= 1:
            raise ValueError(
                f"coordinates have shape {tuple(c.shape)} and values in [{float(c.min()):g}, "
                f"{float(c.max()):g}]; expected (B, 1, H, W) and [0, 1]"
            )
        size = [side // self.down_factor for side in c.shape[-2:]]
        rounded = (self.n_embed * F.interpolate(c, size=size, mode="area").clamp(0, 1)).round()
        # The far end rounds to one token more than there are.
        return rounded, None, (None, None, rounded.long().clamp(max=self.n_embed - 1))

    def decode(self, c: Tensor) -> Tensor:
        """Rounded coordinates (B,1,h,w) -> a map (B,1,H,W) in [0, 1]."""
        return F.interpolate(c / self.n_embed, scale_factor=self.down_factor, mode="nearest")

    def show(self, c: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (B,1,H,W) -> pictures (B,3,H,W) in [-1, 1], black where the picture begins."""
        return F.interpolate(2 * c - 1, size=size, mode="nearest").expand(-1, 3, -1, -1)
