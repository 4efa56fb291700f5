"""Norms and rotations with gradients written by hand, in few passes over memory.

    rms_norm(x) = w x r,   r = (mean x^2 + eps)^(-1/2)
    normed_rotation(x) = the same for every head, its channel pairs turned by the angle of the cell

Written as single operations they make a third of a training step: each of them reads and writes the
whole tensor, and so does each gradient. What is saved is x r, from which everything follows. The
plain forms, which they equal, are `F.rms_norm` and `layers.rotate`. Knows nothing of layers.

Sources: Zhang and Sennrich 2019 (arXiv 1910.07467), equation 4, and its gradient
dx = r (w g - x r mean(w g x r)); Su et al. 2021 (arXiv 2104.09864), equation 34.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EPS = torch.finfo(torch.float32).eps


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """x (..., C) over its root mean square, times weight (C,), in the type of x."""
    return _RMSNorm.apply(x, weight)


def normed_rotation(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The same for x (B, heads, S, d), then turned: cos and sin (B or 1, S, d).

    Channel i makes a pair with i + d/2; the first half of `sin` has a minus sign.
    """
    return _NormedRotation.apply(x, weight, cos[:, None], sin[:, None])


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        r = _scale(x)
        unit = x * r
        ctx.save_for_backward(unit, r, weight)
        return unit * weight.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        unit, r, weight = ctx.saved_tensors
        return _back(grads[0] * weight.to(unit.dtype), grads[0] * unit, unit, r, weight)


class _NormedRotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x.contiguous()  # the passes to come are several times slower over a view of heads
        half = x.shape[-1] // 2
        r = _scale(x)
        unit = x * r
        ctx.save_for_backward(unit, r, weight, cos, sin)
        # The weight is small and joins the tables, which are smaller than x by the heads.
        turned = unit.roll(half, -1).mul_((weight.roll(half) * sin).to(x.dtype))
        return turned.addcmul_(unit, (weight * cos).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        unit, r, weight, cos, sin = ctx.saved_tensors
        kind, half = unit.dtype, unit.shape[-1] // 2
        back = (grads[0] * sin.to(kind)).roll(half, -1).addcmul_(grads[0], cos.to(kind))
        return *_back(back * weight.to(kind), back.mul_(unit), unit, r, weight), None, None


def _scale(x: Tensor) -> Tensor:
    """r (..., 1) of the rows of x, summed in float32."""
    kind = torch.promote_types(x.dtype, torch.float32)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=kind)
    return length.square_().mul_(1 / x.shape[-1]).add_(EPS).rsqrt_().to(x.dtype)


def _back(
    weighed: Tensor,  # w g; is overwritten
    product: Tensor,  # g x r
    unit: Tensor,  # x r
    r: Tensor,
    weight: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of x and of the weight."""
    mean = torch.mv(product.flatten(0, -2), weight.to(product.dtype)).view(r.shape)
    dx = weighed.addcmul_(unit, mean, value=-1 / unit.shape[-1]).mul_(r)
    return dx, product.sum(tuple(range(product.ndim - 1)), dtype=r.dtype).to(weight.dtype)
