"""A small untrained pipeline, and a picture with maps to paint from."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from taming.config import instantiate_from_config
from taming.pipeline import Pipeline
from taming.prefix_pipeline import PrefixPipeline

SIZE = (16, 24)


@pytest.fixture(scope="module")
def lively() -> Callable[..., Any]:
    """Builds a model whose conditions matter, though nobody has trained it."""

    def build(config: dict[str, Any], seed: int = 0) -> Any:
        torch.manual_seed(seed)
        model = instantiate_from_config(config)
        for part in (model.transformer, model.cond_stage_model):
            for parameter in part.parameters():
                torch.nn.init.normal_(parameter, std=0.25)
        return model

    return build


@pytest.fixture(scope="module")
def pipeline(second_stage, lively) -> Pipeline:
    return Pipeline(lively(second_stage()), "tiny")


@pytest.fixture(scope="module")
def prefix_pipeline(published_stage) -> Callable[..., PrefixPipeline]:
    """A published model of some kind that is not indifferent to what it is told."""

    def build(kind: str, **params: Any) -> PrefixPipeline:
        torch.manual_seed(0)
        model = instantiate_from_config(published_stage(kind, **params))
        for name, parameter in model.transformer.named_parameters():
            if "ln" not in name:
                torch.nn.init.normal_(parameter, std=0.5)
        for stage in (model.first_stage_model, model.cond_stage_model):
            if hasattr(stage, "quantize"):
                _tell_apart(stage)
        return PrefixPipeline(model, "tiny")

    return build


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    planes = [x * 255 // SIZE[1], y * 255 // SIZE[0], (x * y) % 256]
    return np.stack(planes, axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    return (np.mgrid[: SIZE[0], : SIZE[1]][1] * 3 // SIZE[1]).astype(np.uint8)


@pytest.fixture(scope="module")
def depth() -> np.ndarray:
    return np.linspace(1.0, 5.0, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    """Keeps the left two thirds, and cuts through cells."""
    keep = np.zeros(SIZE, dtype=bool)
    keep[:, :15] = True
    return keep


@torch.no_grad()
def _tell_apart(stage: Any) -> None:
    """Puts the codes where features of ramps and noise are, so that different maps differ."""
    ramp = torch.linspace(-1, 1, 16).expand(stage.config.in_channels, 16, 16)
    noise = torch.randn(2, *ramp.shape)
    features = stage.features(torch.stack([ramp, ramp.mT, -ramp, *noise]))
    each = features.movedim(1, -1).flatten(0, -2)
    chosen = torch.randperm(len(each))[: stage.codebook_size]
    stage.quantize.embedding.weight.copy_(each[chosen])
