"""What is aimed at on rendered scenes, and whether the numbers reach it.

Reaches hold where judges and pictures are known well enough to ask for a number: on scenes of
`taming.worlds`, and for reconstructions of two sets of photographs. Elsewhere rows have none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import NamedTuple

from taming.evaluation.completion import KEPT
from taming.evaluation.networks import NETWORK
from taming.evaluation.report import Row
from taming.evaluation.superresolution import CONSISTENCY, RATIO

PHOTOGRAPHS = {"flower_photos": 22.5, "clothing_cc0": 22.5}  # dB
PSNR, USAGE = "PSNR, dB", "codebook usage"
KERNEL = f"kernel distance on {NETWORK}"
EXCESS = "excess of kernel distance, in standard errors"
TOGETHER = 0.97


class Reach(NamedTuple):
    task: str
    measure: str
    text: str
    met: Callable[[Row], bool]  # of a row with all the numbers that it needs
    needs: tuple[str, ...] = ("sampled",)


def _obeys(row: Row) -> bool:
    """As far as the true and the reconstructed pictures do, and because of what was asked."""
    sampled = _number(row.sampled)
    shares = sampled >= 0.85 * _number(row.reconstructed) and sampled >= 0.75 * _number(row.true)
    return shares and sampled > _number(row.shuffled)


def _tells(row: Row) -> bool:
    sampled = _number(row.sampled)
    return sampled >= 0.85 * _number(row.true) and sampled > _number(row.shuffled)


def _number(value: float | None) -> float:
    assert value is not None
    return value


# More than shuffled, too: where pictures of a set are alike, who ignores everything comes close.
_MAPS = "sampled >= 85 % of reconstructed, 75 % of true; > shuffled"
_WORDS = "sampled >= 85 % of true; > shuffled"
_ALL = ("true", "reconstructed", "sampled")

REACHES = (
    Reach(
        "reconstruction", PSNR, ">= 25 dB",
        lambda row: _number(row.reconstructed) >= 25.0, ("reconstructed",),
    ),
    Reach(
        "reconstruction", USAGE, ">= 95 %",
        lambda row: _number(row.reconstructed) >= 0.95, ("reconstructed",),
    ),
    Reach("labels", "mIoU", _MAPS, _obeys, (*_ALL, "shuffled")),
    Reach("depth", "Spearman", _MAPS, _obeys, (*_ALL, "shuffled")),
    Reach("pose", "PCK@0.1", _MAPS, _obeys, (*_ALL, "shuffled")),
    Reach("class_label", "accuracy", _WORDS, _tells, ("true", "sampled", "shuffled")),
    Reach("text", "accuracy", _WORDS, _tells, ("true", "sampled", "shuffled")),
    Reach("lowres x4", RATIO, "sampled <= 0.6", lambda row: _number(row.sampled) <= 0.6),
    Reach(
        "lowres x4", CONSISTENCY, "sampled within 3 dB of reconstructed",
        lambda row: _number(row.sampled) >= _number(row.reconstructed) - 3.0,
        ("sampled", "reconstructed"),
    ),
    Reach("known", KEPT, "sampled = 1", lambda row: row.sampled == 1.0),
    Reach(
        "distribution", KERNEL, "sampled - reconstructed <= 2 (reconstructed - true)",
        lambda row: _number(row.sampled) - _number(row.reconstructed)
        <= 2.0 * (_number(row.reconstructed) - _number(row.true)),
        _ALL,
    ),
    Reach("steps", EXCESS, "sampled <= 2", lambda row: _number(row.sampled) <= 2.0),
)  # fmt: skip

# Of two conditions together, each must be obeyed as it is alone.
PAIRED = {"labels": "mIoU", "depth": "Spearman", "pose": "PCK@0.1", "text": "accuracy"}


def with_reaches(rows: Sequence[Row], worlds: Collection[str]) -> list[Row]:
    """The rows, with reach and verdict where something is aimed at; `worlds` names such sets."""
    return [_with_reach(row, rows, row.set in worlds) for row in rows]


def _with_reach(row: Row, rows: Sequence[Row], is_worlds: bool) -> Row:
    if row.set in PHOTOGRAPHS and (row.task, row.measure) == ("reconstruction", PSNR):
        least = PHOTOGRAPHS[row.set]
        value = row.reconstructed
        return replace(row, reach=f">= {least:g} dB", met=None if value is None else value >= least)
    if not is_worlds:
        return row
    for reach in REACHES:
        if (row.task, row.measure) == (reach.task, reach.measure):
            known = all(getattr(row, column) is not None for column in reach.needs)
            return replace(row, reach=reach.text, met=reach.met(row) if known else None)
    name, _, measure = row.measure.partition(": ")
    if "+" in row.task and PAIRED.get(name) == measure:
        alone = [r for r in rows if (r.set, r.task, r.measure) == (row.set, name, measure)]
        numbers = [row.sampled, alone[0].sampled if alone else None]
        known = None not in numbers
        met = _number(numbers[0]) >= TOGETHER * _number(numbers[1]) if known else None
        return replace(row, reach="sampled >= 97 % of alone", met=met)
    return row
