"""The parts that the any-order transformer is made of. They know nothing of orders or pictures.

RMSNorm before each part, SwiGLU, normalised queries and keys, and rotary positions in two
dimensions. Sources: Zhang and Sennrich 2019 (arXiv 1910.07467); Shazeer 2020 (arXiv 2002.05202);
Henry et al. 2020 (arXiv 2010.04245); Su et al. 2021 (arXiv 2104.09864), with half of the channels
turned by the row and half by the column.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from taming.transformer import training_attention
from taming.transformer.cache import LayerCache
from taming.transformer.norms import normed_rotation, rms_norm


class Rotation(NamedTuple):
    """Cosine and sine of every channel's angle, (B or 1, S, head_dim) each.

    Channel i makes a pair with i + head_dim / 2; the sines of the first half have a minus sign.
    """

    cos: Tensor
    sin: Tensor

    def at(self, cells: Tensor) -> Rotation:
        """The rotations of some cells (B, n) out of a table for the whole grid (1, T, ...)."""
        return Rotation(self.cos[0][cells], self.sin[0][cells])

    def pad_front(self, count: int) -> Rotation:
        """The same with `count` unrotated tokens in front."""
        return Rotation(
            F.pad(self.cos, (0, 0, count, 0), value=1.0), F.pad(self.sin, (0, 0, count, 0))
        )


def grid_rotation(
    height: int, width: int, head_dim: int, device: torch.device, base: float = 100.0
) -> Rotation:
    """Angles by row and column of an h x w grid, (1, T, head_dim); cells in raster order."""
    frequency = base ** -torch.linspace(0, 1, head_dim // 4, device=device)
    cells = torch.arange(height * width, device=device)
    rows, columns = cells // width + 1.0, cells % width + 1.0  # 0 is where unplaced tokens stand
    angles = torch.cat([rows[:, None] * frequency, columns[:, None] * frequency], dim=1)
    cos, sin = angles.cos(), angles.sin()
    return Rotation(torch.cat([cos, cos], dim=1)[None], torch.cat([-sin, sin], dim=1)[None])


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn channel pairs (i, i + head_dim/2) of x (B, heads, S, head_dim) by their angles."""
    cos, sin = rotation.cos[:, None].to(x.dtype), rotation.sin[:, None].to(x.dtype)
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    mask: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention, heads merged: (B, heads, S, head_dim) -> (B, S, C).

    With `causal`, the last query sees all keys, the one before it all but one, and so on.
    """
    if mask is None and not dropout and training_attention.pays(q, k):
        out = training_attention.attention(q, k, v, causal)
    else:
        # Blank queries in front make the matrix square, which keeps the fused causal kernel.
        blank = k.shape[2] - q.shape[2] if causal else 0
        q = F.pad(q, (0, 0, blank, 0)) if blank else q
        out = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=causal)
        out = out[:, :, blank:]
    return rearrange(out, "b heads s d -> b s (heads d)")


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor | None:
    """True where query i may see key j when the last query stands at the last key; None if all."""
    if queries == 1:
        return None
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis, in the type that the layers behind it compute in.

    Under autocast the stream is float32 and linear layers take bf16: rounding before the norm
    instead of behind it costs no accuracy, and half of the norm's own time.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        if torch.is_autocast_enabled(kind):
            x = x.to(torch.get_autocast_dtype(kind))
        return rms_norm(x, self.weight)

    def rotated(self, x: Tensor, rotation: Rotation) -> Tensor:
        """The norm of every head of x (B, heads, S, head_dim), turned."""
        return normed_rotation(x, self.weight, rotation.cos, rotation.sin)


class SwiGLU(nn.Module):
    """Gated feed-forward layer; about 8/3 of the width inside, a multiple of 32."""

    def __init__(self, width: int, ratio: float = 8 / 3) -> None:
        super().__init__()
        hidden = max(32, round(width * ratio / 32) * 32)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class SelfAttention(nn.Module):
    """Self-attention with normalised queries and keys; optionally over a cache of the past."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = RMSNorm(width // heads)
        self.k_norm = RMSNorm(width // heads)
        self.proj = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, rotation: Rotation, causal: bool, cache: LayerCache | None = None
    ) -> Tensor:
        q, k, v = rearrange(
            self.qkv(x), "b s (three heads d) -> three b heads s d", three=3, heads=self.heads
        )
        q, k = self.q_norm.rotated(q, rotation), self.k_norm.rotated(k, rotation)
        if cache is None:
            return self.proj(attend(q, k, v, causal=causal))
        k, v = cache.extend(k, v)
        if k.shape[2] == q.shape[2]:  # nothing came before: no mask, which costs the fused kernel
            return self.proj(attend(q, k, v, causal=True))
        return self.proj(attend(q, k, v, mask=causal_mask(q.shape[2], k.shape[2], x.device)))


class Block(nn.Module):
    """Pre-norm transformer layer: self-attention, then SwiGLU."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attn_norm, self.mlp_norm = RMSNorm(width), RMSNorm(width)
        self.attn, self.mlp = SelfAttention(width, heads), SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, rotation: Rotation, causal: bool, cache: LayerCache | None = None
    ) -> Tensor:
        x = x + self.dropout(self.attn(self.attn_norm(x), rotation, causal, cache))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class QueryBlock(nn.Module):
    """Layer of the query stream: attends to the content only; queries do not see one another."""

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm, self.mlp_norm = RMSNorm(width), RMSNorm(width)
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.q_norm = RMSNorm(width // heads)
        self.k_norm = RMSNorm(width // heads)
        self.proj = nn.Linear(width, width, bias=False)
        self.mlp = SwiGLU(width)
        self.dropout = nn.Dropout(dropout)

    def project_content(self, content: Tensor, rotation: Rotation) -> tuple[Tensor, Tensor]:
        """Keys and values (B, heads, S, head_dim) of the content (B, S, C) for this layer."""
        k, v = rearrange(
            self.key_value(content), "b s (two heads d) -> two b heads s d", two=2, heads=self.heads
        )
        return self.k_norm.rotated(k, rotation), v

    def forward(
        self, x: Tensor, rotation: Rotation, keys_values: tuple[Tensor, Tensor], causal: bool
    ) -> Tensor:
        """x (B, m, C). With `causal`, query i sees keys up to i + (keys - queries)."""
        q = rearrange(
            self.query(self.query_norm(x)), "b m (heads d) -> b heads m d", heads=self.heads
        )
        q = self.q_norm.rotated(q, rotation)
        x = x + self.dropout(self.proj(attend(q, *keys_values, causal=causal)))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))
