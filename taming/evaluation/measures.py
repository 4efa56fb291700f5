"""What it means to obey: numbers that compare a judge's reading of pictures with what was asked.

Each function takes the readings, the targets and the targets of *other* pictures, and gives a
dictionary of measures, of which higher is better, but for the RMSE. To score under shuffled
conditions, exchange the last two: the same pictures are then held against what they were not asked.
Shares of nothing are NaN: where no pixel was labelled, no joint shown, nobody has obeyed or not.

Pictures of one set resemble one another: a street has its road below and its sky above, whoever
painted it, so that plain measures stay high under shuffled conditions. Each task therefore has,
beside its usual measure, one in which what all pictures share does not count:

- labels: accuracy where the two maps disagree ("contested" pixels); no reading can please both;
- depth: correlation after the set's mean map has been taken from both sides;
- pose: correlation of the joints' offsets from the set's mean pose, and PCK of contested joints.

Classes, words of a caption and edges have plain measures alone: the shuffled column is their floor.

Sources: mean IoU as in Pascal VOC (Everingham et al. 2010); PCK, the share of joints within a
fraction of the person's box (Yang & Ramanan 2013); Spearman's rank correlation, average ranks;
F1 of edges with a tolerance, as in Berkeley's benchmark (Martin et al. 2004), without its matching.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from taming.data.batch import NO_CLASS, VOID

Measures = dict[str, float]

REACHES = (0.1, 0.05, 0.025)  # of the longer side of the person's box, for PCK
CONTESTED_REACH = 0.05
TOLERANCE = 1  # pixels by which a line may be off


def derangement(count: int, seed: int = 0) -> list[int]:
    """A random permutation in which nobody keeps its place: one cycle (Sattolo 1986)."""
    if count < 2:
        raise ValueError(f"{count} pictures cannot be shuffled among themselves; give at least 2")
    generator = torch.Generator().manual_seed(seed)
    order = list(range(count))
    for last in range(count - 1, 0, -1):
        other = int(torch.randint(last, (), generator=generator))
        order[last], order[other] = order[other], order[last]
    return order


# --- labels --------------------------------------------------------------------------------------


def score_labels(readings: Tensor, targets: Tensor, others: Tensor, classes: int) -> Measures:
    """Label maps (N, H, W); pixels that the target leaves VOID do not count."""
    table = confusion(readings, targets, classes)
    contested = (targets != VOID) & (others != VOID) & (targets != others)
    right = (readings == targets) & contested
    return {
        "mIoU": mean_iou(table),
        "accuracy": _share(float(table.diagonal().sum()), float(table.sum())),
        "contested accuracy": _share(float(right.sum()), float(contested.sum())),
    }


def confusion(readings: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Counts of pixels: rows are what was asked, columns what was read."""
    stated = targets != VOID
    pairs = targets[stated] * classes + readings[stated]
    return torch.bincount(pairs, minlength=classes * classes).view(classes, classes)


def mean_iou(table: Tensor) -> float:
    """Intersection over union, averaged over the classes that were asked for anywhere."""
    table = table.double()
    both = table.diagonal()
    either = table.sum(0) + table.sum(1) - both
    occurs = table.sum(1) > 0
    return float((both[occurs] / either[occurs]).mean())  # NaN where none does


# --- depth ---------------------------------------------------------------------------------------


def score_depth(readings: Tensor, targets: Tensor, others: Tensor, mean: Tensor) -> Measures:
    """Inverse depth (N, 1, H, W) in [-1, 1]; `mean` (1, H, W) is that of the set's training part.

    `others` has no part in it: no depth is contested, every point has one.
    """
    pairs = list(zip(readings.double(), targets.double(), strict=True))
    ranked = [spearman(reading, target) for reading, target in pairs]
    centred = [correlation(reading - mean, target - mean) for reading, target in pairs]
    return {
        "Spearman": sum(ranked) / len(ranked),
        "centred correlation": sum(centred) / len(centred),
        "RMSE": float((readings - targets).double().square().mean().sqrt()),
    }


def ranks(values: Tensor) -> Tensor:
    """Ranks from 0, in float64; equal values share the average of theirs."""
    _, place, counts = values.flatten().unique(return_inverse=True, return_counts=True)
    ends = counts.cumsum(0).double()
    return (ends - (counts.double() + 1) / 2)[place]


def spearman(one: Tensor, other: Tensor) -> float:
    return correlation(ranks(one), ranks(other))


