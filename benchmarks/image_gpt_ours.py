"""Our two stages within so many minutes, from the committed configs of the rendered scenes.

    first stage     configs/worlds_tokenizer.yaml    40 % of the minutes
    second stage    configs/worlds.yaml              the rest, encoding the set included

The configs are made for a day. What is changed for an hour stands in `FIRST` and `SECOND`, and more
can be changed by hand. Nobody knows beforehand how many steps the minutes hold, on which the cosine
of the learning rate depends: each stage trains for a small share of its time (`PROBE`), counts its
steps, and goes on with the number that this makes of the whole.

Stages are trained by `taming.training.train`, and stopped and gone on with as any run.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from benchmarks.image_gpt_training import Stopped
from taming.config import load_config, plain
from taming.evaluation.demo_training import TEXT_PACKAGE
from taming.evaluation.journal import Journal
from taming.evaluation.report import Track
from taming.finding import CONFIG, WEIGHTS
from taming.training.callbacks import LAST

logger = logging.getLogger(__name__)

CONFIGS = Path(__file__).parents[1] / "configs"
FIRST_SHARE = 0.4  # of the minutes
PROBE = 0.08  # of a stage's minutes

BOTH = (
    "training.pictures_every=0",
    "training.checkpoint_minutes=5",
    "training.ema_decay=0.995",
    "data.params.num_workers=1",
    "trainer.accelerator=cpu",
)
FIRST = (
    *BOTH,
    "model.learning_rate=1.0e-3",
    "model.params.n_embed=1024",
    "model.params.ddconfig.ch=96",
    "model.params.ddconfig.z_channels=96",
    # A second player has no time to become one.
    "model.params.lossconfig.params.disc_factor=0.0",
    "model.params.lossconfig.params.disc_start=1000000",
    "training.restart_every=50",
    "training.warmup_steps=100",
)
SECOND = (
    *BOTH,
    "model.learning_rate=1.5e-3",
    "model.params.transformer_config.params.codebook_size=1024",
    "model.params.transformer_config.params.width=192",
    "model.params.transformer_config.params.layers=8",
    "model.params.transformer_config.params.heads=6",
    "model.params.transformer_config.params.trunk_layers=2",
    "data.params.batch_size=32",
    "data.params.codes.draws=2",
    "training.pictures=1",
    "training.warmup_steps=100",
)
# What a paired folder needs to have for a condition; other conditions are made of the picture.
NEEDED = {
    "labels": "labels",
    "depth": "depth",
    "pose": "keypoints.json",
    "class_label": "class_labels.json",
    "text": "captions.json",
}


def train_ours(
    folder: Path,
    data: Path,
    size: int,
    minutes: float,
    track: Track,
    *,
    seed: int = 0,
    first: Sequence[str] = (),  # more overrides
    second: Sequence[str] = (),
) -> tuple[Path, dict[str, Any]]:
    """The run of the second stage, and facts; raises Stopped where somebody asked for it."""
    tokenizer = configured("worlds_tokenizer", "first_stage", data, seed, [*FIRST, *first])
    # Crops of three quarters of the picture, as in the config
    tokenizer["data"]["params"]["size"] = crop_of(tokenizer, first, size)
    run, journal = folder / "first_stage", Journal(folder / "journal.json")
    with counted(journal):
        spent_first = train_stage(tokenizer, run, FIRST_SHARE * minutes)

    painter = configured("worlds", "second_stage", data, seed, [*SECOND, *second])
    params = painter["model"]["params"]
    params["first_stage_config"] = str(run)
    painter["data"]["params"]["size"] = size
    for name in left_out(params["cond_stage_config"], data):
        del params["cond_stage_config"][name]
        painter["data"]["params"]["codes"]["dropping"]["keep"].pop(name, None)
    cache = folder / "codes"
    painter["data"]["params"]["codes"]["cache"] = str(cache)
    with counted(journal):
        encoded = encode_set(painter, cache, journal, track)

    left = minutes - (spent_first + encoded) / 60.0
    if left <= 0:
        raise ValueError(
            f"of {minutes:g} minutes the first stage took {spent_first / 60:.1f} and encoding "
            f"{data} {encoded / 60:.1f}: none are left for the second; give more --minutes"
        )
    run = folder / "second_stage"
    with counted(journal):
        spent_second = train_stage(painter, run, left)
    facts = {
        "seconds": round(spent_first + encoded + spent_second, 1),
        "processor seconds": journal.seconds("processor", ""),
        "seconds of the first stage": round(spent_first, 1),
        "seconds of encoding": round(encoded, 1),
        "seconds of the second stage": round(spent_second, 1),
        "steps of the first stage": steps_of(folder / "first_stage"),
        "steps of the second stage": steps_of(run),
        "conditions": sorted(params["cond_stage_config"]),
    }
    return run, facts


def configured(
    file: str, name: str, data: Path, seed: int, overrides: Sequence[str]
) -> dict[str, Any]:
    """A committed config on this set alone, which holds nothing out for it to look at."""
    config = plain(load_config(CONFIGS / f"{file}.yaml", overrides))
    config |= {"name": name, "seed": seed}
    config["training"].pop("max_minutes", None)
    of_worlds = config["data"]["params"]["sets"][0]
    entry = {"path": str(data), "scale": of_worlds["scale"], "validation_split": None}
    config["data"]["params"]["sets"] = [entry]
    return config


def crop_of(tokenizer: Mapping[str, Any], given: Sequence[str], size: int) -> int:
    """Side of the first stage's crops for pictures of this size."""
    if any(override.startswith("data.params.size=") for override in given):
        return int(tokenizer["data"]["params"]["size"])
    return max(16, 3 * size // 64 * 16)


def left_out(conditions: Mapping[str, Any], data: Path) -> list[str]:
    """Conditions of which the set has nothing, or that this installation cannot read."""
    missing = [name for name in conditions if not (data / NEEDED.get(name, "")).exists()]
    if "text" in conditions and importlib.util.find_spec(TEXT_PACKAGE) is None:
        missing.append("text")
    return sorted(set(missing))


@contextmanager
def counted(journal: Journal) -> Iterator[None]:
    """Adds what the processor spends to that of earlier starts, however this one ends."""
    started = time.process_time()
    try:
        yield
    finally:
        before = journal.seconds("processor", "") or 0.0
        journal.finish("processor", "", before + time.process_time() - started)


def encode_set(config: Mapping[str, Any], cache: Path, journal: Journal, track: Track) -> float:
    """Seconds that it took to write the set's codes, now or earlier."""
    from taming.training.run import encode

    before = journal.seconds("codes", "")
    if before is not None:
        return before
    shutil.rmtree(cache, ignore_errors=True)
    started = time.monotonic()
    with track("ours, encoding the set") as progress:
        encode(config, cache, progress)
    journal.finish("codes", "", time.monotonic() - started)
    kept = journal.seconds("codes", "")  # rounded, so that a second start has the same
    assert kept is not None
    return kept


# --- one stage -----------------------------------------------------------------------------------


def train_stage(config: dict[str, Any], run: Path, minutes: float) -> float:
    """Trains into the run directory until the minutes are over; returns the seconds spent."""
    from taming.training.run import train

    if not (run / LAST).is_file():
        shutil.rmtree(run, ignore_errors=True)  # stopped before anything was saved
        probing = {**config["training"], "max_minutes": PROBE * minutes}
        train({**config, "training": probing}, runs=run.parent, name=run.name)
    elif not is_over(run):
        train({}, resume=run)
    checked(run)
    if planned_minutes(run) < minutes:
        train({"training": whole(run, minutes)}, resume=run)
        checked(run)
    return spent_seconds(run)


def whole(run: Path, minutes: float) -> dict[str, Any]:
    """The settings of the whole, by what the probe has done."""
    steps, share = steps_of(run), spent_seconds(run) / (60.0 * minutes)
    expected = max(steps + 1, math.ceil(steps / share))
    logger.info("%s: %d steps in %.1f %% of the time, about %d in all", run.name, steps,
                100 * share, expected)  # fmt: skip
    written = plain(load_config(run / CONFIG))["training"]
    rise = min(int(written["warmup_steps"]), max(1, expected // 10))
    return {"max_minutes": minutes, "decay_steps": expected, "warmup_steps": rise}


def checked(run: Path) -> None:
    """A training that came back before its time was asked to stop."""
    if not (run / LAST).is_file() or not is_over(run):
        raise Stopped


def is_over(run: Path) -> bool:
    return spent_seconds(run) >= 60.0 * planned_minutes(run)


def planned_minutes(run: Path) -> float:
    return float(load_config(run / CONFIG)["training"]["max_minutes"])


def spent_seconds(run: Path) -> float:
    """Of training so far, all starts together."""
    state = torch.load(run / LAST, map_location="cpu", weights_only=True, mmap=True)
    return float(state["callbacks"]["TimeLimit"]["spent"])


def steps_of(run: Path) -> int:
    """Of the optimiser, when the weights were written."""
    with safe_open(run / WEIGHTS, "pt") as file:
        return int(file.metadata()["steps"])
