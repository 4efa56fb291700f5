"""Quantizers by nearest neighbour in a table of codes.

- `VectorQuantizer`: van den Oord et al., "Neural Discrete Representation Learning" (arXiv
  1711.00937, eq. 1-3). With `normalize=True` codes and features lie on the unit sphere, in few
  dimensions (Yu et al., arXiv 2110.04627, section 3.2), which keeps all of a large codebook in use.
- `VectorQuantizer2`: the same with the published models' signature and their misplaced beta.
- `EMAVectorQuantizer`: codes are running means of their features (1711.00937, appendix A.1).

All count the usage of their codes and can restart dead ones (Williams et al., arXiv 2002.08111,
section 3; Dhariwal et al., arXiv 2005.00341, section 3.1).
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from taming.first_stage.devices import from_first_device, sum_over_devices
from taming.first_stage.quantize_base import (
    Quantized,
    Quantizer,
    QuantizerInfo,
    RemappedQuantizer,
    code_counts,
)

__all__ = [
    "CodebookQuantizer",
    "EMAVectorQuantizer",
    "Quantized",
    "Quantizer",
    "QuantizerInfo",
    "VectorQuantizer",
    "VectorQuantizer2",
    "nearest_code",
]

# Distances held at once; 2**22 float32 are 16 MB, about what stays in a processor's cache.
CHUNK = 1 << 22


def nearest_code(z: Tensor, codes: Tensor) -> Tensor:
    """Index of the Euclidean nearest of `codes` (V,D) for each row of `z` (N,D): (N,)."""
    # argmin |z - e|^2 = argmin |e|^2 / 2 - z.e: one matrix product, never a (N,V,D) tensor
    half_norms = codes.square().sum(dim=1) / 2  # (V,)
    rows = max(1, CHUNK // codes.shape[0])
    parts = [
        torch.addmm(half_norms, part, codes.T, alpha=-1).argmin(dim=1) for part in z.split(rows)
    ]
    return torch.cat(parts)


def straight_through(z: Tensor, z_q: Tensor) -> Tensor:
    """The value of `z_q` with the gradient of `z`."""
    return z + (z_q - z).detach()


class CodebookQuantizer(RemappedQuantizer):
    """What quantizers with a table of codes `embedding.weight` share: usage and restarts."""

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
        super().__init__(n_e, e_dim, remap, unknown_index, sane_index_shape)
        self.embedding: nn.Module
        self.usage_decay = usage_decay
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

    # --- usage and restarts ---

    @torch.no_grad()
    def _observe(self, z: Tensor, indices: Tensor) -> Tensor:
        """Counts the codes of a batch; in training remembers who is used and by what."""
        counts = code_counts(indices, self.n_e)  # (n_e,)
        if self.training:
            total = sum_over_devices(counts)
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
        rows = self._recent.new_zeros(len(dead), self._recent.shape[1], dtype=torch.float32)
        rows[: len(chosen)] = self._recent[chosen.to(rows.device)].float()
        # The first device's alone are taken: batches of others may be larger or smaller.
        count = int(from_first_device(torch.tensor([len(chosen)], device=rows.device)))
        rows, dead = from_first_device(rows)[:count], dead[:count]
        self._replace(dead, rows)
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
            return Quantized(
                straight_through(z, z_q), loss, self._info(self._to_used(indices), counts)
            )


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

    def forward(
        self,
        z: Tensor,
        temp: float | None = None,
        rescale_logits: bool = False,
        return_logits: bool = False,
    ) -> Quantized:
        """The arguments beside z are those of a Gumbel quantizer in its place: nothing to set."""
        if temp not in (None, 1.0) or rescale_logits or return_logits:
            raise ValueError(
                f"a nearest code has neither temperature nor logits; temp is {temp}, "
                f"rescale_logits {rescale_logits}, return_logits {return_logits}: leave them out"
            )
        return super().forward(z)


class EmbeddingEMA(nn.Module):
    """A table of codes that no optimiser moves: running means of the features of each code."""

    weight: Tensor
    cluster_size: Tensor
    embed_avg: Tensor

    def __init__(self, n_e: int, e_dim: int) -> None:
        super().__init__()
        weight = torch.randn(n_e, e_dim)
        self.register_buffer("weight", weight)
        self.register_buffer("cluster_size", torch.zeros(n_e))
        self.register_buffer("embed_avg", weight.clone())

    def forward(self, indices: Tensor) -> Tensor:
        """int64 of any shape -> (..., D), as an embedding layer answers."""
        return F.embedding(indices, self.weight)


class EMAVectorQuantizer(CodebookQuantizer):
    """Nearest code; the codes follow their features; loss = beta |z - e|^2."""

    embedding: EmbeddingEMA

    def __init__(
        self,
        n_e: int,  # V
        e_dim: int,  # D
        beta: float = 0.25,
        decay: float = 0.99,  # of the running means
        eps: float = 1e-5,  # keeps codes that nothing uses finite
        remap: str | None = None,
        unknown_index: str | int = "random",
        sane_index_shape: bool = True,
        usage_decay: float = 0.98,
    ) -> None:
        super().__init__(n_e, e_dim, remap, unknown_index, sane_index_shape, usage_decay)
        self.beta = beta
        self.decay = decay
        self.eps = eps
        self.embedding = EmbeddingEMA(n_e, e_dim)
        self.embedding.cluster_size.fill_(1.0)  # `embed_avg` begins as the sum of one feature each

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            indices = self._assign(z)  # (B, h, w)
            z_q = self._rows(indices)  # (B, D, h, w)
            counts = self._observe(z, indices)
            if self.training:
                self._follow(z, indices, counts)
            loss = self.beta * F.mse_loss(z, z_q)
            info = self._info(self._to_used(indices), counts)
            return Quantized(straight_through(z, z_q), loss, info)

    @torch.no_grad()
    def _follow(self, z: Tensor, indices: Tensor, counts: Tensor) -> None:
        table = self.embedding
        flat = rearrange(z, "b d h w -> (b h w) d")
        sums = torch.zeros_like(table.embed_avg).index_add_(0, indices.flatten(), flat)  # (V, D)
        table.cluster_size.lerp_(sum_over_devices(counts), 1 - self.decay)
        table.embed_avg.lerp_(sum_over_devices(sums), 1 - self.decay)
        # Laplace smoothing of the sizes (1711.00937, appendix A.1; Sonnet's implementation)
        total = table.cluster_size.sum()
        sizes = (table.cluster_size + self.eps) / (total + self.n_e * self.eps) * total
        table.weight.copy_(table.embed_avg / sizes[:, None])

    def _replace(self, indices: Tensor, rows: Tensor) -> None:
        super()._replace(indices, rows)
        size = self.embedding.cluster_size.mean()
        self.embedding.cluster_size[indices] = size
        self.embedding.embed_avg[indices] = rows * size
