"""Laws of the `training` section."""

import pytest
import torch

from taming.config import ConfigError, from_mapping
from taming.training.progress import share_done
from taming.training.settings import TrainingSettings, has_bf16_units


def test_constant_rate_only_warms_up() -> None:
    settings = TrainingSettings(warmup_steps=4)
    assert [settings.rate(step) for step in (0, 1, 3, 1000)] == [0.25, 0.5, 1.0, 1.0]


def test_cosine_ends_at_its_final_rate() -> None:
    settings = TrainingSettings(warmup_steps=0, decay="cosine", decay_steps=100, final_rate=0.1)
    assert settings.rate(0) == pytest.approx(1.0)
    assert settings.rate(50) == pytest.approx(0.55)
    assert settings.rate(100) == settings.rate(1000) == pytest.approx(0.1)


def test_restarts_end_halfway_through_a_cosine() -> None:
    settings = TrainingSettings(restart_every=10, decay="cosine", decay_steps=100)
    assert [step for step in range(1, 200) if settings.restarts(step)] == [10, 20, 30, 40, 50]


def test_restarts_can_be_ended_and_left_out() -> None:
    assert not TrainingSettings(restart_every=10, restart_until=5).restarts(10)
    assert not TrainingSettings(restart_every=0).restarts(10)
    assert TrainingSettings(restart_every=10).restarts(1000)
    assert TrainingSettings(restart_every=10, decay="constant", decay_steps=100).restarts(1000)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"ema_decay": 1.0}, r"ema_decay is 1\.0"),
        ({"log_every": 0}, "log_every is 0"),
        ({"precision": "fp16"}, "training.precision: 'fp16'"),
        ({"max_minute": 3}, "did you mean 'max_minutes'"),
    ],
)
def test_mistakes_are_named(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(TrainingSettings, section, "training")


def test_precision_that_is_asked_for_is_used() -> None:
    cpu = torch.device("cpu")
    assert TrainingSettings(precision="bf16").autocasts(cpu)
    assert not TrainingSettings(precision="float32").autocasts(cpu)
    assert TrainingSettings().autocasts(cpu) == has_bf16_units(cpu)


def test_the_nearer_limit_tells_how_much_is_done() -> None:
    assert share_done(25, 100, 0.0, None) == 0.25
    assert share_done(25, 100, 30.0, 60.0) == 0.5
    assert share_done(250, 100, 0.0, None) == 1.0
    assert share_done(25, None, 10.0, None) == 0.0
