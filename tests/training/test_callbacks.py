"""Laws of what a run leaves behind, and of when it stops, without a training around them."""

import csv
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from taming.checkpoint import CheckpointError, read_metadata
from taming.training.base import StageTraining
from taming.training.callbacks import (
    HISTORY,
    MONITOR,
    WEIGHTS,
    AtomicCheckpointIO,
    SaveRun,
    StageCallback,
    TimeLimit,
    WriteHistory,
)
from taming.training.settings import TrainingSettings


class Stage(StageTraining):
    """Counts steps that the test takes."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Linear(2, 2), TrainingSettings(), 1e-3)
        self.taken = 0

    def steps_done(self) -> int:
        return self.taken


def trainer(**metrics: float) -> Any:
    return SimpleNamespace(
        world_size=1, is_global_zero=True, should_stop=False, sanity_checking=False,
        fit_loop=SimpleNamespace(_can_stop_early=True),
        callback_metrics={name.replace("_", "/"): value for name, value in metrics.items()},
    )  # fmt: skip


class Counting(StageCallback):
    def __init__(self) -> None:
        self.seen: list[int] = []

    def after_step(self, trainer: Any, module: StageTraining) -> None:
        self.seen.append(module.steps_done())


def test_accumulated_batches_are_no_steps() -> None:
    callback, stage = Counting(), Stage()
    stage.taken = 5  # resumed
    callback.on_train_start(trainer(), stage)
    for batch in range(1, 9):
        stage.taken = 5 + batch // 3
        callback.on_train_batch_end(trainer(), stage, None, None, batch)
    assert callback.seen == [6, 7]


# --- time ----------------------------------------------------------------------------------------


def test_the_time_limit_counts_the_minutes_before_a_resume(monkeypatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("taming.training.callbacks.time.monotonic", lambda: clock[0])
    first, stage = TimeLimit(minutes=10), Stage()
    first.on_train_start(trainer(), stage)
    clock[0] += 6 * 60
    kept = first.state_dict()

    clock[0] += 3600.0  # nothing ran in this hour
    second, now = TimeLimit(minutes=10), trainer()
    second.load_state_dict(kept)
    clock[0] += 100.0  # nor while codes were written
    second.on_train_start(now, stage)
    clock[0] += 3.9 * 60
    second.after_step(now, stage)
    assert not now.should_stop
    clock[0] += 0.2 * 60
    second.after_step(now, stage)
    assert now.should_stop
    assert second.state_dict()["spent"] == pytest.approx(10.1 * 60)


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_checkpoint_keeps_the_one_before(tmp_path: Path, monkeypatch, error) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"steps": 1}, path)

    def fail(content: Any, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(
        KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else CheckpointError
    ):
        AtomicCheckpointIO().save_checkpoint({"steps": 2}, path)
    assert torch.load(path, weights_only=True) == {"steps": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def rows(folder: Path) -> list[tuple[int, str]]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        return [(int(row["step"]), row["name"]) for row in csv.DictReader(file)]


def test_a_resumed_history_forgets_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    stage, history = Stage(), WriteHistory(tmp_path, every=1)
    history.on_train_start(trainer(), stage)
    for stage.taken in (1, 2, 3, 4):
        history.after_step(trainer(train_loss=1.0), stage)
    stage.taken = 2
    again = WriteHistory(tmp_path, every=1)
    again.on_train_start(trainer(), stage)
    assert rows(tmp_path) == [(1, "train/loss"), (2, "train/loss")]


def test_history_tells_training_and_validation_apart(tmp_path: Path) -> None:
    stage, history = Stage(), WriteHistory(tmp_path, every=2)
    both = trainer(train_loss=1.0, validation_loss=2.0)
    history.on_train_start(both, stage)
    for stage.taken in (1, 2):
        history.after_step(both, stage)
    history.on_validation_end(both, stage)
    assert rows(tmp_path) == [(2, "train/loss"), (2, "validation/loss")]


@pytest.mark.parametrize("content", ["", "step,seconds,name,value\n2,0.1,train/loss,1\n3,0.2,tr"])
def test_a_history_that_was_cut_stops_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / HISTORY).write_text(content)
    stage, history = Stage(), WriteHistory(tmp_path, every=1)
    stage.taken = 3
    history.on_train_start(trainer(), stage)
    stage.taken = 4
    history.after_step(trainer(train_loss=1.0), stage)
    assert rows(tmp_path) == [(2, "train/loss")] * bool(content) + [(4, "train/loss")]


# --- saving --------------------------------------------------------------------------------------


def test_weights_are_saved_as_they_are_trained(tmp_path: Path) -> None:
    """What others' callbacks saved at the end of a validation had averages in their place."""
    stage = Stage()
    with torch.no_grad():
        stage.model.weight += 1.0
    stage.ema.update()
    trained, averages = dict(stage.model.state_dict()), stage.ema.weights()
    kept = []
    for validating in (False, True):
        state = stage.state_dict()
        if validating:
            stage.on_validation_start()
        checkpoint: dict[str, Any] = {"state_dict": state}
        stage.on_save_checkpoint(checkpoint)
        kept.append(checkpoint)
        if validating:
            stage.on_validation_end()
    for checkpoint in kept:
        assert set(checkpoint["state_dict"]) == set(trained)
        for name, weight in trained.items():
            assert torch.equal(checkpoint["state_dict"][name], weight)
            assert torch.equal(checkpoint["ema"][name], averages[name])
    assert not torch.equal(trained["weight"], averages["weight"])


