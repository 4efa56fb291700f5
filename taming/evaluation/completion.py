"""Half-finished pictures: is what was kept still there, does the rest fit, and does it vary?

What is compared is always the true picture with something else in its hole: the reconstruction, a
sample, or what was painted into the same hole of another record. The pipeline moves its samples to
the rim of the hole; so are the others, by the same rule. The perceptual distance is divided by the
share of the picture that was filled, so that holes of all sizes count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from taming.cond_stage.holes import meet_rim
from taming.cond_stage.known import Known
from taming.data.transforms import to_image
from taming.evaluation.measures import derangement
from taming.evaluation.networks import Eyes
from taming.evaluation.records import HeldOut, Record, samples, to_picture
from taming.evaluation.report import Row

KEPT = "kept pixels that are exact"
AROUND = 4  # pixels on either side of the rim, whose steps those across it are compared with

Mask = NDArray[np.bool_]  # (H, W), True where it is kept


class Completed(NamedTuple):
    rows: list[Row]
    scores: Tensor  # (N,): the nearer to the true picture, the higher


def masks(size: tuple[int, int]) -> list[Mask]:
    """Kept in turn: the upper half, the left half, everything around a box, a box."""
    height, width = size
    top, left, around = (np.zeros(size, bool) for _ in range(3))
    top[: height // 2] = True
    left[:, : width // 2] = True
    around[:] = True
    around[height // 4 : height - height // 4, width // 4 : width - width // 4] = False
    return [top, left, around, ~around]


def records_of(held: HeldOut, count: int) -> list[Record]:
    """The first `count` asked pictures; records with one mask stand together."""
    every = masks(held.size)
    records = []
    count = min(count, len(held.asked))
    for number, (index, sample, _) in zip(range(count), samples(held), strict=False):
        mask = every[number * len(every) // count]
        value = Known.join(sample["image"], torch.from_numpy(mask))
        picture = to_picture(sample["image"])
        told = {"known": mask}
        records.append(Record(index, sample["name"], picture, {"known": value}, told))
    return records


def compared(
    set_name: str,
    eyes: Eyes,
    records: Sequence[Record],
    reconstructed: Sequence[Image.Image],
    sampled: Sequence[Image.Image],
    again: Sequence[Image.Image],  # the same records with other seeds
    reach: float,  # of `rims_met`, in pixels
    seed: int = 0,
) -> Completed:
    true = [record.picture for record in records]
    holes = [record.asked["known"] for record in records]
    partners = shuffled_within(holes, seed)
    sources = {
        "true": true,
        "reconstructed": rims_met(true, reconstructed, holes, reach),
        "sampled": filled(true, sampled, holes),
    }
    if partners is not None:
        others = [sampled[partner] for partner in partners]
        sources["shuffled"] = rims_met(true, others, holes, reach)
    shares = np.array([1.0 - hole.mean() for hole in holes])
    apart = {
        source: np.array(eyes.distances(true, pictures)) / shares
        for source, pictures in sources.items()
    }
    seams = {
        source: float(np.mean([seam(np.asarray(p), m) for p, m in zip(each, holes, strict=True)]))
        for source, each in sources.items()
    }
    exact = {
        "true": 1.0,
        "reconstructed": kept_exactly(true, reconstructed, holes),
        "sampled": kept_exactly(true, sampled, holes),
    }
    exchanged = filled(true, [true[n] for n in derangement(len(records), seed)], holes)
    varied = {
        "true": np.mean(np.array(eyes.distances(true, exchanged)) / shares),
        "sampled": np.mean(
            np.array(eyes.distances(sources["sampled"], filled(true, again, holes))) / shares
        ),
    }
    rows = [
        Row.of(set_name, "known", KEPT, exact),
        Row.of(set_name, "known", "seam strength", seams),
        Row.of(
            set_name,
            "known",
            "perceptual distance of what is filled",
            {source: float(values.mean()) for source, values in apart.items()},
        ),
        Row.of(
            set_name,
            "known",
            "diversity over seeds (true: over pictures)",
            {source: float(value) for source, value in varied.items()},
        ),
    ]
    return Completed(rows, -torch.from_numpy(apart["sampled"]))


def shuffled_within(holes: Sequence[Mask], seed: int = 0) -> list[int] | None:
    """For each record another one with the same hole; None where a hole is the only one.

    What is cut out of another sample must have been painted: where holes differ, a part of it is
    what was kept there.
    """
    partners = list(range(len(holes)))
    alike: dict[bytes, list[int]] = {}
    for number, hole in enumerate(holes):
        alike.setdefault(hole.tobytes(), []).append(number)
    for numbers in alike.values():
        if len(numbers) < 2:
            return None
        for place, other in zip(numbers, derangement(len(numbers), seed), strict=True):
            partners[place] = numbers[other]
    return partners


def filled(
    true: Sequence[Image.Image], others: Sequence[Image.Image], holes: Sequence[Mask]
) -> list[Image.Image]:
    """The true pictures with the others in their holes."""
    triples = zip(true, others, holes, strict=True)
    return [
        Image.fromarray(np.where(hole[..., None], np.asarray(one), np.asarray(other)))
        for one, other, hole in triples
    ]


def rims_met(
    true: Sequence[Image.Image],
    others: Sequence[Image.Image],
    holes: Sequence[Mask],
    reach: float,  # pixels
) -> list[Image.Image]:
    """As `filled`, without an edge between: see `meet_rim`."""
    met = []
    for one, other, hole in zip(true, others, holes, strict=True):
        painted, image = (to_image(np.asarray(picture)) for picture in (other, one))
        met.append(to_picture(meet_rim(painted[None], image, torch.from_numpy(hole), reach)[0]))
    return met


def kept_exactly(
    true: Sequence[Image.Image], others: Sequence[Image.Image], holes: Sequence[Mask]
) -> float:
    """Share of the kept pixels that are the same in all channels."""
    same = kept = 0
    for one, other, hole in zip(true, others, holes, strict=True):
        equal = (np.asarray(one) == np.asarray(other)).all(axis=-1)
        same, kept = same + int((equal & hole).sum()), kept + int(hole.sum())
    return same / kept if kept else 0.0


def seam(picture: NDArray[np.uint8], mask: Mask) -> float:
    """Mean step across the rim of the hole by the mean step near it: 1 where nothing is seen."""
    across = near = 0.0
    count_across = count_near = 0
    for axis in (0, 1):
        steps = np.abs(np.diff(picture.astype(np.float64), axis=axis)).mean(axis=-1)
        rim = np.diff(mask, axis=axis)
        close = np.zeros_like(rim)
        for shift in range(1, AROUND + 1):
            for signed in (shift, -shift):
                moved = np.roll(rim, signed, axis=axis)
                # What was rolled in from the other side of the picture is not near the rim.
                edge = slice(0, signed) if signed > 0 else slice(signed, None)
                moved[edge if axis == 0 else (slice(None), edge)] = False
                close |= moved
        close &= ~rim
        across, count_across = across + steps[rim].sum(), count_across + int(rim.sum())
        near, count_near = near + steps[close].sum(), count_near + int(close.sum())
    if not count_across or not count_near:
        return 1.0
    return float((across / count_across + 0.5) / (near / count_near + 0.5))
