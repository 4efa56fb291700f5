"""What a run leaves behind while it trains: checkpoints, pictures, a history; and how it stops.

Everything happens between two steps of the optimiser, so that what is saved can be continued as if
it had never stopped.
"""

from __future__ import annotations

import csv
import logging
import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.plugins.io import TorchCheckpointIO

from taming.checkpoint import atomic_write, read_metadata, save_weights
from taming.training.base import StageTraining

logger = logging.getLogger(__name__)

LAST = "checkpoints/last.ckpt"
WEIGHTS = "weights.safetensors"
HISTORY = "history.csv"
HISTORY_COLUMNS = ("step", "seconds", "name", "value")
MONITOR = "validation/loss"  # what decides which weights are best


class AtomicCheckpointIO(TorchCheckpointIO):
    """Replaces checkpoints whole: a cut at any moment leaves the one before."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        with atomic_write(path) as partial:
            torch.save(checkpoint, partial)


class StageCallback(pl.Callback, ABC):
    """Calls `after_step` after every step of the optimiser, not after every batch."""

    _steps: int | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StageTraining)
        self._steps = pl_module.steps_done()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        assert isinstance(pl_module, StageTraining)
        if pl_module.steps_done() != self._steps:
            self._steps = pl_module.steps_done()
            self.after_step(trainer, pl_module)

    @abstractmethod
    def after_step(self, trainer: pl.Trainer, module: StageTraining) -> None:
        """Called once for every step of the model, however many batches it took."""


class TimeLimit(StageCallback):
    """Stops training after so many minutes, those before a resume included."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self.spent = minutes, 0.0
        self.started = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.started = time.monotonic()

    def seconds(self) -> float:
        return self.spent + time.monotonic() - self.started

    def after_step(self, trainer: pl.Trainer, module: StageTraining) -> None:
        if agreed(trainer, self.seconds() >= 60 * self.minutes):
            logger.info("stopped after %g minutes, as training.max_minutes says", self.minutes)
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.seconds()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = state_dict["spent"]


class StopWhenAsked(StageCallback):
    """On Ctrl-C or SIGTERM: finish the step, save, end. A second Ctrl-C ends at once."""

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if threading.current_thread() is threading.main_thread():  # signals go nowhere else
            for each in (signal.SIGINT, signal.SIGTERM):
                self._before[each] = signal.signal(each, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        logger.info("asked to stop: finishing this step, then saving")
        self.asked = True

    def after_step(self, trainer: pl.Trainer, module: StageTraining) -> None:
        if agreed(trainer, self.asked):  # it may be asked while it waits for the others
            self.asked = trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"asked": self.asked}  # for `was_stopped`; a run that goes on forgets it

    def restore(self) -> None:
        while self._before:
            each, before = self._before.popitem()
            if signal.getsignal(each) == self._ask:  # else Lightning has done it
                signal.signal(each, before)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.restore()  # not before the last pictures are painted and everything is saved

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: Any
    ) -> None:
        self.restore()


def was_stopped(run: Path) -> bool:
    """Whether the training of this run was asked to stop, and could go on."""
    state = torch.load(run / LAST, map_location="cpu", weights_only=True, mmap=True)
    return bool(state["callbacks"].get(StopWhenAsked.__name__, {}).get("asked"))


class SaveRun(StageCallback):
    """Everything needed to resume and to paint: every few minutes, and when training stops.

    Also after the step in which the process is sent USR1, where there is such a signal.
    """

    def __init__(self, folder: Path, minutes: float, keep: str = "last") -> None:
        self.folder, self.seconds, self.keep = folder, 60 * minutes, keep
        self.saved_at, self.saved_step = time.monotonic(), -1
        self.best: float | None = None
        self.asked = self.was_to_stop = False
        self._before: tuple[int, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, StageTraining)
        self.saved_step = pl_module.steps_done()  # nothing to save before the next one
        if self.keep == "best" and (self.folder / WEIGHTS).is_file():
            # The last validation comes after the last step was saved, and may have been the best.
            told = read_metadata(self.folder / WEIGHTS).get(MONITOR)
            self.best = None if told is None else float(told)  # None: kept as the last ones
        number = getattr(signal, "SIGUSR1", None)  # Windows has none
        if number is not None and threading.current_thread() is threading.main_thread():
            self._before = number, signal.signal(number, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True

    def restore(self) -> None:
        if self._before is not None:
            signal.signal(*self._before)
            self._before = None

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: Any
    ) -> None:
        self.restore()

    def after_step(self, trainer: pl.Trainer, module: StageTraining) -> None:
        limit = module.step_limit()
        # Asked to stop, it saves at once, though the trainer may have steps to make before it can.
        ends = trainer.should_stop and (can_stop(trainer) or not self.was_to_stop)
        self.was_to_stop = trainer.should_stop
        is_last = ends or (limit is not None and module.steps_done() >= limit)
        is_due = self.asked or time.monotonic() - self.saved_at >= self.seconds
        if is_last or agreed(trainer, is_due):
            self.save(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StageTraining)
        if pl_module.steps_done() != self.saved_step:
            self.save(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.restore()  # not before the last pictures are painted

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StageTraining)
        value = trainer.callback_metrics.get(MONITOR)
        if value is None or trainer.sanity_checking:
            return
        if self.best is None or float(value) < self.best:
            self.best = float(value)
            if self.keep == "best" and trainer.is_global_zero:
                self.export(pl_module)

    def save(self, trainer: pl.Trainer, module: StageTraining) -> None:
        check_finite(trainer.callback_metrics, module.steps_done())
        trainer.save_checkpoint(self.folder / LAST, weights_only=False)  # optimisers too
        if trainer.is_global_zero:
            if self.keep == "last" or self.best is None:
                self.export(module)
            logger.info("step %d: saved %s", module.steps_done(), self.folder)
        self.saved_at, self.saved_step = time.monotonic(), module.steps_done()
        self.asked = False

    def export(self, module: StageTraining) -> None:
        told = {"steps": str(module.steps_done())}
        if self.keep == "best" and self.best is not None:
            told[MONITOR] = repr(self.best)
        save_weights(self.folder / WEIGHTS, module.export(), told)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


