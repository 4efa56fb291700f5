"""Where the joints of one person are -> prefix tokens of the published second stage.

Two tokens a joint, how far right and how far down, for the 19 joints of a batch in their order; the
last token of the vocabulary is a joint that nobody sees. Esser et al., arXiv 2012.09841, report
pose-guided synthesis of people with 84 tokens whose meaning was not published; these are 38.
It speaks the language of a first stage, as `prefix_tokens` does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from taming.cond_stage.prefix_tokens import Encoded, PrefixTokens
from taming.cond_stage.skeleton import draw_sticks
from taming.data.batch import JOINTS


class PoseTokens(PrefixTokens):
    """People (B,N,19,3) as a batch holds them, pixels and visibility -> tokens (B,38)."""

    tokens = 2 * len(JOINTS)

    def __init__(
        self,
        n_embed: int,  # tokens there are
        size: int | tuple[int, int] = 256,  # height and width of the pictures
        quantize_interface: bool = True,
    ) -> None:
        super().__init__(quantize_interface)
        if n_embed < 3:
            raise ValueError(f"n_embed is {n_embed}; two places and 'not seen' need at least 3")
        self.n_embed = n_embed
        height, width = (size, size) if isinstance(size, int) else size
        self.size = (int(height), int(width))

    @property
    def codebook_size(self) -> int:
        return self.n_embed

    def encode(self, c: Tensor) -> Encoded | Tensor:
        """Tokens of the person with the most visible joints; of nobody, if there is none."""
        person, seen = self._one(c)
        places = ((person + 0.5) / self._extent(c)).clamp(0, 1)  # pixel centres are integers
        tokens = (places * (self.n_embed - 2)).round().long()  # (B, 19, 2)
        tokens = torch.where(seen[..., None], tokens, self.n_embed - 1)
        return self._as_quantizer(rearrange(tokens, "b joints xy -> b (joints xy)"))

    def _one(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B,19,2) in pixels and which of them are seen (B,19); outside is unseen."""
        if c.ndim != 4 or tuple(c.shape[2:]) != (len(JOINTS), 3):
            raise ValueError(
                f"people have shape {tuple(c.shape)}; expected (B, N, {len(JOINTS)}, 3): x and y "
                f"in pixels, and visibility"
            )
        inside = (c[..., :2] >= -0.5) & (c[..., :2] <= self._extent(c) - 0.5)
        seen = (c[..., 2] > 0) & inside.all(dim=-1)  # (B, N, 19)
        chosen = seen.sum(dim=-1).argmax(dim=-1)  # (B,)
        rows = torch.arange(len(c), device=c.device)
        return c[rows, chosen, :, :2].float(), seen[rows, chosen]

    def _extent(self, c: Tensor) -> Tensor:
        """Width and height, as x and y are ordered."""
        return torch.tensor(self.size[::-1], device=c.device, dtype=torch.float32)

    def show(self, c: Tensor, size: tuple[int, int]) -> Tensor:
        """The person as coloured sticks: people -> pictures (B,3,H,W) in [-1, 1]."""
        points, seen = self._one(c)
        places = (points + 0.5) / self._extent(c)
        people = torch.cat([places, seen[..., None].float()], dim=-1).cpu().numpy()
        drawn: Any = np.stack([draw_sticks(person[None], size) for person in people])
        return torch.from_numpy(drawn).permute(0, 3, 1, 2) / 127.5 - 1