def correlation(one: Tensor, other: Tensor) -> float:
    """Pearson's, 0 where one side is constant."""
    one, other = one.flatten().double(), other.flatten().double()
    one, other = one - one.mean(), other - other.mean()
    norms = float(one.norm() * other.norm())
    return float(one @ other) / norms if norms else 0.0


# --- pose ----------------------------------------------------------------------------------------


def score_pose(readings: Tensor, targets: Tensor, others: Tensor, mean: Tensor) -> Measures:
    """Joints (N, 19, 2) in pixels against (N, 19, 3) with visibility; `mean` (19, 2).

    Joints that the target does not show do not count.
    """
    shown = targets[..., 2] > 0  # (N, 19)
    distance = (readings - targets[..., :2]).norm(dim=-1)
    side, other_side = box_side(targets), box_side(others)
    apart = (targets[..., :2] - others[..., :2]).norm(dim=-1)
    # Beyond the sum of both reaches, no point is within reach of both.
    contested = shown & (others[..., 2] > 0)
    contested &= apart > CONTESTED_REACH * (side + other_side)[:, None]
    scores = {f"PCK@{reach:g}": _within(distance, shown, side, reach) for reach in REACHES}
    scores[f"contested PCK@{CONTESTED_REACH:g}"] = _within(
        distance, contested, side, CONTESTED_REACH
    )
    offset, wanted = (readings - mean)[shown].double(), (targets[..., :2] - mean)[shown].double()
    # Offsets are compared as they are, not around their own means: where the person stands counts.
    agreement, norms = float((offset * wanted).sum()), float(offset.norm() * wanted.norm())
    nothing = 0.0 if bool(shown.any()) else math.nan
    scores["centred correlation"] = agreement / norms if norms else nothing
    return scores


def box_side(joints: Tensor) -> Tensor:
    """The longer side of the box around the shown joints of each person, (N,) in pixels."""
    hidden = (joints[..., 2] <= 0)[..., None]
    top = joints[..., :2].masked_fill(hidden, -torch.inf).amax(dim=1)
    bottom = joints[..., :2].masked_fill(hidden, torch.inf).amin(dim=1)
    return (top - bottom).clamp(min=0).amax(dim=-1)


def _within(distance: Tensor, counted: Tensor, side: Tensor, reach: float) -> float:
    near = (distance <= reach * side[:, None]) & counted
    return _share(float(near.sum()), float(counted.sum()))


# --- classes, words, edges -----------------------------------------------------------------------


def score_classes(readings: Tensor, targets: Tensor) -> Measures:
    """Numbers of classes (N,); those that are NO_CLASS do not count."""
    return {"accuracy": _share_right(readings, targets)}


def score_words(readings: Tensor, targets: Tensor, names: Sequence[str]) -> Measures:
    """Numbers of words (N, A), one column for each attribute; what is not named does not count."""
    each = {
        name: _share_right(readings[:, place], targets[:, place])
        for place, name in enumerate(names)
        if bool((targets[:, place] != NO_CLASS).any())
    }
    return {"accuracy": _share_right(readings, targets), **each}


def _share_right(readings: Tensor, targets: Tensor) -> float:
    named = targets != NO_CLASS
    return _share(float(((readings == targets) & named).sum()), float(named.sum()))


class EdgeAgreement(NamedTuple):
    precision: float  # share of the lines found that were asked for
    recall: float  # share of the lines asked for that were found
    f1: float  # 0 where there are lines on one side alone


def edge_agreement(readings: Tensor, targets: Tensor) -> EdgeAgreement:
    """Lines (N, 1, H, W), 0 or 1; pictures without any count by their pixels: not at all."""
    found, asked = readings > 0.5, targets > 0.5
    precision = _share(float((found & _around(asked)).sum()), float(found.sum()))
    recall = _share(float((asked & _around(found)).sum()), float(asked.sum()))
    f1 = math.nan
    if bool(found.any()) or bool(asked.any()):
        both = not math.isnan(precision + recall) and precision + recall > 0.0
        f1 = 2.0 * precision * recall / (precision + recall) if both else 0.0
    return EdgeAgreement(precision, recall, f1)


def _around(lines: Tensor) -> Tensor:
    reach = 2 * TOLERANCE + 1
    return F.max_pool2d(lines.float(), reach, stride=1, padding=TOLERANCE) > 0.5


def score_edges(readings: Tensor, targets: Tensor) -> Measures:
    found = edge_agreement(readings, targets)
    return {"F1": found.f1, "precision": found.precision, "recall": found.recall}


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