class WritePictures(StageCallback):
    """Grids of every task as PNG and in TensorBoard, every so many steps and at the end."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every, self.written = folder / "images", every, -1

    def after_step(self, trainer: pl.Trainer, module: StageTraining) -> None:
        if self.every and module.steps_done() % self.every == 0:
            self.write(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StageTraining)
        if pl_module.steps_done() > 0:
            self.write(trainer, pl_module)

    def write(self, trainer: pl.Trainer, module: StageTraining) -> None:
        step = module.steps_done()
        if step == self.written or not trainer.is_global_zero:
            return
        self.written = step
        for name, picture in module.pictures().items():
            with atomic_write(self.folder / f"{name}_{step:07d}.png") as partial:
                Image.fromarray(picture).save(partial)
            for each in trainer.loggers:
                write = getattr(getattr(each, "experiment", None), "add_image", None)
                if write is not None:
                    write(name, picture, step, dataformats="HWC")


class WriteHistory(StageCallback):
    """The numbers of every few steps, in `history.csv` (a row each) and in the log (a line)."""

    def __init__(self, folder: Path, every: int) -> None:
        self.path, self.every = folder / HISTORY, every
        self.started, self.first_step = time.monotonic(), 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, StageTraining)
        self.started, self.first_step = time.monotonic(), pl_module.steps_done()
        if trainer.is_global_zero:
            self._forget_after(self.first_step)

    def after_step(self, trainer: pl.Trainer, module: StageTraining) -> None:
        step = module.steps_done()
        if step % self.every == 0:
            metrics = trainer.callback_metrics
            named = {k: v for k, v in metrics.items() if not k.startswith("validation/")}
            self.write(trainer, step, named)
            check_finite(metrics, step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StageTraining)
        if not trainer.sanity_checking:
            metrics = trainer.callback_metrics
            named = {k: v for k, v in metrics.items() if k.startswith("validation/")}
            self.write(trainer, pl_module.steps_done(), named)

    def write(self, trainer: pl.Trainer, step: int, metrics: Mapping[str, Any]) -> None:
        if not trainer.is_global_zero or not metrics:
            return
        seconds = time.monotonic() - self.started
        numbers = {name: float(value) for name, value in sorted(metrics.items())}
        rate = (step - self.first_step) / max(seconds, 1e-9)
        listed = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        logger.info("step %d (%.0f s, %.2f steps/s): %s", step, seconds, rate, listed)
        self._append([[step, f"{seconds:.1f}", name, value] for name, value in numbers.items()])

    def _append(self, rows: list[list[Any]]) -> None:
        is_new = not self.path.exists()
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HISTORY_COLUMNS, *rows] if is_new else rows)

    def _forget_after(self, step: int) -> None:
        """A resumed run tells its steps after the checkpoint again."""
        if not self.path.exists():
            return
        with open(self.path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        # A disk that was full may have cut it; a row without all of its columns is none.
        kept = [row for row in rows if len(row) == len(HISTORY_COLUMNS) and row[0].isdigit()]
        kept = [row for row in kept if int(row[0]) <= step]
        with atomic_write(self.path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([HISTORY_COLUMNS, *kept])


def check_finite(metrics: Mapping[str, Any], step: int) -> None:
    """Numbers of a broken training must neither replace good weights nor cost another hour."""
    for name, value in sorted(metrics.items()):
        if name.startswith("train/") and not math.isfinite(float(value)):
            raise ValueError(
                f"{name} is {float(value)} at step {step}, the weights saved before are kept; "
                f"lower the learning rate or give trainer.gradient_clip_val"
            )


def can_stop(trainer: pl.Trainer) -> bool:
    """Whether the trainer stops where it should; not before its `min_steps` and `min_epochs`."""
    return bool(getattr(trainer.fit_loop, "_can_stop_early", True))


def agreed(trainer: pl.Trainer, wanted: bool) -> bool:
    """Whether any device wants it: all of them must save and stop at the same step."""
    if trainer.world_size == 1:
        return wanted
    return bool(trainer.strategy.reduce_boolean_decision(wanted, all=False))
