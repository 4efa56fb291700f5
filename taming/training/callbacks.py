"""What a run leaves behind while it trains: checkpoints, pictures, a history of its numbers."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger

from taming.checkpoint import atomic_write, save_weights
from taming.training.base import StageTraining

logger = logging.getLogger(__name__)

LAST = "checkpoints/last.ckpt"
WEIGHTS = "weights.safetensors"
HISTORY = "history.csv"


class StageCallback(pl.Callback):
    """A callback that writes into a run directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder


class SaveRun(StageCallback):
    """Everything needed to resume and to paint: every few minutes, at the end, and when stopped.

    Files are replaced whole, so that a cut at any moment leaves the ones before.
    """

    def __init__(self, folder: Path, minutes: float) -> None:
        super().__init__(folder)
        self.seconds = 60 * minutes
        self.saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        if time.monotonic() - self.saved_at >= self.seconds:
            self.save(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """A run that was interrupted by hand or by the system can go on; one that broke cannot."""
        is_stopped = isinstance(exception, KeyboardInterrupt | SystemExit)
        if is_stopped and trainer.state.stage == "train":
            self.save(trainer, pl_module)

    def save(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StageTraining)
        with atomic_write(self.folder / LAST) as partial:
            trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            save_weights(
                self.folder / WEIGHTS, module.export(), {"steps": str(module.steps_done())}
            )
            logger.info("step %d: saved %s", module.steps_done(), self.folder)
        self.saved_at = time.monotonic()


class WritePictures(StageCallback):
    """Grids of every task as PNG and in TensorBoard, every so many steps and at the end."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder / "images")
        self.every, self.written = every, -1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        assert isinstance(pl_module, StageTraining)
        step = pl_module.steps_done()
        if self.every and step and step % self.every == 0:
            self.write(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.write(trainer, pl_module)

    def write(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, StageTraining)
        step = module.steps_done()
        if step == self.written or not trainer.is_global_zero:
            return
        self.written = step
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, picture in module.pictures().items():
            with atomic_write(self.folder / f"{name}_{step:07d}.png") as partial:
                Image.fromarray(picture).save(partial)
            for each in trainer.loggers:
                if isinstance(each, TensorBoardLogger):
                    each.experiment.add_image(name, picture, step, dataformats="HWC")


class WriteHistory(StageCallback):
    """One line of numbers every few steps, in `history.csv` and in the log."""

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder)
        self.every = every
        self.started, self.first_step = time.monotonic(), 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StageTraining)
        self.started, self.first_step = time.monotonic(), pl_module.steps_done()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        assert isinstance(pl_module, StageTraining)
        step = pl_module.steps_done()
        if step and step % self.every == 0:
            self.write(trainer, step)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, StageTraining)
        if not trainer.sanity_checking:
            self.write(trainer, pl_module.steps_done(), only="validation/")

    def write(self, trainer: pl.Trainer, step: int, only: str = "") -> None:
        if not trainer.is_global_zero:
            return
        seconds = time.monotonic() - self.started
        numbers = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith(only) and (only or not name.startswith("validation/"))
        }
        rate = (step - self.first_step) / max(seconds, 1e-9)
        listed = ", ".join(f"{name} {value:.4g}" for name, value in sorted(numbers.items()))
        logger.info("step %d (%.0f s, %.2f steps/s): %s", step, seconds, rate, listed)
        path = self.folder / HISTORY
        is_new = not path.exists()
        with open(path, "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(["step", "seconds", "name", "value"])
            rows = [[step, f"{seconds:.1f}", name, value] for name, value in numbers.items()]
            writer.writerows(rows)


class TimeLimit(pl.Callback):
    """Stops training after so many minutes, those before a resume included."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self.spent = minutes, 0.0
        self.started = time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        seconds = self.spent + time.monotonic() - self.started
        # Every device must stop at the same step, so the first one decides.
        is_over = torch.tensor(float(seconds >= 60 * self.minutes), device=pl_module.device)
        if bool(trainer.strategy.broadcast(is_over)):
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent + time.monotonic() - self.started}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent = state_dict["spent"]
