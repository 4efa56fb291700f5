"""The contract of all quantizers, and remapping to the codes in use.

A quantizer rounds features (B,D,h,w) to one of V codes per cell and lets a gradient through. It
knows nothing of images or of the networks around it. Everything is computed in float32, also
inside autocast: in bfloat16 neighbouring codes tie.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn


class QuantizerInfo(NamedTuple):
    perplexity: Tensor  # (): exp(entropy) of the codes of this batch, 1..V
    min_encodings: Tensor | None  # one-hot codes (N,V), in the oldest published form only
    indices: Tensor  # int64; (B*h*w,) in the published form, else (B,h,w)


class Quantized(NamedTuple):
    z_q: Tensor  # (B, D, h, w), float32
    loss: Tensor  # ()
    info: QuantizerInfo


def code_counts(indices: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs: float32 (V,)."""
    flat = indices.reshape(-1)
    counts = torch.zeros(codebook_size, device=flat.device)
    return counts.index_add_(0, flat, torch.ones_like(flat, dtype=counts.dtype))


def perplexity(counts: Tensor) -> Tensor:
    """exp(entropy): the number of equally frequent codes that would be as diverse."""
    share = counts / counts.sum().clamp(min=1)
    return torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum())


def usage(counts: Tensor) -> float:
    """The share of the codebook that occurs at all, 0..1."""
    return float((counts > 0).float().mean())


class Quantizer(nn.Module, ABC):
    """The contract: `forward`, `nearest`, `lookup`; V = `codebook_size`, D = `codebook_dim`."""

    def __init__(self, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.codebook_dim = codebook_dim

    @abstractmethod
    def forward(self, z: Tensor) -> Quantized:
        """z (B,D,h,w) of any float type."""

    @abstractmethod
    def nearest(self, z: Tensor) -> Tensor:
        """(B,D,h,w) -> int64 (B,h,w): the codes that `forward` uses outside training."""

    @abstractmethod
    def lookup(self, indices: Tensor) -> Tensor:
        """int64 (B,h,w) in [0,V) -> (B,D,h,w), equal to `forward(z).z_q` of those codes."""

    def get_codebook_entry(
        self, indices: Tensor, shape: tuple[int, int, int, int] | None = None
    ) -> Tensor:
        """The published spelling of `lookup`: any shape of indices, shape = (b,h,w,c) or None.

        Without `shape` the codes come last: indices (N,) give (N,D), a grid (B,h,w) gives
        (B,h,w,D).
        """
        if shape is None:
            rows = self.lookup(indices.reshape(1, 1, -1))  # (1, D, 1, N)
            return rearrange(rows, "1 d 1 n -> n d").reshape(*indices.shape, -1)
        b, h, w, _ = shape
        return self.lookup(indices.reshape(b, h, w))

    def embed_code(self, indices: Tensor) -> Tensor:
        """`lookup` by the name that `decode_code` of dependent projects calls."""
        return self.lookup(indices)


class RemappedQuantizer(Quantizer):
    """A quantizer with a table of `n_e` codes, of which a file may name those in use.

    `remap` is a .npy file of codes: indices then count only those (V is their number), and others
    become `unknown_index`: "random", "extra" (one more index) or a number. `sane_index_shape`
    gives `info.indices` as a grid (B,h,w); without it they are flat, as published.
    """

    used: Tensor

    def __init__(
        self,
        n_e: int,
        e_dim: int,
        remap: str | None = None,
        unknown_index: str | int = "random",
        sane_index_shape: bool = True,
    ) -> None:
        super().__init__(n_e, e_dim)
        self.n_e = n_e  # rows of the table
        self.e_dim = e_dim
        self.remap = remap
        self.sane_index_shape = sane_index_shape
        self.unknown_index = unknown_index
        self.re_embed = n_e
        if remap is not None:
            self._register_remap(remap)

    def _info(self, shown: Tensor, counts: Tensor) -> QuantizerInfo:
        return QuantizerInfo(
            perplexity(counts), None, shown if self.sane_index_shape else shown.reshape(-1)
        )

    def _register_remap(self, path: str) -> None:
        used = torch.from_numpy(np.load(path).astype(np.int64))
        if used.ndim != 1 or len(used) == 0 or int(used.min()) < 0 or int(used.max()) >= self.n_e:
            raise ValueError(
                f"{path} must list codes in [0, {self.n_e}); it holds {tuple(used.shape)} values "
                "of another range. Count the codes of this very codebook anew"
            )
        self.register_buffer("used", used)
        self.re_embed = len(used)
        if self.unknown_index == "extra":
            self.unknown_index = self.re_embed
            self.re_embed += 1
        self.codebook_size = self.re_embed

    def _to_used(self, indices: Tensor) -> Tensor:
        if self.remap is None:
            return indices
        count = len(self.used)
        if self.unknown_index == "random":
            # Drawn once for ever, so that the same picture has the same codes.
            generator = torch.Generator().manual_seed(0)
            places = torch.randint(count, (self.n_e,), generator=generator).to(indices.device)
        else:
            places = torch.full((self.n_e,), int(self.unknown_index), device=indices.device)
        places[self.used] = torch.arange(count, device=indices.device)
        return places[indices]

    def _from_used(self, indices: Tensor) -> Tensor:
        if self.remap is None:
            return indices
        # The extra index has no code of its own; the published form shows the first.
        return self.used[torch.where(indices < len(self.used), indices, 0)]
