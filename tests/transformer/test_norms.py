"""Laws of norms and rotations with gradients by hand: the plain forms, and theirs; rounding."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.transformer.layers import Rotation, grid_rotation, rotate
from taming.transformer.norms import EPS, normed_rotation, rms_norm

TABLE = Rotation(*(each.double() for each in grid_rotation(2, 3, 8, torch.device("cpu"))))


def plain_norm(x: Tensor, weight: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), EPS)


def plain_rotation(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return rotate(plain_norm(x, weight), Rotation(cos, sin))


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(shape[-1], generator=generator, dtype=torch.float64)
    weight = weight if dtype == torch.float64 else weight.float()  # weights stay float32
    return x.requires_grad_(), weight.requires_grad_()


@pytest.mark.parametrize("kind", ["norm", "rotation", "rotation of a view"])
def test_values_and_gradients_are_those_of_the_plain_form(kind: str) -> None:
    results = []
    for norm, rotation in ((rms_norm, normed_rotation), (plain_norm, plain_rotation)):
        x, weight = drawn(2, 3, 6, 8)
        given = x.transpose(1, 2).contiguous().transpose(1, 2) if "view" in kind else x
        y = norm(given, weight) if kind == "norm" else rotation(given, weight, *TABLE)
        (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        results.append((y, x.grad, weight.grad))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_bf16_differs_by_rounding_and_stays_bf16() -> None:
    x, weight = drawn(2, 3, 6, 8, dtype=torch.bfloat16)
    mine = normed_rotation(x, weight, *TABLE)
    theirs = plain_rotation(x.double(), weight.double(), *TABLE)
    assert mine.dtype == torch.bfloat16
    assert (mine - theirs).abs().max() < 0.05
    assert rms_norm(x, weight).dtype == torch.bfloat16


def test_a_norm_of_zeros_is_zero() -> None:
    x, weight = torch.zeros(2, 4, requires_grad=True), torch.ones(4)
    y = rms_norm(x, weight)
    y.sum().backward()
    assert torch.equal(y, torch.zeros(2, 4))
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
