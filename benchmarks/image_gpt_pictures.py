"""What both sides are asked, and what they answer: held-out pictures, completions, their seconds.

Held-out pictures of the set are shuffled once and halved: those of one half are completed, the
other half is what collections are held against. Both sides are given the upper half, Image-GPT
shrunk by area to what it can read, ours at full size. Picture i of draw d has the seed
d * 10,000 + i.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.image_gpt_measures import Labels, Pictures, shrunk
from benchmarks.image_gpt_model import SIDE
from taming.cond_stage.known import Known
from taming.data.batch import VOID
from taming.data.transforms import to_image
from taming.evaluation.completion import masks
from taming.evaluation.judge_training import draw_lessons, judge_config, judge_of
from taming.evaluation.measures import derangement
from taming.evaluation.records import HeldOut, open_sets
from taming.evaluation.report import Track
from taming.pipeline import Pipeline

LEAST = 5  # held-out pictures: of three that are asked, each has a third beside its other
SEEDS_APART = 10_000  # between two draws
TIMED = 3  # single pictures, after one that is not counted
TOGETHER = 16  # pictures completed at once
SMALLER = 4.0  # up to how many times smaller a judge sees pictures where they need not be smaller

# Pictures with a seed for each, and what is told of the progress -> completed ones.
Complete = Callable[[Pictures, Sequence[int], Callable[[int, int], None]], Pictures]


@dataclass(frozen=True)
class Asked:
    """The pictures, full size and small; label maps (N, H, W) where the set has them."""

    held: HeldOut
    truth: Pictures
    small: Pictures
    reference: Pictures
    labels: Tensor | None
    label_names: tuple[str, ...]


def ask(data: Path, size: int, count: int, seed: int) -> Asked:
    """The first `count` pictures to complete, and at most four times as many to compare with."""
    [held] = open_sets([{"path": str(data)}], {}, size=(size, size), seed=seed)
    if len(held.asked) + len(held.reference) < LEAST:
        raise ValueError(
            f"{data} holds out {len(held.asked) + len(held.reference)} pictures, at least {LEAST} "
            f"are needed; put more of them under `validation` in its split.json"
        )
    samples = [held.part.sample(index) for index in held.asked[:count]]
    truth = [held.picture(index) for index in held.asked[:count]]
    reference = [held.picture(index) for index in held.reference[: 4 * count]]
    has_labels = all("labels" in sample for sample in samples)
    labels = torch.stack([sample["labels"] for sample in samples]) if has_labels else None
    names = tuple(getattr(held.part, "label_names", ()))
    return Asked(held, truth, shrunk(truth, SIDE), reference, labels, names)


def seeds_of(draw: int, numbers: Sequence[int]) -> list[int]:
    return [draw * SEEDS_APART + number for number in numbers]


# --- ours ----------------------------------------------------------------------------------------


def checked(painter: Any, what: str) -> Pipeline:
    """A model that completes pictures in one go."""
    if not isinstance(painter, Pipeline) or "known" not in painter.conditions:
        raise ValueError(
            f"--run {what}: this model does not complete pictures; give the run of a "
            f"taming.transformer.multi_task second stage that was trained with the condition known"
        )
    return painter


def ours(pipeline: Pipeline, steps: int, guidance: float) -> Complete:
    """How our model completes: temperature 1, so many groups of codes."""

    def complete(
        pictures: Pictures, seeds: Sequence[int], progress: Callable[[int, int], None]
    ) -> Pictures:
        size = (pictures[0].height, pictures[0].width)
        above = torch.from_numpy(masks(size)[0])
        values = [
            {"known": Known.join(to_image(np.asarray(picture)), above)} for picture in pictures
        ]
        return pipeline.paint_each(
            values, size, seeds=seeds, steps=steps, guidance=guidance, progress=progress
        )

    return complete


# --- seconds -------------------------------------------------------------------------------------


def timed(complete: Complete, pictures: Pictures) -> dict[str, float]:
    """Seconds a picture, alone (the median) and many together; the first call is not counted."""

    def seconds(some: Pictures) -> float:
        started = time.perf_counter()
        complete(some, seeds_of(0, range(len(some))), lambda done, total: None)
        return time.perf_counter() - started

    seconds(pictures[:1])
    alone = [seconds([pictures[number % len(pictures)]]) for number in range(TIMED)]
    many = [pictures[number % len(pictures)] for number in range(TOGETHER)]
    return {
        "seconds a completion, alone": statistics.median(alone),
        f"seconds a completion, {TOGETHER} together": seconds(many) / TOGETHER,
    }


# --- judge ---------------------------------------------------------------------------------------


def labels_of(
    asked: Asked, folder: Path, draws: int, steps: int, seed: int, track: Track
) -> Labels | None:
    """A judge trained on true pictures of the training split; None where there are no labels."""
    if asked.labels is None or not asked.label_names:
        return None
    size = asked.held.size
    config = judge_config(
        "labels",
        asked.held.path,
        size,
        draws=draws,
        steps=steps,
        coarsest=max(SMALLER, size[0] / SIDE),
        seed=seed,
    )
    with track("judge of labels") as progress:
        judge = judge_of(folder, config, lambda: draw_lessons(config), progress)
    # In the judge's ids; only what lies below counts
    targets = judge.target(asked.labels, asked.label_names).clone()
    targets[:, : size[0] // 2] = VOID
    # Two places on in the cycle whose next place is another picture's column: what that column
    # shows must not be what makes a pixel contested.
    following = derangement(len(targets), seed)
    return Labels(judge, targets, targets[[following[place] for place in following]])
