"""The published callbacks, for those who bring their own `pl.Trainer` with `taming.training.wrap`.

`taming train` has a run directory with pictures and configs of its own and needs neither.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image

from taming.checkpoint import atomic_write
from taming.config import to_yaml
from taming.training.base import StageTraining


class ImageLogger(pl.Callback):
    """Grids of the wrapped model as PNG in `images/train` of the trainer's folder."""

    def __init__(
        self,
        batch_frequency: int,  # batches between two grids
        max_images: int,  # 0: none; their number is training.pictures
        clamp: bool = True,  # grids always are
        increase_log_steps: bool = True,  # also at batches 1, 2, 4, 8, ...
    ) -> None:
        self.batch_frequency, self.max_images = batch_frequency, max_images
        self.increase_log_steps = increase_log_steps

    def is_due(self, batch: int) -> bool:
        grows = self.increase_log_steps and 0 < batch < self.batch_frequency
        return batch % self.batch_frequency == 0 or (grows and batch & (batch - 1) == 0)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if not isinstance(pl_module, StageTraining) or not trainer.is_global_zero:
            return
        if self.max_images < 1 or not self.is_due(batch_idx):
            return
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "images" / "train"
        step, epoch = pl_module.steps_done(), pl_module.current_epoch
        for name, picture in pl_module.pictures().items():
            path = folder / f"{name}_gs-{step:06}_e-{epoch:06}_b-{batch_idx:06}.png"
            with atomic_write(path) as partial:
                Image.fromarray(picture).save(partial)


class SetupCallback(pl.Callback):
    """Writes both parts of a published config to `cfgdir` when training starts."""

    def __init__(
        self,
        resume: str | bool,
        now: str,  # begins the names of the files
        logdir: str,
        ckptdir: str,
        cfgdir: str,
        config: Any,
        lightning_config: Any,
    ) -> None:
        self.now, self.folders = now, [Path(logdir), Path(ckptdir), Path(cfgdir)]
        self.config, self.lightning_config = config, lightning_config

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        for folder in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
        parts = {"project": self.config, "lightning": {"lightning": self.lightning_config}}
        for name, part in parts.items():
            with atomic_write(self.folders[-1] / f"{self.now}-{name}.yaml") as partial:
                partial.write_text(to_yaml(part), encoding="utf-8")
