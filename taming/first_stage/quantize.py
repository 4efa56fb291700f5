"""Quantizers: features (B,D,h,w) to the nearest of V codes, with a gradient that passes through.

`Quantizer` is the contract; here are its own nearest-neighbour forms:

- `VectorQuantizer`: van den Oord et al., "Neural Discrete Representation Learning" (arXiv
  1711.00937, eq. 1-3). With `normalize=True` codes and features lie on the unit sphere, in few
  dimensions (Yu et al., arXiv 2110.04627, section 3.2), which keeps all of a large codebook in use.
- `VectorQuantizer2`: the same with the published models' signature and their misplaced beta.
- `EMAVectorQuantizer`: codes are running means of their features (1711.00937, appendix A.1).

Everything is computed in float32, also inside autocast: in bfloat16 neighbouring codes tie.
Quantizers know nothing of images or of the networks around them.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

# Distances held at once; 2**22 float32 are 16 MB, about what stays in a processor's cache.
CHUNK = 1 << 22


class QuantizerInfo(NamedTuple):
    perplexity: Tensor  # (): exp(entropy) of the codes of this batch, 1..V
    min_encodings: None  # one-hot codes in the oldest published form; never needed
    indices: Tensor  # int64; (B*h*w,) in the published form, else (B,h,w)


class Quantized(NamedTuple):
    z_q: Tensor  # (B, D, h, w), float32
    loss: Tensor  # ()
    info: QuantizerInfo


def nearest_code(z: Tensor, codes: Tensor) -> Tensor:
    """Index of the Euclidean nearest of `codes` (V,D) for each row of `z` (N,D): (N,)."""
    # argmin |z - e|^2 = argmin |e|^2 / 2 - z.e: one matrix product, never a (N,V,D) tensor
    half_norms = codes.square().sum(dim=1) / 2  # (V,)
    rows = max(1, CHUNK // codes.shape[0])
    parts = [
        torch.addmm(half_norms, part, codes.T, alpha=-1).argmin(dim=1) for part in z.split(rows)
    ]
    return torch.cat(parts)


def code_counts(indices: Tensor, codebook_size: int) -> Tensor:
    """How often each code occurs: float32 (V,)."""
    flat = indices.reshape(-1)
    counts = torch.zeros(codebook_size, device=flat.device)
    return counts.index_add_(0, flat, torch.ones_like(flat, dtype=counts.dtype))


def perplexity(counts: Tensor) -> Tensor:
    """exp(entropy): the number of equally frequent codes that would be as diverse."""
    share = counts / counts.sum().clamp(min=1)
    return torch.exp(-(share * torch.log(share.clamp(min=1e-12))).sum())


def straight_through(z: Tensor, z_q: Tensor) -> Tensor:
    """The value of `z_q` with the gradient of `z`."""
    return z + (z_q - z).detach()


class Quantizer(nn.Module):
    """The contract: `forward`, `nearest`, `lookup`; V = `codebook_size`, D = `codebook_dim`."""

    def __init__(self, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.codebook_size = codebook_size
        self.codebook_dim = codebook_dim

    def forward(self, z: Tensor) -> Quantized:
        """z (B,D,h,w) of any float type."""
        raise NotImplementedError

    def nearest(self, z: Tensor) -> Tensor:
        """(B,D,h,w) -> int64 (B,h,w): the codes that `forward` uses outside training."""
        raise NotImplementedError

    def lookup(self, indices: Tensor) -> Tensor:
        """int64 (B,h,w) in [0,V) -> (B,D,h,w), equal to `forward(z).z_q` of those codes."""
        raise NotImplementedError

    def get_codebook_entry(
        self, indices: Tensor, shape: tuple[int, int, int, int] | None = None
    ) -> Tensor:
        """The published spelling of `lookup`: any shape of indices, shape = (b,h,w,c) or None.

        Without `shape` the result is (N,D), one row an index.
        """
        if shape is None:
            rows = self.lookup(indices.reshape(1, 1, -1))  # (1, D, 1, N)
            return rearrange(rows, "1 d 1 n -> n d")
        b, h, w, _ = shape
        return self.lookup(indices.reshape(b, h, w))


class CodebookQuantizer(Quantizer):
    """What quantizers with a table of codes `embedding.weight` share: usage, restarts, remapping.

    `remap` names a .npy file with the codes in use: indices then count only those (V is their
    number), and others become `unknown_index`: "random", "extra" (one more index) or a number.
    """

    used: Tensor
    usage: Tensor

    def __init__(
        self,
        n_e: int,
        e_dim: int,
        remap: str | None = None,
        unknown_index: str | int = "random",
        sane_index_shape: bool = True,
        usage_decay: float = 0.98,
    ) -> None:
        super().__init__(n_e, e_dim)
        self.n_e = n_e  # rows of the table
        self.e_dim = e_dim
        self.embedding: nn.Module
        self.remap = remap
        self.sane_index_shape = sane_index_shape
        self.usage_decay = usage_decay
        self.unknown_index = unknown_index
        self.re_embed = n_e
        if remap is not None:
            self._register_remap(remap)
        # Usage of each code relative to the average, 1 = average. Not part of published files.
        self.register_buffer("usage", torch.ones(n_e), persistent=False)
        self._recent: Tensor | None = None  # (N, D): where dead codes restart

    # --- the table ---

    def table(self) -> Tensor:
        """The codes as they are compared and looked up: float32 (n_e, D)."""
        weight = self.embedding.weight
        assert isinstance(weight, Tensor)
        return weight.float()

    def nearest(self, z: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            return self._to_used(self._assign(self.prepare(z.float())))

    def prepare(self, z: Tensor) -> Tensor:
        """What is rounded: z itself, or its projection."""
        return z

    def lookup(self, indices: Tensor) -> Tensor:
        with torch.autocast(indices.device.type, enabled=False):
            return self._rows(self._from_used(indices))

    def _assign(self, z: Tensor) -> Tensor:
        b, _, h, w = z.shape
        flat = rearrange(z.detach(), "b d h w -> (b h w) d")
        with torch.no_grad():
            return nearest_code(flat, self.table()).reshape(b, h, w)

    def _rows(self, indices: Tensor) -> Tensor:
        return rearrange(F.embedding(indices, self.table()), "b h w d -> b d h w")

    def _info(self, indices: Tensor, counts: Tensor) -> QuantizerInfo:
        shown = self._to_used(indices)
        return QuantizerInfo(
            perplexity(counts), None, shown if self.sane_index_shape else shown.reshape(-1)
        )

    # --- usage and restarts ---

    @torch.no_grad()
    def _observe(self, z: Tensor, indices: Tensor) -> Tensor:
        """Counts the codes of a batch; in training remembers who is used and by what."""
        counts = code_counts(indices, self.n_e)  # (n_e,)
        if self.training:
            total = _sum_over_devices(counts.clone())
            relative = total * (self.n_e / total.sum())
            self.usage.lerp_(relative, 1 - self.usage_decay)
            self._recent = rearrange(z.detach(), "b d h w -> (b h w) d")
        return counts

    @torch.no_grad()
    def restart_dead(self, generator: torch.Generator, min_usage: float = 0.03) -> Tensor:
        """Moves codes used less than `min_usage` of the average onto features of the last batch.

        Call it between training steps, after the optimiser's. Returns the rows that moved (n,), so
        that averages of the weights can copy them and optimisers forget their momentum.
        """
        dead = torch.nonzero(self.usage < min_usage).flatten()
        if self._recent is None or len(dead) == 0:
            return dead[:0]
        # Features of one picture resemble each other: draw from all of the batch, each at most once
        chosen = torch.randperm(len(self._recent), generator=generator)[: len(dead)]
        dead = dead[: len(chosen)]
        rows = self._recent[chosen.to(self._recent.device)]
        self._replace(dead, _from_first_device(rows.float().contiguous()))
        self.usage[dead] = 1.0
        return dead

    def _replace(self, indices: Tensor, rows: Tensor) -> None:
        weight = self.embedding.weight
        assert isinstance(weight, Tensor)
        weight[indices] = rows.to(weight.dtype)

    def training_state(self) -> dict[str, Tensor]:
        """What an exact resume needs beyond the state dict."""
        return {"usage": self.usage.clone()}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        self.usage.copy_(state["usage"])

    # --- remapping to the codes in use ---

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


class VectorQuantizer(CodebookQuantizer):
    """Nearest code, straight-through gradient, codebook and commitment loss.

    loss = |sg(z) - e|^2 + beta |z - sg(e)|^2, means over all entries (1711.00937, eq. 3).
    `normalize` compares and returns unit vectors. `legacy` exchanges the two weights.
    """

    def __init__(
        self,
        n_e: int,  # V
        e_dim: int,  # D
        beta: float = 0.25,  # weight of the commitment loss
        normalize: bool = False,
        remap: str | None = None,
        unknown_index: str | int = "random",
        sane_index_shape: bool = True,
        legacy: bool = False,
        usage_decay: float = 0.98,
    ) -> None:
        super().__init__(n_e, e_dim, remap, unknown_index, sane_index_shape, usage_decay)
        self.beta = beta
        self.normalize = normalize
        self.legacy = legacy
        self.embedding = nn.Embedding(n_e, e_dim)
        if normalize:
            nn.init.normal_(self.embedding.weight)  # uniform over the sphere
            with torch.no_grad():
                self.embedding.weight.copy_(F.normalize(self.embedding.weight, dim=1))
        else:
            nn.init.uniform_(self.embedding.weight, -1.0 / n_e, 1.0 / n_e)

    def table(self) -> Tensor:
        weight = super().table()
        return F.normalize(weight, dim=1) if self.normalize else weight

    def prepare(self, z: Tensor) -> Tensor:
        return F.normalize(z, dim=1) if self.normalize else z

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            z = self.prepare(z.float())  # (B, D, h, w)
            indices = self._assign(z)  # (B, h, w)
            counts = self._observe(z, indices)
            z_q = self._rows(indices)  # (B, D, h, w)
            codebook_loss = F.mse_loss(z_q, z.detach())
            commitment_loss = F.mse_loss(z, z_q.detach())
            if self.legacy:
                loss = self.beta * codebook_loss + commitment_loss
            else:
                loss = codebook_loss + self.beta * commitment_loss
            return Quantized(straight_through(z, z_q), loss, self._info(indices, counts))


class VectorQuantizer2(VectorQuantizer):
    """The published models' signature and defaults: beta weighs the codebook term."""

    def __init__(
        self,
        n_e: int,
        e_dim: int,
        beta: float,
        remap: str | None = None,
        unknown_index: str | int = "random",
        sane_index_shape: bool = False,
        legacy: bool = True,
    ) -> None:
        super().__init__(n_e, e_dim, beta, False, remap, unknown_index, sane_index_shape, legacy)


def _sum_over_devices(counts: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(counts)
    return counts


def _from_first_device(rows: Tensor) -> Tensor:
    if dist.is_available() and dist.is_initialized():
        dist.broadcast(rows, 0)
    return rows
