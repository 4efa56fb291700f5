"""Causal attention for training in bf16 on a processor: matrix products over blocks of rows.

PyTorch's fused kernel multiplies tiles too small for the units that a processor has for bf16; whole
products over 64 queries and all keys before them take a third of its time, and skip most of what
causality hides. The probabilities of every block are kept for the gradient, half of queries x keys
numbers a head, which is why long sequences stay with the fused kernel. It knows nothing of layers.

Source of the gradient: Dao et al. 2022 (arXiv 2205.14135), appendix B.2, without recomputation.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

BLOCK = 64  # queries at a time
LONGEST = 1024  # keys; beyond, probabilities would take more memory than they save time


def pays(q: Tensor, k: Tensor) -> bool:
    """Whether this form is the faster one; it gives the same numbers to rounding."""
    is_trained = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad)
    is_bf16 = q.device.type == "cpu" and q.dtype == k.dtype == torch.bfloat16
    return is_trained and is_bf16 and k.shape[2] <= LONGEST


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Queries (B, heads, M, d) over N keys: the last sees all, the one before it N - 1."""
    return _CausalAttention.apply(q, k, v)


class _CausalAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shape = q.shape
        q = q * shape[-1] ** -0.5
        q, k, v = (each.flatten(0, 1).contiguous() for each in (q, k, v))  # (B * heads, n, d)
        out = torch.empty_like(q)
        kept = []
        for rows, seen in _blocks(q, k):
            scores = torch.bmm(q[:, rows], k[:, :seen].transpose(1, 2))
            width = rows.stop - rows.start
            scores[:, :, seen - width :] += _hidden(width, q)
            kept.append(torch.softmax(scores, -1))
            out[:, rows] = torch.bmm(kept[-1], v[:, :seen])
        ctx.save_for_backward(q, k, v, *kept)
        return out.view(shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, *kept = ctx.saved_tensors
        grad, shape = grads[0].reshape(q.shape), grads[0].shape
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (rows, seen), p in zip(_blocks(q, k), kept, strict=True):
            dv[:, :seen] += torch.bmm(p.transpose(1, 2), grad[:, rows])
            dp = torch.bmm(grad[:, rows], v[:, :seen].transpose(1, 2))
            # dS = P o (dP - rowsum(dP o P))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dq[:, rows] = torch.bmm(ds, k[:, :seen])
            dk[:, :seen] += torch.bmm(ds.transpose(1, 2), q[:, rows])
        dq *= shape[-1] ** -0.5
        return dq.view(shape), dk.unflatten(0, shape[:2]), dv.unflatten(0, shape[:2])


def _blocks(q: Tensor, k: Tensor) -> list[tuple[slice, int]]:
    """Rows of queries, and how many keys the last of them sees."""
    count, behind = q.shape[1], k.shape[1] - q.shape[1]
    starts = range(0, count, BLOCK)
    stops = [min(count, start + BLOCK) for start in starts]
    return [(slice(a, b), b + behind) for a, b in zip(starts, stops, strict=True)]


def _hidden(count: int, like: Tensor) -> Tensor:
    """Minus infinity where a query of a block would see a later one, (count, count)."""
    return torch.full((count, count), float("-inf"), dtype=like.dtype, device=like.device).triu_(1)
