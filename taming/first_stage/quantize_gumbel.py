"""Codes as a softmax: logits over the codebook, sampled with Gumbel noise while training.

Jang et al., "Categorical Reparameterization with Gumbel-Softmax" (arXiv 1611.01144); in this use
Ramesh et al. (arXiv 2102.12092, section 2.1). Parameter names are those of the published
`vqgan_gumbel_f8`. Outside training there is no noise: the most likely code is taken, so that a
picture always has the same codes.
"""

import math

import torch
import torch.nn.functional as F
from einops import einsum, rearrange
from torch import Tensor, nn

from taming.first_stage.quantize_base import Quantized, RemappedQuantizer, code_counts


class GumbelQuantizer(RemappedQuantizer):
    """z -> logits -> a code, drawn; loss = kl_weight KL(softmax(logits) || uniform over n_e)."""

    def __init__(
        self,
        n_e: int,  # V
        e_dim: int,  # D
        straight_through: bool = True,  # one code forward, the softmax's gradient backward
        kl_weight: float = 5e-4,
        temp_init: float = 1.0,
        remap: str | None = None,
        unknown_index: str | int = "random",
        sane_index_shape: bool = True,
        z_channels: int | None = None,  # of what is rounded; None: D
    ) -> None:
        super().__init__(n_e, e_dim, remap, unknown_index, sane_index_shape)
        self.n_embed = n_e
        self.straight_through = straight_through
        self.kl_weight = kl_weight
        self.temperature = temp_init  # lowered by a schedule in training
        self.generator: torch.Generator | None = None  # of the noise; None: torch's own
        self.proj = nn.Conv2d(z_channels or e_dim, n_e, 1)
        self.embed = nn.Embedding(n_e, e_dim)

    def logits(self, z: Tensor) -> Tensor:
        """(B,D,h,w) -> (B,V,h,w) over the codes in use."""
        # A product of matrices: graphics cards round what convolutions multiply to TF32.
        weight = self.proj.weight.float().flatten(1)  # (n_e, C)
        logits = weight.expand(len(z), -1, -1) @ z.float().flatten(2)  # (B, n_e, h*w)
        logits = logits.unflatten(2, z.shape[2:])
        if self.proj.bias is not None:
            logits = logits + self.proj.bias.float()[:, None, None]
        return logits if self.remap is None else logits[:, self.used]

    def _codes(self) -> Tensor:
        weight = self.embed.weight.float()
        return weight if self.remap is None else weight[self.used]  # (V, D)

    def forward(self, z: Tensor, temp: float | None = None) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            logits = self.logits(z)  # (B, V, h, w)
            soft = self._soften(logits, self.temperature if temp is None else temp)
            indices = soft.argmax(dim=1)  # (B, h, w)
            if self.straight_through or not self.training:
                hard = F.one_hot(indices, soft.shape[1]).to(soft.dtype)
                weights = rearrange(hard, "b h w v -> b v h w") + soft - soft.detach()
            else:
                weights = soft
            z_q = einsum(weights, self._codes(), "b v h w, v d -> b d h w")
            log_share = F.log_softmax(logits, dim=1)
            divergence = log_share.exp() * (log_share + math.log(self.n_e))
            loss = self.kl_weight * divergence.sum(dim=1).mean()
            counts = code_counts(indices, self.codebook_size)
            return Quantized(z_q, loss, self._info(indices, counts))

    def _soften(self, logits: Tensor, temperature: float) -> Tensor:
        if self.training:
            noise = torch.empty_like(logits).exponential_(generator=self.generator)
            logits = logits - noise.log()  # -log of an exponential is a Gumbel variable
        return F.softmax(logits / temperature, dim=1)

    def nearest(self, z: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            return self.logits(z).argmax(dim=1)

    def lookup(self, indices: Tensor) -> Tensor:
        with torch.autocast(indices.device.type, enabled=False):
            rows = F.embedding(self._from_used(indices), self.embed.weight.float())
            return rearrange(rows, "b h w d -> b d h w")
