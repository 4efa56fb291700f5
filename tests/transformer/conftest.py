"""A transformer whose every part has a say: weights far from their cautious beginning."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from taming.sampling import orders
from taming.transformer import AnyOrderTransformer

V, H, W, P = 16, 3, 4, 2  # never square
T = H * W


class Inputs(NamedTuple):
    codes: Tensor  # (B, T)
    order: Tensor  # (B, T), another one for each image
    control: Tensor  # (B, C, h, w)
    prefix: Tensor  # (B, P, C)


@pytest.fixture(scope="session")
def transformer() -> Callable[..., AnyOrderTransformer]:
    def build(**options: Any) -> AnyOrderTransformer:
        torch.manual_seed(0)
        sizes = {"codebook_size": V, "width": 32, "layers": 4, "heads": 2, "trunk_layers": 1}
        model = AnyOrderTransformer(**{**sizes, **options}).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model

    return build


@pytest.fixture(scope="session")
def inputs() -> Callable[..., Inputs]:
    def draw(batch: int = 2, seed: int = 1, channels: int = 32) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        return Inputs(
            torch.randint(V, (batch, T), generator=generator),
            torch.stack([orders.random(H, W, generator) for _ in range(batch)]),
            torch.randn(batch, channels, H, W, generator=generator),
            torch.randn(batch, P, 32, generator=generator),
        )

    return draw


@pytest.fixture(params=["query", "prefix"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param
