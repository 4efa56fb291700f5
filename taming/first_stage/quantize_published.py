"""The published quantizers under their own names, arguments and results.

Thin forms of ours for code that says `GumbelQuantize(256, 256, 8192)` or unpacks
`z_q, loss, (perplexity, one_hot, indices)`; names in a state dict are those of the files. The
fourth, `VectorQuantizer2`, is in `quantize.py`. In configs of new models use ours.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from taming.first_stage import quantize
from taming.first_stage.quantize_base import Quantized, QuantizerInfo
from taming.first_stage.quantize_gumbel import GumbelQuantizer


class VectorQuantizer(quantize.VectorQuantizer2):
    """The first form: beta weighs the codebook term; one-hot codes (N,V), indices (N,1)."""

    def __init__(self, n_e: int, e_dim: int, beta: float) -> None:
        super().__init__(n_e, e_dim, beta)

    def forward(self, z: Tensor, *interface: Any, **gumbel: Any) -> Quantized:
        z_q, loss, info = super().forward(z, *interface, **gumbel)
        one_hot = F.one_hot(info.indices, self.n_e).to(z_q)  # (B*h*w, V)
        return Quantized(z_q, loss, QuantizerInfo(info.perplexity, one_hot, info.indices[:, None]))


class GumbelQuantize(GumbelQuantizer):
    """Indices are a grid (B,h,w). Outside training no noise is drawn, so that codes repeat."""

    def __init__(
        self,
        num_hiddens: int,  # channels of z
        embedding_dim: int,  # D
        n_embed: int,  # V
        straight_through: bool = True,
        kl_weight: float = 5e-4,
        temp_init: float = 1.0,
        use_vqinterface: bool = True,  # False: (z_q, loss, indices)
        remap: str | None = None,
        unknown_index: str | int = "random",
    ) -> None:
        super().__init__(
            n_embed, embedding_dim, straight_through, kl_weight, temp_init, remap, unknown_index,
            z_channels=num_hiddens,
        )  # fmt: skip
        self.embedding_dim = embedding_dim
        self.use_vqinterface = use_vqinterface

    def forward(self, z: Tensor, temp: float | None = None, return_logits: bool = False) -> Any:
        quantized = super().forward(z, temp)
        if not self.use_vqinterface:
            return quantized.z_q, quantized.loss, quantized.info.indices
        if return_logits:
            with torch.autocast(z.device.type, enabled=False):
                return *quantized, self.logits(z)
        return quantized


class EMAVectorQuantizer(quantize.EMAVectorQuantizer):
    """Keys `embedding.{weight,cluster_size,embed_avg}`; indices are flat (B*h*w,)."""

    def __init__(
        self,
        n_embed: int,  # V
        embedding_dim: int,  # D
        beta: float,
        decay: float = 0.99,
        eps: float = 1e-5,
        remap: str | None = None,
        unknown_index: str | int = "random",
        sane_index_shape: bool = False,
    ) -> None:
        super().__init__(
            n_embed, embedding_dim, beta, decay, eps, remap, unknown_index, sane_index_shape
        )
        # As published, though `embed_avg` begins at the codes: the first step divides by sizes of
        # almost nothing, and throws codes that it does not use far away.
        self.embedding.cluster_size.zero_()
        self.num_tokens, self.codebook_dim = n_embed, embedding_dim
