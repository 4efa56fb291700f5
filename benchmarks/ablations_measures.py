"""What is measured of a trained variant, picture by picture, on scenes that no training has seen.

Every function gives one number for each held-out picture, in one order for all variants, so that
two variants are compared pair by pair. Orders, masks and seeds belong to the picture.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taming.cond_stage.sources import to_uint8
from taming.evaluation.judge import Reader
from taming.evaluation.measures import derangement
from taming.evaluation.networks import Eyes, batches, psnr_of
from taming.evaluation.obedience import readings
from taming.evaluation.reconstruction import code_rows, reconstruct
from taming.evaluation.records import Record
from taming.first_stage.prepared import PreparedFirstStage
from taming.first_stage.vqgan import VQModel
from taming.sampling import UNKNOWN, orders, sample
from taming.sampling.parallel import group_sizes
from taming.training.cache import CodesCache
from taming.training.codes import (
    ORDER_KINDS,
    Dropping,
    OrderShares,
    draw_example,
    stack_examples,
    training_codes,
)
from taming.transformer.decoder import Decoder
from taming.transformer.multi_task import MultiTaskTransformer

AT_ONCE = 16  # pictures
GUIDANCE = 2.0  # the scale at which pictures are painted, as in `taming evaluate`

Each = dict[str, list[float]]  # measure -> one number for each picture
Progress = Callable[[int, int], None]


class Sampling(NamedTuple):
    """In which order cells are painted, and in how many steps."""

    order: Callable[[int, int, torch.Generator], Tensor]  # h, w -> (T,)
    steps: int | None  # None: one code at a time


SAMPLINGS = {
    "24 steps": Sampling(orders.spread, 24),
    "raster": Sampling(lambda height, width, _: orders.raster(height, width), None),
}


# --- second stages -------------------------------------------------------------------------------


@torch.inference_mode()
def paint(
    model: MultiTaskTransformer,
    records: Sequence[Mapping[str, Tensor]],  # values of the same conditions in each
    size: tuple[int, int],
    seeds: Sequence[int],  # one for each record
    sampling: Sampling,
    prepared: PreparedFirstStage | None = None,
) -> list[Image.Image]:
    """One picture for each record, all at once."""
    grid = model.grid(size)
    values = {name: torch.stack([record[name] for record in records]) for name in records[0]}
    branches, scales = model.branches(values, len(records), grid, GUIDANCE)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    order = torch.stack([sampling.order(*grid, generator) for generator in generators])
    codes = sample(
        Decoder(model.transformer, branches, scales),
        torch.full_like(order, UNKNOWN),
        order,
        group_sizes(order.shape[1], sampling.steps),
        generators=generators,
    )
    prepared = prepared or PreparedFirstStage(model.first_stage_model)
    pixels = to_uint8(prepared.decode_code(codes.unflatten(1, grid)))
    return [Image.fromarray(each) for each in pixels]


@torch.inference_mode()
def nats_per_code(
    model: MultiTaskTransformer,
    cache: CodesCache,  # held-out pictures
    pictures: int,  # how many, spread over the cache
    kind: str,  # of order, one of ORDER_KINDS
    given: Sequence[str],  # conditions; all others are absent
) -> list[float]:
    """Mean cross-entropy over the codes asked for, of each picture.

    Examples are drawn as in training, with one kind of order and one set of conditions.
    """
    shares = OrderShares(**{each: float(each == kind) for each in ORDER_KINDS})
    dropping = Dropping(everything=0.0, keep=dict.fromkeys(given, 1.0), keep_others=0.0)
    count = min(pictures, len(cache))
    chosen = np.linspace(0, len(cache) - 1, count).round().astype(int).tolist()
    found: list[float] = []
    for first in range(0, count, AT_ONCE):
        examples = [
            draw_example(
                cache[n], model.conditions, shares, dropping, np.random.default_rng((n, 11))
            )
            for n in chosen[first : first + AT_ONCE]
        ]
        batch = stack_examples(examples, model.conditions)
        codes = training_codes(batch, model.first_stage_model)
        nats = model(codes, batch.values, batch.present, batch.grid)  # (B, T), 0 where given
        found += (nats.sum(dim=1) / (nats.shape[1] - batch.known)).tolist()
    return found


def obeyed(
    reader: Reader,
    condition: str,
    words: Sequence[str],  # the condition's vocabulary
    records: Sequence[Record],
    pictures: Sequence[Image.Image],
    seed: int = 0,
) -> Each:
    """The reader's measures of each picture against what was asked for."""
    shuffle = derangement(len(records), seed)
    targets = torch.stack([reader.target(record.asked[condition], words) for record in records])
    others, seen = targets[shuffle], readings(reader, pictures)
    each: Each = {}
    for n in range(len(records)):
        own = slice(n, n + 1)
        for measure, value in reader.score(seen[own], targets[own], others[own]).items():
            each.setdefault(measure, []).append(value)
    return each


class Timed(NamedTuple):
    """Seconds for one picture, medians over rounds."""

    alone: float
    together: float  # of AT_ONCE


def seconds_per_picture(
    works: Mapping[str, Callable[[int], object]],  # paints so many pictures at once
    rounds: int,
    progress: Progress | None = None,
) -> dict[str, Timed]:
    """All variants in turn, so that whatever else the machine does meets them alike."""
    taken: dict[tuple[str, int], list[float]] = {}
    counts = (1, AT_ONCE)
    for round_ in range(rounds + 1):
        for name, work in works.items():
            for count in counts:
                began = time.perf_counter()
                work(count)
                if round_:  # the first only warms up
                    seconds = (time.perf_counter() - began) / count
                    taken.setdefault((name, count), []).append(seconds)
        if progress is not None:
            progress(round_ + 1, rounds + 1)
    return {
        name: Timed(*(statistics.median(taken[name, count]) for count in counts)) for name in works
    }


# --- first stages --------------------------------------------------------------------------------


class Kept(NamedTuple):
    """What a codebook keeps of held-out pictures."""

    each: Each  # PSNR in decibels and, where it is asked for, the perceptual distance
    whole: dict[str, float]  # usage and perplexity, of all pictures together


def kept(first_stage: VQModel, true: Sequence[Image.Image], eyes: Eyes | None = None) -> Kept:
    """See `taming.evaluation.reconstruction`."""
    found = reconstruct(first_stage, true)
    pairs = zip(batches(true), batches(found.pictures), strict=True)
    each = {"PSNR": torch.cat([psnr_of(one, other) for one, other in pairs]).tolist()}
    if eyes is not None:
        each["perceptual distance"] = eyes.distances(true, found.pictures)
    rows: list[Any] = code_rows("", found.counts)
    return Kept(each, {row.measure: float(row.reconstructed) for row in rows})
