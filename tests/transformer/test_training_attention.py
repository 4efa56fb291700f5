"""Laws of attention for training: what the fused kernel gives, and its gradients."""

import pytest
import torch
from torch import Tensor

from taming.transformer.layers import attend, causal_mask
from taming.transformer.training_attention import BLOCK, LONGEST, attention, pays

Tensors = tuple[Tensor, Tensor, Tensor]


def drawn(queries: int, keys: int, dtype: torch.dtype = torch.float64) -> Tensors:
    generator = torch.Generator().manual_seed(0)
    sizes = (queries, keys, keys)
    q, k, v = (torch.randn(1, 2, n, 4, generator=generator).to(dtype) for n in sizes)
    return q.requires_grad_(), k.requires_grad_(), v.requires_grad_()


def reference(q: Tensor, k: Tensor, v: Tensor, causal: bool = True) -> Tensor:
    mask = causal_mask(q.shape[2], k.shape[2], q.device) if causal else None
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)


@pytest.mark.parametrize(
    ("queries", "keys"), [(5, 5), (3, 8), (BLOCK, BLOCK), (BLOCK + 6, BLOCK + 11)]
)
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_are_masked_attention_and_so_are_gradients(
    queries: int, keys: int, causal: bool
) -> None:
    one, other = drawn(queries, keys), drawn(queries, keys)
    mine, theirs = attention(*one, causal), reference(*other, causal)
    torch.testing.assert_close(mine, theirs)
    weights = torch.randn_like(mine)
    (mine * weights).sum().backward()
    (theirs * weights).sum().backward()
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_bf16_differs_by_rounding() -> None:
    mine = attend(*drawn(BLOCK + 6, BLOCK + 11, torch.bfloat16), causal=True)
    theirs = attend(*drawn(BLOCK + 6, BLOCK + 11), causal=True)
    assert (mine.double() - theirs).abs().max() < 0.03


def test_tensors_as_a_projection_leaves_them_are_taken() -> None:
    q, k, v = (each.transpose(1, 2).contiguous().transpose(1, 2) for each in drawn(6, 6))
    torch.testing.assert_close(attention(q, k, v, True), reference(q, k, v))


def test_it_is_for_training_in_bf16_and_sequences_that_are_not_too_long() -> None:
    q, k, _ = drawn(3, 5, torch.bfloat16)
    assert pays(q, k)
    assert not pays(q.float(), k.float())
    assert not pays(q.detach(), k.detach())
    assert not pays(q, k.expand(1, 2, 5, 4).repeat(1, 1, LONGEST, 1))
    with torch.no_grad():
        assert not pays(q, k)
