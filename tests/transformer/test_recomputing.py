"""Laws of activations that are computed again: less is kept, gradients are the same."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from taming.transformer.any_order import AnyOrderTransformer
from taming.transformer.gpt import GPT


def any_order() -> tuple[AnyOrderTransformer, Callable[[], Tensor]]:
    torch.manual_seed(0)
    model = AnyOrderTransformer(8, width=16, layers=4, heads=2, trunk_layers=1, dropout=0.5)
    codes, order = torch.arange(6)[None], torch.randperm(6)[None]
    control, prefix = torch.randn(1, 16, 2, 3), torch.randn(1, 2, 16)
    return model, lambda: model(codes, order, control, prefix)


def published() -> tuple[GPT, Callable[[], Tensor]]:
    torch.manual_seed(0)
    model = GPT(8, 6, n_layer=2, n_head=2, n_embd=16, resid_pdrop=0.5)
    return model, lambda: model(torch.arange(6)[None])[0]


@pytest.mark.parametrize("build", [any_order, published])
def test_gradients_are_the_same_and_less_is_kept(build) -> None:
    gradients, kept = [], []
    for recomputes in (False, True):
        model, run = build()
        model.recompute_activations(recomputes)
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor,
            lambda tensor: tensor,
        ):
            torch.manual_seed(1)
            run().square().mean().backward()
        kept.append(sum(sizes))
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(gradients[1], gradients[0])
    assert kept[1] < 0.8 * kept[0]
