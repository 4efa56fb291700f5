"""Laws of the published schedule: its ends, its shape, its limits."""

import logging

import pytest

from taming.training.schedules import LambdaWarmUpCosineScheduler


def build(**options) -> LambdaWarmUpCosineScheduler:
    given = {"warm_up_steps": 10, "lr_min": 0.1, "lr_max": 1.0, "lr_start": 0.5}
    return LambdaWarmUpCosineScheduler(**{**given, "max_decay_steps": 30, **options})


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.5), (5, 0.75), (10, 1.0), (20, 0.55), (30, 0.1), (31, 0.1), (10_000, 0.1)],
)
def test_it_rises_in_a_line_and_falls_in_half_a_cosine(step, expected) -> None:
    assert build()(step) == pytest.approx(expected)


def test_it_never_rises_after_the_warm_up() -> None:
    values = [build()(step) for step in range(10, 40)]
    assert values == sorted(values, reverse=True)


def test_without_a_warm_up_it_begins_at_the_top() -> None:
    assert build(warm_up_steps=0)(0) == 1.0


def test_called_and_asked_it_is_the_same_and_remembers() -> None:
    schedule = build()
    assert schedule.schedule(7) == schedule(7) == schedule.last_lr


def test_it_says_where_it_is_every_so_often(caplog) -> None:
    schedule = build(verbosity_interval=5)
    with caplog.at_level(logging.INFO, logger="taming.training.schedules"):
        for step in range(11):
            schedule(step)
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "step 0",
        "step 5",
        "step 10",
    ]


def test_a_decay_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_decay_steps is 10.*warm_up_steps = 10"):
        build(max_decay_steps=10)
