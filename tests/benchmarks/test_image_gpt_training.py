"""Trainings by the clock: both sides stop, go on, and are not trained again once they are over."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import image_gpt_ours as ours
from benchmarks import image_gpt_training as training
from benchmarks.image_gpt_model import Shape
from benchmarks.image_gpt_training import Plan, StopAsked, Stopped, Training
from taming.checkpoint import save_weights
from taming.config import instantiate_from_config, plain, to_yaml
from taming.evaluation.report import silent

PLAN = Plan(Shape(width=8, layers=1, heads=1, colours=4), batch_size=2, workers=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A paired folder of pictures alone."""
    root = tmp_path_factory.mktemp("sets") / "noise"
    (root / "images").mkdir(parents=True)
    names = [f"{n:02d}" for n in range(6)]
    for number, name in enumerate(names):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
    (root / "split.json").write_text(json.dumps({"train": names[:5], "validation": names[5:]}))
    return root


# --- Image-GPT -----------------------------------------------------------------------------------


def test_going_on_learns_what_an_unbroken_training_learns(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five pictures in batches of two: the third step begins another epoch."""
    monkeypatch.setattr(Training, "_share_of_rate", lambda self: 1.0)  # which follows the clock
    whole = Training(PLAN, folder, 60.0, tmp_path / "whole.ckpt")
    for _ in range(5):
        whole.step()
    first = Training(PLAN, folder, 60.0, tmp_path / "parts.ckpt")
    for _ in range(3):
        first.step()
    first.save()
    second = Training(PLAN, folder, 60.0, tmp_path / "parts.ckpt")
    assert second.steps == 3
    assert second.spent == first.spent > 0
    assert second.processor == first.processor > 0
    for _ in range(2):
        second.step()
    assert torch.equal(second.colours, whole.colours)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, second.model.state_dict()[name]), name


def test_a_training_that_is_over_is_not_trained_again(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "state.ckpt"
    done = training.train(PLAN, folder, 0.001, path, silent)
    again = training.train(PLAN, folder, 0.001, path, silent)
    assert done.facts["steps"] >= 1
    assert again.facts == done.facts
    assert not again.model.training
    states = done.model.state_dict().items()
    assert all(torch.equal(weight, again.model.state_dict()[name]) for name, weight in states)


def test_the_learning_rate_follows_the_clock(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Training(PLAN, folder, 1.0, tmp_path / "state.ckpt")
    rates = []
    for seconds in (0.0, 1.2, 30.0, 60.0, 90.0):
        monkeypatch.setattr(made, "seconds", lambda seconds=seconds: seconds)
        rates.append(made._share_of_rate())
    assert rates[0] < 0.05
    assert rates[1] == pytest.approx(0.5, abs=0.05)  # half of the rise
    assert rates[2] == pytest.approx(0.51, abs=0.01)  # half of the cosine
    assert rates[3] == rates[4] == pytest.approx(PLAN.final_rate)


def test_asking_to_stop_saves_what_was_learnt(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Training.step

    def interrupted(self: Training) -> None:
        step(self)
        if self.steps == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Training, "step", interrupted)
    with pytest.raises(Stopped):
        training.train(PLAN, folder, 60.0, tmp_path / "state.ckpt", silent)
    assert Training(PLAN, folder, 60.0, tmp_path / "state.ckpt").steps == 2


def test_signals_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopAsked() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked
    assert signal.getsignal(signal.SIGTERM) is before


# --- ours: configs -------------------------------------------------------------------------------


def test_the_committed_configs_build_with_what_is_changed_for_an_hour(folder: Path) -> None:
    tokenizer = ours.configured("worlds_tokenizer", "first_stage", folder, 0, ours.FIRST)
    painter = ours.configured("worlds", "second_stage", folder, 0, ours.SECOND)
    first_stage = instantiate_from_config(
        {"target": tokenizer["model"]["target"], "params": tokenizer["model"]["params"]}
    )
    section = painter["model"]["params"]["transformer_config"]
    assert section["params"]["codebook_size"] == first_stage.codebook_size
    assert instantiate_from_config(section) is not None
    for config in (tokenizer, painter):
        [entry] = config["data"]["params"]["sets"]
        assert entry["path"] == str(folder)
        assert "max_minutes" not in config["training"]


def test_conditions_that_the_set_has_nothing_of_are_left_out(folder: Path) -> None:
    conditions = ["labels", "depth", "pose", "lowres", "known", "edges", "class_label", "text"]
    found = ours.left_out({key: {} for key in conditions}, folder)
    assert found == ["class_label", "depth", "labels", "pose", "text"]


@pytest.mark.parametrize(("size", "crop"), [(128, 96), (64, 48), (32, 16)])
def test_crops_are_three_quarters_in_steps_that_fit(size: int, crop: int) -> None:
    assert ours.crop_of({}, [], size) == crop


# --- ours: a stage -------------------------------------------------------------------------------


class Trainer:
    """Stands for `taming.training.run.train`: so many steps a minute, stopped when it is told."""

    def __init__(self, rate: float = 50.0) -> None:
        self.rate = rate
        self.stopped_at: float | None = None  # minutes
        self.calls: list[Mapping[str, Any]] = []

    def __call__(
        self, config: Mapping[str, Any], resume: Any = None, runs: Any = None, name: Any = None
    ) -> Path:
        run = Path(resume) if resume else Path(runs) / name
        before = plain(ours.load_config(run / ours.CONFIG)) if resume else {}
        settings = {**before.get("training", {}), **config.get("training", {})}
        self.calls.append(settings)
        run.mkdir(parents=True, exist_ok=True)
        (run / ours.CONFIG).write_text(to_yaml({"training": settings}))
        minutes = settings["max_minutes"]
        if self.stopped_at is not None:
            minutes = min(minutes, self.stopped_at)
        (run / ours.LAST).parent.mkdir(exist_ok=True)
        torch.save({"callbacks": {"TimeLimit": {"spent": 60.0 * minutes}}}, run / ours.LAST)
        steps = {"steps": str(round(self.rate * minutes))}
        save_weights(run / ours.WEIGHTS, {"w": torch.zeros(1)}, steps)
        return run


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    made = Trainer()
    monkeypatch.setattr("taming.training.run.train", made)
    return made


CONFIG = {"training": {"warmup_steps": 500}}


def test_a_stage_counts_its_steps_before_the_cosine(trainer: Trainer, tmp_path: Path) -> None:
    spent = ours.train_stage(CONFIG, tmp_path / "run", minutes=20.0)
    assert spent == 1200.0
    probe, whole = trainer.calls
    assert probe == {"warmup_steps": 500, "max_minutes": pytest.approx(20.0 * ours.PROBE)}
    assert whole == {"max_minutes": 20.0, "decay_steps": 1000, "warmup_steps": 100}


def test_a_stage_that_is_over_is_not_trained_again(trainer: Trainer, tmp_path: Path) -> None:
    ours.train_stage(CONFIG, tmp_path / "run", minutes=20.0)
    ours.train_stage(CONFIG, tmp_path / "run", minutes=20.0)
    assert len(trainer.calls) == 2


@pytest.mark.parametrize("minute", [1.0, 7.0])  # within the probe, and after it
def test_a_stage_that_was_stopped_goes_on(trainer: Trainer, tmp_path: Path, minute: float) -> None:
    trainer.stopped_at = minute
    with pytest.raises(Stopped):
        ours.train_stage(CONFIG, tmp_path / "run", minutes=20.0)
    trainer.stopped_at = None
    assert ours.train_stage(CONFIG, tmp_path / "run", minutes=20.0) == 1200.0
    assert trainer.calls[-1] == {"max_minutes": 20.0, "decay_steps": 1000, "warmup_steps": 100}


def test_minutes_that_are_used_up_are_an_error(
    trainer: Trainer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "encode_set", lambda *args: 60.0)
    with pytest.raises(ValueError, match=r"of 1 minutes the first stage took 0\.4 and encoding"):
        ours.train_ours(tmp_path, folder, 64, 1.0, silent)
