"""How a judge learns: draws of a training split, as they are and reconstructed, in minutes.

All judges of a set learn from the same lessons: random crops with all their annotations, made once,
and the same crops through the first stage that is to be judged. Each example is shown in one of the
two forms. Half of the batches are seen as if they had been smaller, so that a judge goes by shapes
and colours rather than by grain: it must not prefer a picture for being sharp. All of that are
changes of true pictures, the same for whatever is judged later.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.data.batch import NO_CLASS, collate
from taming.data.datamodule import ImageData
from taming.data.image_list import ImageList
from taming.data.marks import mark_of
from taming.data.pictures import NoPictures
from taming.evaluation.judge import Judge, JudgeConfig, NoJudge
from taming.evaluation.judges import (
    CONFIG,
    build_judge,
    load_judge,
    numbered,
    save_judge,
)
from taming.training.memory import keep_freed_memory
from taming.worlds.captions import ATTRIBUTES, attributes

logger = logging.getLogger(__name__)

WARMUP = 50  # steps
TYPICAL = 200  # true samples behind the mean of a judge
AT_ONCE = 16  # pictures that are reconstructed together
LOGGED = 100  # steps between two lines in the log

Progress = Callable[[int, int], None]  # done, in all
Reconstruct = Callable[[Tensor], Tensor]  # (B, 3, H, W) in [-1, 1], both


@dataclass(frozen=True)
class Lessons:
    """What the judges of one set learn from, small enough to be kept in memory."""

    samples: list[dict[str, Any]]  # random draws; numbers as they are on disk
    reconstructed: Tensor | None  # uint8 (N, 3, H, W)
    typical: list[dict[str, Any]]  # central crops, as data gives them

    def having(self, annotation: str) -> list[int]:
        """Which draws have what a judge reads."""
        return [n for n, sample in enumerate(self.samples) if has(sample, annotation)]

    def batch(self, chosen: list[int], reconstructed: Tensor) -> dict[str, Any]:
        """Draws in the conventions of data/batch.py, those reconstructed (B,) in that form."""
        samples = [restored(self.samples[n]) for n in chosen]
        batch = collate(samples)
        batch["attributes"] = torch.stack([sample["attributes"] for sample in samples])
        if self.reconstructed is not None:
            others = to_float(self.reconstructed[chosen])
            batch["image"] = torch.where(reconstructed[:, None, None, None], others, batch["image"])
        return batch


def draw_lessons(
    config: JudgeConfig, reconstruct: Reconstruct | None = None, progress: Progress | None = None
) -> Lessons:
    """`config.draws` random crops of the split that the config names."""
    data = open_data(config)
    part = data.train.sets[0]
    samples: list[dict[str, Any]] = []
    others: list[Tensor] = []
    order = np.random.default_rng(config.seed).permutation(len(part))
    for first in range(0, config.draws, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, config.draws))
        drawn = [part.sample(int(order[n % len(part)]), n // len(part)) for n in numbers]
        if reconstruct is not None:
            others.append(to_bytes(reconstruct(torch.stack([s["image"] for s in drawn]))))
        samples += [stored(sample, part) for sample in drawn]
        if progress is not None:
            progress(len(samples), config.draws)
    centred = data.validation  # the same split once more, without chance
    assert centred is not None
    every = max(1, len(centred) // TYPICAL)
    typical = [centred.sample(index) for index in range(0, len(centred), every)]
    return Lessons(samples, torch.cat(others) if others else None, typical)


def open_data(config: JudgeConfig) -> ImageData:
    """The set of a judge in its own vocabulary; its validation is the same split, centred."""
    entry = {
        "path": config.path,
        "size": config.size,
        "format": config.format,
        "ignore": config.ignore,
        "flip": config.flip,
        "scale": config.scale,
        "jitter": config.jitter,
        "split": config.split,
        "validation_split": config.split,
    }
    return ImageData([entry], seed=config.seed)


def judge_config(
    task: str,
    path: Path,
    size: tuple[int, int],
    held_out: Collection[str] = (),  # names of pictures that it is to judge
    **settings: Any,
) -> JudgeConfig:
    """The config of a judge, with what its set says of itself: names, pictures, the mark.

    NoJudge where the set has nothing to learn from, or nothing but what is to be judged.
    """
    plain = JudgeConfig(
        task=task,  # pyright: ignore[reportArgumentType]
        path=str(path),
        size=size,
        names=("any",),
        **settings,
    )
    data = open_data(plain)
    try:
        part = data.train.sets[0]
    except NoPictures as error:
        raise NoJudge(str(error)) from error
    known = len(set(part.names).intersection(held_out))
    if known:
        raise NoJudge(
            f"{known} of the {len(part)} pictures in its split '{plain.split}', from which a judge "
            f"would learn, are among those that are held out"
        )
    return replace(
        plain,
        names=vocabulary(data, task),
        pictures=len(part),
        annotated=mark_of(part),
    )


def train_judge(config: JudgeConfig, lessons: Lessons, progress: Progress | None = None) -> Judge:
    """A judge that has learned from the lessons that have what it reads; NoJudge: none has."""
    torch.manual_seed(config.seed)
    keep_freed_memory()
    judge = build_judge(config)
    usable = lessons.having(judge.annotation)
    if not usable:
        raise NoJudge(f"{config.path} has nothing from which a judge learns {config.task}")
    optimizer = torch.optim.AdamW(judge.parameters(), lr=config.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: _rate(n, config.steps))
    generator = torch.Generator().manual_seed(config.seed)
    late = math.nan
    for step in range(1, config.steps + 1):
        drawn = torch.randint(len(usable), (config.batch_size,), generator=generator)
        coins = torch.rand(config.batch_size, generator=generator) < 0.5
        batch = lessons.batch([usable[int(n)] for n in drawn], coins)
        loss = judge.loss(batch, coarsened(batch["image"], config.coarsest, generator))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        late = loss.item() if step == 1 else 0.95 * late + 0.05 * loss.item()
        if progress is not None:
            progress(step, config.steps)
        if step % LOGGED == 0:
            logger.info("judge of %s: step %d, loss %.3f", config.task, step, late)
    typical = [sample for sample in lessons.typical if has(sample, judge.annotation)]
    # What is rare in a set may be in none of them.
    judge.settle(typical or (restored(lessons.samples[n]) for n in usable))
    return judge.eval().requires_grad_(False)


def judge_of(
    folder: Path,
    config: JudgeConfig,
    lessons: Callable[[], Lessons],
    progress: Progress | None = None,
) -> Judge:
    """The judge of this config; if the folder does not have it yet, it is trained and saved."""
    home = folder / home_of(config)
    if not (home / CONFIG).is_file():
        save_judge(train_judge(config, lessons(), progress), home)
    return load_judge(home)


def home_of(config: JudgeConfig) -> str:
    """Name of a judge's folder: it says what decided the judge, not where its set lies."""
    told = json.dumps({**asdict(config), "path": Path(config.path).name}, sort_keys=True)
    mark = hashlib.sha256(told.encode()).hexdigest()[:8]
    height, width = config.size
    return f"{Path(config.path).name}_{config.task}_{height}x{width}_{mark}"


