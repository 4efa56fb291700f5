"""The directory of a run: which one a training writes into, and what says what it is.

    runs/<name>/  config.yaml  weights.safetensors  checkpoints/last.ckpt
                  images/  history.csv  train.log

A new run has a new one; a training that goes on has its own.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only

from taming.checkpoint import CheckpointError, atomic_write
from taming.config import ConfigError, to_yaml
from taming.loading import CONFIG
from taming.training.callbacks import LAST
from taming.training.sections import for_reading

RUNS = Path("runs")
RUN_VARIABLE = "TAMING_RUN"


def run_directory(named: Path) -> Path:
    """The run of a folder, or of its checkpoint: there is one that can be gone on with."""
    if not named.is_file():
        return named
    folder = named.parent.parent
    if named != folder / LAST:
        raise CheckpointError(
            f"{named} is not the {LAST} of a run, which alone can be resumed; to start from its "
            f"weights, set model.params.ckpt_path={named}"
        )
    return folder


def is_first_process() -> bool:
    """Whether this is the only process of a training, or the one that speaks for all.

    Before there is a trainer, processes of other machines are known by the machine's number alone.
    """
    machine = os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))
    return rank_zero_only.rank == 0 and machine.strip() in ("", "0")


def new_run_directory(name: str, runs: Path = RUNS) -> Path:
    """runs/name, or runs/name-2, -3, ... where that exists; TAMING_RUN, where it is set.

    All processes of a training share one. Those that Lightning starts are told which; those that
    torchrun or a cluster starts cannot ask one another yet.
    """
    named = os.environ.get(RUN_VARIABLE)
    if not is_first_process() and not named:
        raise ConfigError(
            f"this is not the first process of a training that was started from outside, as by "
            f"torchrun: set {RUN_VARIABLE} to the run directory of all, a new folder"
        )
    if named:
        folder = Path(named)
        if is_first_process() and folder.exists() and any(folder.iterdir()):
            raise ConfigError(f"{RUN_VARIABLE} is {folder}, which is not empty; name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    for number in range(1, 10_000):
        folder = runs / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            folder.mkdir(parents=True)
            return folder
    raise OSError(f"{runs} has ten thousand runs named {name}; remove some")


@contextmanager
def told_to_processes(folder: Path) -> Iterator[None]:
    """Processes that are started within find the run directory in their environment."""
    before = os.environ.get(RUN_VARIABLE)
    os.environ[RUN_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ[RUN_VARIABLE]
        else:
            os.environ[RUN_VARIABLE] = before


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Everything `taming` logs on the first device also goes into this file."""
    if not is_first_process():
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("taming")
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()


@contextmanager
def written_config(folder: Path, config: Mapping[str, Any]) -> Iterator[None]:
    """The config in its run directory; the one before, where nothing was saved by the new one."""

    def last() -> int | None:
        return (folder / LAST).stat().st_mtime_ns if (folder / LAST).is_file() else None

    if not is_first_process():
        yield
        return
    path, saved = folder / CONFIG, last()
    before = path.read_bytes() if path.is_file() else None
    with atomic_write(path) as partial:
        partial.write_text(to_yaml(for_reading(config)), encoding="utf-8")
    try:
        yield
    except BaseException:
        if before is not None and last() == saved:
            with atomic_write(path) as partial:
                partial.write_bytes(before)
        raise
