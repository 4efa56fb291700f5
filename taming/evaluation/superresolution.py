"""Small pictures made large: is it better than bicubic, and does it shrink back to what was given?

A picture is shrunk, handed to the model as eight bits, and painted at full size. Two questions: how
far is the result from the true picture, in the perceptual distance, against what bicubic
enlargement gives; and how well does the result, shrunk again, agree with the small picture.

The pipeline takes all but the detail from the small picture, whatever is painted. Here the same
rule is applied to whatever was not painted from it, so that columns differ in their detail alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taming.cond_stage.base import Condition
from taming.cond_stage.lowres import LowRes, enlarge
from taming.cond_stage.sources import resize, to_float, to_pixels
from taming.evaluation.measures import derangement
from taming.evaluation.networks import Eyes, psnr_of
from taming.evaluation.records import HeldOut, Record, samples, to_picture
from taming.evaluation.report import Row

FACTORS = (2, 4, 8)
RATIO, CONSISTENCY = "perceptual distance by bicubic's", "consistency after shrinking, dB"

Settle = Callable[[Tensor, Tensor], Tensor]  # as `Condition.settle`


def factors_of(condition: Condition) -> list[int]:
    """Those by which this model enlarges."""
    if not isinstance(condition, LowRes):
        return list(FACTORS)
    return [k for k in FACTORS if condition.min_factor <= k <= condition.max_factor]


class Enlarged(NamedTuple):
    rows: list[Row]
    scores: Tensor  # (N,): the nearer to the true picture, the higher


def records_of(held: HeldOut, factor: int, count: int) -> list[Record]:
    """The first `count` asked pictures with the small ones that they become."""
    records = []
    for index, sample, _ in samples(held):
        small = shrunk(sample["image"], factor)
        values = {"lowres": enlarge(small, held.size)}
        told = {"lowres": small}
        picture = to_picture(sample["image"])
        records.append(Record(index, sample["name"], picture, values, told))
        if len(records) == count:
            break
    return records


def shrunk(image: Tensor, factor: int) -> Tensor:
    """(3, H, W) -> (3, H/k, W/k), as a file would hold it."""
    height, width = image.shape[-2:]
    small = resize(image, (max(1, round(height / factor)), max(1, round(width / factor))))
    return to_float(to_pixels(small))


def compared(
    set_name: str,
    factor: int,
    eyes: Eyes,
    records: Sequence[Record],
    reconstructed: Sequence[Image.Image],
    sampled: Sequence[Image.Image],  # settled by the pipeline
    settle: Settle,  # of the model's condition
    seed: int = 0,
) -> Enlarged:
    """Shuffled: the sample of another record by this small picture, what the rule alone gives."""
    shuffle = derangement(len(records), seed)
    true = [record.picture for record in records]
    bicubic = [to_picture(record.values["lowres"][:3]) for record in records]
    sources = {
        "true": true,
        "reconstructed": settled(reconstructed, records, settle),
        "sampled": sampled,
        "shuffled": settled([sampled[n] for n in shuffle], records, settle),
    }
    apart = {source: eyes.distances(true, pictures) for source, pictures in sources.items()}
    plain = float(np.mean(eyes.distances(true, bicubic)))
    means = {source: float(np.mean(values)) for source, values in apart.items()}
    small = [record.asked["lowres"] for record in records]
    agreement = {
        source: consistency(pictures, small, factor) for source, pictures in sources.items()
    }
    task = f"lowres x{factor}"
    relative = {source: value / max(plain, 1e-12) for source, value in means.items()}
    rows = [
        Row.of(set_name, task, "perceptual distance", means),
        Row.of(set_name, task, RATIO, relative),
        Row.of(set_name, task, CONSISTENCY, agreement),
    ]
    return Enlarged(rows, -torch.tensor(apart["sampled"]))


def settled(
    pictures: Sequence[Image.Image], records: Sequence[Record], settle: Settle
) -> list[Image.Image]:
    """Each picture by the small one of its record."""
    return [
        to_picture(settle(to_float(np.asarray(picture))[None], record.values["lowres"])[0])
        for picture, record in zip(pictures, records, strict=True)
    ]


def consistency(pictures: Sequence[Image.Image], small: Sequence[Tensor], factor: int) -> float:
    """Mean PSNR between pictures that are shrunk and the small ones; 88 dB where they agree."""
    values = []
    for picture, wanted in zip(pictures, small, strict=True):
        again = shrunk(to_float(np.asarray(picture)), factor)
        values.append(float(psnr_of(again[None], wanted[None])))
    return float(np.mean(values))