def test_the_best_of_the_last_validation_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came after the last step was saved; a run that went on overwrote better weights."""
    saved: list[dict[str, Any]] = []
    stage, around = Stage(), trainer()
    monkeypatch.setattr(stage, "step_limit", lambda: None)

    def train(until: int, loss: float) -> SaveRun:
        callback = SaveRun(tmp_path, minutes=60, keep="best")
        around.save_checkpoint = lambda *_, **__: saved.append(callback.state_dict())
        if saved:
            callback.load_state_dict(saved[-1])
        callback.on_train_start(around, stage)
        stage.taken, around.should_stop = until, True
        callback.after_step(around, stage)
        around.callback_metrics = {MONITOR: loss}
        callback.on_validation_end(around, stage)
        callback.on_train_end(around, stage)
        return callback

    assert train(1, 2.0).best == 2.0
    assert train(2, 3.0).best == 2.0
    assert read_metadata(tmp_path / WEIGHTS)["steps"] == "1"
    assert train(3, 1.0).best == 1.0
    assert read_metadata(tmp_path / WEIGHTS)["steps"] == "3"


def test_a_trainer_that_goes_on_is_not_saved_at_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `min_steps` kept it from stopping, each step was taken for the last."""
    saved: list[int] = []
    callback, stage, around = SaveRun(tmp_path, minutes=60), Stage(), trainer()
    around.save_checkpoint = lambda *_, **__: saved.append(stage.steps_done())
    monkeypatch.setattr(stage, "step_limit", lambda: None)
    callback.on_train_start(around, stage)
    around.should_stop = True
    for stage.taken in (1, 2, 3, 4):
        around.fit_loop._can_stop_early = stage.taken == 4
        callback.after_step(around, stage)
    assert saved == [1, 4]


def test_weights_kept_as_the_last_are_not_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that went on with `best` waited for a loss of before, whose weights were gone."""
    stage, around = Stage(), trainer()
    monkeypatch.setattr(stage, "step_limit", lambda: None)
    around.save_checkpoint = lambda *_, **__: None
    state: dict[str, Any] = {}
    for step, keep, loss in ((1, "last", 2.0), (2, "last", 3.0), (3, "best", 2.5)):
        callback = SaveRun(tmp_path, minutes=60, keep=keep)
        if state:
            callback.load_state_dict(state)
        callback.on_train_start(around, stage)
        stage.taken, around.should_stop = step, True
        callback.after_step(around, stage)
        around.callback_metrics = {MONITOR: loss}
        callback.on_validation_end(around, stage)
        state = callback.state_dict()
    assert read_metadata(tmp_path / WEIGHTS) | {"steps": "3", MONITOR: "2.5"} == read_metadata(
        tmp_path / WEIGHTS
    )


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal on this system")
def test_a_run_is_saved_when_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    callback, stage, around = SaveRun(tmp_path, minutes=60), Stage(), trainer()
    around.save_checkpoint = lambda *_, **__: saved.append(stage.steps_done())
    monkeypatch.setattr(stage, "step_limit", lambda: None)
    callback.on_train_start(around, stage)
    for stage.taken in (1, 2, 3):
        if stage.taken == 2:
            signal.raise_signal(signal.SIGUSR1)
        callback.after_step(around, stage)
    assert saved == [2]
    callback.on_exception(around, stage, KeyboardInterrupt())
    assert signal.getsignal(signal.SIGUSR1) is before
