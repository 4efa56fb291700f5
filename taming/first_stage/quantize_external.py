"""FSQ, LFQ and SimVQ of the package `vector-quantize-pytorch`, behind our contract.

- `FSQ`: Mentzer et al., "Finite Scalar Quantization" (arXiv 2309.15505): rounds each of a few
  bounded dimensions; nothing to learn, no loss.
- `LFQ`: Yu et al., "Language Model Beats Diffusion" (arXiv 2310.05737): signs, and an entropy loss.
- `SimVQ`: Zhu et al., "Addressing Representation Collapse" (arXiv 2411.02038): a frozen table
  behind one learned linear layer, so that every code moves with every step.
"""

import math
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from taming.config import ConfigError
from taming.first_stage.quantize_base import (
    Quantized,
    Quantizer,
    QuantizerInfo,
    code_counts,
    perplexity,
)


def _package() -> ModuleType:
    try:
        import vector_quantize_pytorch
    except ImportError as error:
        raise ImportError(
            "FSQ, LFQ and SimVQ need the package vector-quantize-pytorch: "
            'pip install "taming[train]"'
        ) from error
    return vector_quantize_pytorch


class ExternalQuantizer(Quantizer):
    """Wraps a module that returns (z_q, indices) or (z_q, indices, loss)."""

    def __init__(self, n_e: int, e_dim: int, inner: nn.Module) -> None:
        super().__init__(n_e, e_dim)
        self.inner = inner

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "ExternalQuantizer":
        """Goes along to other devices; codes are found in float32, whatever else is rounded."""

        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            is_rounded = tensor.is_floating_point() and result.dtype != tensor.dtype
            return tensor.to(result.device) if is_rounded else result

        return super()._apply(moved, recurse)

    def forward(self, z: Tensor) -> Quantized:
        with torch.autocast(z.device.type, enabled=False):
            z_q, indices, *losses = self.inner(z.float())
            indices = indices.long()  # (B, h, w)
            loss = losses[0] if losses else z_q.new_zeros(())
            spread = perplexity(code_counts(indices, self.codebook_size))
            return Quantized(z_q, loss, QuantizerInfo(spread, None, indices))

    def nearest(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            return self(z).info.indices

    def lookup(self, indices: Tensor) -> Tensor:
        inner: Any = self.inner
        with torch.autocast(indices.device.type, enabled=False):
            return inner.indices_to_codes(indices)  # (B, D, h, w)


class FSQ(ExternalQuantizer):
    """`levels` per dimension, V = their product: 8,5,5,5 = 1000; 7,5,5,5,5 = 4375."""

    def __init__(self, n_e: int, e_dim: int, levels: Sequence[int] = (8, 5, 5, 5)) -> None:
        if math.prod(levels) != n_e:
            raise ConfigError(
                f"FSQ levels {list(levels)} make {math.prod(levels)} codes, n_embed is {n_e}; "
                f"set n_embed: {math.prod(levels)}"
            )
        super().__init__(n_e, e_dim, _package().FSQ(levels=list(levels), dim=e_dim))


class LFQ(ExternalQuantizer):
    """The signs of log2(V) numbers; V is a power of two."""

    def __init__(
        self,
        n_e: int,
        e_dim: int,
        entropy_loss_weight: float = 0.1,
        commitment_loss_weight: float = 0.25,
        diversity_gamma: float = 1.0,  # weight of the codebook's entropy against each cell's
    ) -> None:
        if n_e & (n_e - 1):
            raise ConfigError(f"LFQ needs a power of two as n_embed, not {n_e}")
        inner = _package().LFQ(
            dim=e_dim,
            codebook_size=n_e,
            entropy_loss_weight=entropy_loss_weight,
            commitment_loss_weight=commitment_loss_weight,
            diversity_gamma=diversity_gamma,
        )
        super().__init__(n_e, e_dim, inner)


class SimVQ(ExternalQuantizer):
    def __init__(
        self,
        n_e: int,
        e_dim: int,
        beta: float = 0.25,
        rotation_trick: bool = True,  # Fifty et al., arXiv 2410.06424, instead of the straight line
    ) -> None:
        inner = _package().SimVQ(
            dim=e_dim,
            codebook_size=n_e,
            channel_first=True,
            rotation_trick=rotation_trick,
            input_to_quantize_commit_loss_weight=beta,
        )
        super().__init__(n_e, e_dim, inner)