def vocabulary(data: ImageData, task: str) -> tuple[str, ...]:
    """The names that a judge of the set needs in its config."""
    names = {"labels": data.label_names, "class_label": data.class_names}
    return tuple(names.get(task, ()))


def coarsened(images: Tensor, coarsest: float, generator: torch.Generator) -> Tensor:
    """Half of the batches seen as if they were up to `coarsest` times smaller."""
    chance, amount = torch.rand(2, generator=generator).tolist()
    if chance < 0.5 or coarsest <= 1.0:
        return images
    size = images.shape[-2:]
    small = [max(1, round(side / coarsest**amount)) for side in size]
    return F.interpolate(F.interpolate(images, small, mode="area"), size, mode="bilinear")


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: a short rise, then half a cosine down to zero."""
    rise = min(1.0, (step + 1) / min(WARMUP, max(1, steps // 10)))
    return rise * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps)))


# --- samples in memory ---------------------------------------------------------------------------

STORED = {"labels": torch.int16, "depth": torch.float16}


def stored(sample: dict[str, Any], part: ImageList) -> dict[str, Any]:
    """A sample in a third of the room, and what all its captions name together."""
    kept = {key: value for key, value in sample.items() if key not in ("image", "boxes", "set")}
    kept["image"] = to_bytes(sample["image"])
    for key, dtype in STORED.items():
        if key in sample:
            kept[key] = sample[key].to(dtype)
    kept["attributes"] = numbered(named_in(captions_of(part, sample)))
    return kept


def restored(kept: dict[str, Any]) -> dict[str, Any]:
    sample = {**kept, "image": to_float(kept["image"])}
    if "labels" in kept:
        sample["labels"] = kept["labels"].long()
    if "depth" in kept:
        sample["depth"] = kept["depth"].float()
    return sample


def has(sample: dict[str, Any], annotation: str) -> bool:
    if annotation == "attributes":
        told = sample.get("attributes")
        return told is not None and bool((told != NO_CLASS).any())
    return annotation in sample and bool(torch.as_tensor(sample[annotation]).numel())


def captions_of(part: ImageList, sample: dict[str, Any]) -> list[str]:
    """All captions of a sample's picture; a sample carries one of them."""
    every = getattr(part, "captions", {}).get(sample["name"])
    return list(every or ([sample["caption"]] if sample.get("caption") else []))


def named_in(captions: list[str]) -> dict[str, str]:
    """What the captions of one picture name; people that none of a scene's mentions are not there.

    Captions of photographs that name no place of `ATTRIBUTES` say nothing of people either.
    """
    told: dict[str, str] = {}
    for caption in captions:
        told = attributes(caption) | told  # the first are the plainest, and are not overruled
    if "biome" not in told:
        return {}
    return {"people": ATTRIBUTES["people"][0]} | told


def to_bytes(images: Tensor) -> Tensor:
    return ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1.0
