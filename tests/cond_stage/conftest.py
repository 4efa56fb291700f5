"""One small example of every condition, and a training sample that feeds them all."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from taming.cond_stage import CONDITIONS, Condition

SIZE = (32, 48)  # never square: a swap of height and width must show
GRID = (4, 6)
WIDTH = 24

_PARAMS: dict[str, dict[str, Any]] = {
    "class_label": {"names": ["oak", "pine", "birch"]},
    "labels": {"names": ["sky", "sea", "sand", "rock"]},
    "text": {"tokens": 3},
    "pose": {"people": 3},
    "boxes": {"names": ["tree", "dog", "car"], "objects": 3},
}


def build(name: str) -> Condition:
    torch.manual_seed(0)
    kind = CONDITIONS[name]
    spatial = {"downsample_factor": SIZE[0] // GRID[0]} if kind.kind == "control" else {}
    return kind(width=WIDTH, **spatial, **_PARAMS.get(name, {}))


def make_sample(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    height, width = SIZE
    yy, xx = np.mgrid[:height, :width]
    waves = np.stack([np.sin(xx / (3 + c) + rng.uniform(0, 6)) * np.cos(yy / 4) for c in range(3)])
    joints = rng.uniform(2, min(SIZE) - 2, (2, 19, 2))
    seen = np.ones((2, 19, 1))
    seen[0, 3] = seen[1, 7] = 0
    return {
        "image": torch.from_numpy(waves * 4).float().clamp(-1, 1),
        "labels": torch.from_numpy(rng.integers(0, 4, SIZE)),
        "depth": torch.from_numpy(rng.uniform(-1, 1, (1, *SIZE))).float(),
        "keypoints": torch.from_numpy(np.concatenate([joints, seen], axis=-1)).float(),
        "boxes": torch.tensor([[4.0, 2.0, 20.0, 30.0, 1.0], [6.0 + seed, 8.0, 40.0, 28.0, 2.0]]),
        "class_label": torch.tensor(int(rng.integers(3))),
        "caption": "waves",
        "text": torch.nn.functional.normalize(
            torch.from_numpy(rng.normal(size=384)).float(), dim=0
        ),
    }


@pytest.fixture
def sample() -> dict[str, Any]:
    return make_sample()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=list(CONDITIONS))
def condition(request: pytest.FixtureRequest) -> Condition:
    return build(request.param)


@pytest.fixture
def conditions() -> dict[str, Condition]:
    return {name: build(name) for name in CONDITIONS}


@pytest.fixture
def values_of() -> Callable[[Condition, int], torch.Tensor]:
    """Values of `count` different samples, stacked."""

    def stack(condition: Condition, count: int) -> torch.Tensor:
        values = []
        for seed in range(count):
            value = condition.derive(make_sample(seed), np.random.default_rng(seed))
            assert value is not None
            values.append(value)
        return torch.stack(values)

    return stack
