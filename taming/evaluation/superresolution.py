"""Small pictures made large: is it better than bicubic, and does it shrink back to what was given?

A picture is shrunk, handed to the model as eight bits, and painted at full size. Two questions: how
far is the result from the true picture, in the perceptual distance, against what bicubic
enlargement gives; and how well does the result, shrunk again, agree with the small picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taming.cond_stage.lowres import enlarge
from taming.cond_stage.sources import resize, to_float, to_pixels
from taming.evaluation.measures import derangement
from taming.evaluation.networks import Eyes, psnr_of
from taming.evaluation.records import HeldOut, Record, samples, to_picture
from taming.evaluation.report import Row

FACTORS = (2, 4, 8)
RATIO, CONSISTENCY = "perceptual distance by bicubic's", "consistency after shrinking, dB"


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
    sampled: Sequence[Image.Image],
    seed: int = 0,
) -> Enlarged:
    """Shuffled: the same samples against the true and small picture of another record."""
    shuffle = derangement(len(records), seed)
    true = [record.picture for record in records]
    bicubic = [to_picture(record.values["lowres"][:3]) for record in records]
    apart = {
        "true": [0.0] * len(records),
        "reconstructed": eyes.distances(true, reconstructed),
        "sampled": eyes.distances(true, sampled),
        "shuffled": eyes.distances([true[n] for n in shuffle], sampled),
    }
    plain = float(np.mean(eyes.distances(true, bicubic)))
    means = {source: float(np.mean(values)) for source, values in apart.items()}
    small = [record.asked["lowres"] for record in records]
    agreement = {
        "true": consistency(true, small, factor),
        "reconstructed": consistency(reconstructed, small, factor),
        "sampled": consistency(sampled, small, factor),
        "shuffled": consistency(sampled, [small[n] for n in shuffle], factor),
    }
    task = f"lowres x{factor}"
    relative = {source: value / max(plain, 1e-12) for source, value in means.items()}
    rows = [
        Row.of(set_name, task, "perceptual distance", means),
        Row.of(set_name, task, RATIO, relative),
        Row.of(set_name, task, CONSISTENCY, agreement),
    ]
    return Enlarged(rows, -torch.tensor(apart["sampled"]))


def consistency(pictures: Sequence[Image.Image], small: Sequence[Tensor], factor: int) -> float:
    """Mean PSNR between pictures that are shrunk and the small ones; 88 dB where they agree."""
    values = []
    for picture, wanted in zip(pictures, small, strict=True):
        again = shrunk(to_float(np.asarray(picture)), factor)
        values.append(float(psnr_of(again[None], wanted[None])))
    return float(np.mean(values))
