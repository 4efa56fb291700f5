"""Steps of the project's own training loop, timed; if wanted, each beside one of the original's."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import pytorch_lightning as pl
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.harness import PeerTimer, seconds
from taming.training import wrap

RATE = 4.5e-6  # the published base learning rate


class Taken(NamedTuple):
    ours: list[float]  # seconds of each step
    theirs: list[float]


class Watch(pl.Callback):
    """Notes how long steps take, from a batch that is there to weights that have changed."""

    def __init__(self, theirs: PeerTimer | None = None) -> None:
        self.taken = Taken([], [])
        self.theirs = theirs
        self.began = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        if len(self.taken.ours) % 2 == 1:  # every other pair begins with the original
            self._measure_theirs()
        self.began = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.taken.ours.append(time.perf_counter() - self.began)
        if len(self.taken.ours) % 2 == 1:
            self._measure_theirs()

    def _measure_theirs(self) -> None:
        if self.theirs is not None:
            self.taken.theirs.append(seconds(self.theirs))


def fit(
    model: nn.Module, batches: Iterable[Any], theirs: PeerTimer | None = None, **settings: Any
) -> Taken:
    """One step for each batch, and one of the original's beside it."""
    watch = Watch(theirs)
    listed: Any = list(batches)
    run(model, settings, watch, train_dataloaders=DataLoader(listed, batch_size=None))
    return watch.taken


def run(
    model: nn.Module,
    settings: dict[str, Any],
    watch: Watch,
    profiler: Any = None,
    max_steps: int = -1,
    **data: Any,
) -> None:
    """`Trainer.fit` without anything beside the steps."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = pl.Trainer(
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
            callbacks=[watch],
            profiler=profiler,
            max_epochs=1,
            max_steps=max_steps,
        )
        trainer.fit(wrap(model, settings=settings, learning_rate=RATE), **data)
