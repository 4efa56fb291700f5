"""Attention for training in bf16 on a processor: matrix products over blocks of rows.

PyTorch's fused kernel multiplies tiles too small for the units that a processor has for bf16; whole
products over 64 queries and the keys before them take a third of its time, and skip most of what
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


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Queries (B, heads, M, d) over N keys -> (B, heads, M, d).

    With `causal`, the last query sees all keys, the one before it N - 1, and so on.
    """
    return _Attention.apply(q, k, v, causal)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
        shape = q.shape
        q = q * shape[-1] ** -0.5
        q, k, v = (each.flatten(0, 1).contiguous() for each in (q, k, v))  # (B * heads, n, d)
        ctx.blocks = _blocks(q.shape[1], k.shape[1], causal)
        hidden = _hidden(min(BLOCK, q.shape[1]), q) if causal else None
        out = torch.empty_like(q)
        kept = []
        for rows, seen in ctx.blocks:
            scores = torch.bmm(q[:, rows], k[:, :seen].transpose(1, 2))
            if hidden is not None:
                width = rows.stop - rows.start
                scores[:, :, seen - width :] += hidden[:width, :width]
            kept.append(torch.softmax(scores, -1))
            out[:, rows] = torch.bmm(kept[-1], v[:, :seen])
        ctx.save_for_backward(q, k, v, *kept)
        return out.view(shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        grad, shape = grads[0].reshape(q.shape), grads[0].shape
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (rows, seen), p in zip(ctx.blocks, kept, strict=True):
            dv[:, :seen] += torch.bmm(p.transpose(1, 2), grad[:, rows])
            dp = torch.bmm(grad[:, rows], v[:, :seen].transpose(1, 2))
            # dS = P o (dP - rowsum(dP o P))
            ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
            dq[:, rows] = torch.bmm(ds, k[:, :seen])
            dk[:, :seen] += torch.bmm(ds.transpose(1, 2), q[:, rows])
        dq *= shape[-1] ** -0.5
        return dq.view(shape), dk.unflatten(0, shape[:2]), dv.unflatten(0, shape[:2]), None


def _blocks(queries: int, keys: int, causal: bool) -> list[tuple[slice, int]]:
    """Rows of queries, and how many keys the last of them sees."""
    if not causal:
        return [(slice(0, queries), keys)]
    stops = [min(queries, start + BLOCK) for start in range(0, queries, BLOCK)]
    starts = [0, *stops[:-1]]
    return [(slice(a, b), b + keys - queries) for a, b in zip(starts, stops, strict=True)]


def _hidden(count: int, like: Tensor) -> Tensor:
    """Minus infinity where a query of a block would see a later one, (count, count)."""
    return torch.full((count, count), float("-inf"), dtype=like.dtype, device=like.device).triu_(1)
