"""Trainings of one length in minutes, whose weights are kept on the way: how, not what.

A run keeps its averaged weights at steps that stand a fixed ratio apart, the same for all runs, so
that a fast and a slow variant can also be compared after equally many examples. With each stands
how long the run had trained by then, pauses not counted.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch import Tensor, nn

from taming.checkpoint import load_weights, read_metadata, read_state_dict, save_weights
from taming.config import PREFIXES_VARIABLE, instantiate_from_config
from taming.finding import find, for_inference, model_section
from taming.training.base import StageTraining
from taming.training.callbacks import LAST, StageCallback, TimeLimit
from taming.training.run import train

SNAPSHOTS = "snapshots"  # folder in a run directory
FIRST_STEP, RATIO = 16, 2**0.5
FROZEN = "first_stage_model."  # of a second stage: in the run's own weights


class StoppedEarly(Exception):
    """Somebody asked a training to stop; it can be gone on with."""


class Snapshot(NamedTuple):
    step: int
    seconds: float  # of training until then
    path: Path


def is_kept(step: int) -> bool:
    """Whether weights are kept after this step: 16, 23, 32, 45, 64, ..."""
    kept, number = FIRST_STEP, 0
    while kept < step:
        number += 1
        kept = round(FIRST_STEP * RATIO**number)
    return kept == step


def snapshots(run: Path) -> list[Snapshot]:
    """Those of a run in the order of their steps; the last is where it ended."""
    found = []
    for path in sorted((run / SNAPSHOTS).glob("*.safetensors")):
        told = read_metadata(path)
        found.append(Snapshot(int(told["steps"]), float(told["seconds"]), path))
    return found


class Snapshots(StageCallback):
    """Keeps averaged weights on the way and at the end."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, StageTraining)
        for each in snapshots(_folder(trainer)):
            if each.step > pl_module.steps_done():  # of a training that was cut, told again now
                each.path.unlink()

    def after_step(self, trainer: pl.Trainer, module: StageTraining) -> None:
        if is_kept(module.steps_done()) and not _file(trainer, module).is_file():
            self.keep(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StageTraining)
        self.keep(trainer, pl_module)  # once more where it is kept: its time says it is the end

    def keep(self, trainer: pl.Trainer, module: StageTraining) -> None:
        clocks = _clocks(trainer)
        if not trainer.is_global_zero:
            return
        own = {k: v for k, v in module.export().items() if not k.startswith(FROZEN)}
        told = {"steps": str(module.steps_done()), "seconds": f"{clocks[0].seconds():.2f}"}
        save_weights(_file(trainer, module), own, told)


def _file(trainer: pl.Trainer, module: StageTraining) -> Path:
    return _folder(trainer) / SNAPSHOTS / f"{module.steps_done():07d}.safetensors"


def _folder(trainer: pl.Trainer) -> Path:
    return Path(trainer.default_root_dir)


def _clocks(trainer: pl.Trainer) -> list[TimeLimit]:
    every: list[Any] = list(trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
    clocks = [each for each in every if isinstance(each, TimeLimit)]
    if not clocks:
        raise ValueError("snapshots tell their time; give training.max_minutes")
    return clocks


def is_complete(run: Path, minutes: float) -> bool:
    """Whether a run has trained for all of its minutes."""
    kept = snapshots(run)
    return bool(kept) and kept[-1].seconds >= 60 * minutes


def train_for(config: Mapping[str, Any], run: Path, go_on: bool) -> None:
    """Train into `run`, from where it was stopped if `go_on`; StoppedEarly if it is stopped now."""
    known = os.environ.get(PREFIXES_VARIABLE, "")
    if "benchmarks." not in known.split(","):  # `Snapshots` is named in the config
        os.environ[PREFIXES_VARIABLE] = f"{known},benchmarks.".lstrip(",")
    minutes = config["training"]["max_minutes"]
    if go_on and is_complete(run, minutes):
        return
    if go_on and (run / LAST).is_file():
        train(config, resume=run)
    else:
        shutil.rmtree(run, ignore_errors=True)  # stopped too early, or of other settings
        train(config, name=run.name, runs=run.parent)
    if not is_complete(run, minutes):
        raise StoppedEarly(f"{run.name} was stopped; the same command goes on with it")


def model_at(run: Path, snapshot: Snapshot) -> nn.Module:
    """The model of a run as it was then."""
    found = find(run)
    model = instantiate_from_config(for_inference(model_section(found.config)))
    frozen: dict[str, Tensor] = {
        name: tensor
        for name, tensor in read_state_dict(found.weights).items()
        if name.startswith(FROZEN)
    }
    state = frozen | read_state_dict(snapshot.path)
    load_weights(model, state, source=str(snapshot.path))
    return model.eval().requires_grad_(False)
