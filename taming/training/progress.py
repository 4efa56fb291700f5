"""The bar under a training: steps done, pictures a second, the loss, time left."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from taming.training.base import StageTraining, picture_count
from taming.training.callbacks import StageCallback, TimeLimit

LOSSES = ("train/loss", "train/total_loss")
SMOOTHING = 0.05  # weight of the newest step in the rate shown


def share_done(steps: int, limit: int | None, seconds: float, max_seconds: float | None) -> float:
    """How much of a training is over, 0..1, by whichever limit comes first; 0 without limits."""
    by_steps = steps / limit if limit else 0.0
    by_time = seconds / max_seconds if max_seconds else 0.0
    return min(max(by_steps, by_time), 1.0)


def _share(trainer: pl.Trainer, module: StageTraining) -> float:
    clocks: list[Any] = list(trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]
    clock = next((each for each in clocks if isinstance(each, TimeLimit)), None)
    seconds, most = (clock.seconds(), 60 * clock.minutes) if clock else (0.0, None)
    return share_done(module.steps_done(), module.step_limit(), seconds, most)


class ProgressBar(StageCallback):
    """Shown on terminals only; elsewhere the history in the log says the same."""

    def __init__(self, name: str, console: Console | None = None) -> None:
        self.name = name
        self.console = console or Console(stderr=True)
        self.bar: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        assert isinstance(pl_module, StageTraining)
        self.started = self.stepped = time.monotonic()
        self.rate, self.pictures = 0.0, 0
        self.share_before = _share(trainer, pl_module)
        if self.console.is_terminal and trainer.is_global_zero:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self.bar = Progress(*columns, console=self.console)
            self.bar.add_task(self.name, total=1.0, text="starting")
            self.bar.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, StageTraining)
        self.pictures += picture_count(batch) if isinstance(batch, dict) else len(batch.codes)

    def after_step(self, trainer: pl.Trainer, module: StageTraining) -> None:
        now = time.monotonic()
        rate = self.pictures / max(now - self.stepped, 1e-9)
        self.rate = rate if self.rate == 0 else self.rate + SMOOTHING * (rate - self.rate)
        self.stepped, self.pictures = now, 0
        if self.bar is None:
            return
        steps, limit = module.steps_done(), module.step_limit()
        text = f"step {steps:,}" + (f" of {limit:,}" if limit else "")
        text += f"  {self.rate:.1f} pictures/s"
        loss = next((v for k in LOSSES if (v := trainer.callback_metrics.get(k)) is not None), None)
        if loss is not None:
            text += f"  loss {float(loss):.3f}"
        done = _share(trainer, module)
        if done > self.share_before:
            left = (now - self.started) * (1.0 - done) / (done - self.share_before)
            text += f"  {timedelta(seconds=round(left))} left"
        self.bar.update(self.bar.task_ids[0], completed=done, text=text)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: Any
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
