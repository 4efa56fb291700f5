"""What is aimed at on rendered scenes, and whether the numbers reach it.

Reaches hold where judges and pictures are known well enough to ask for a number: on scenes of
`taming.worlds`, and for reconstructions of two sets of photographs. Elsewhere rows have none.
Where the numbers cannot tell, nobody knows whether a reach is met: that is neither yes nor no.
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
DRAWN = 1000  # pictures of a draw, below which noise hides what few steps cost


class Reach(NamedTuple):
    task: str
    measure: str
    text: str
    met: Callable[[Row], bool | None]  # of a row with all the numbers that it needs
    needs: tuple[str, ...] = ("sampled",)
    least: int = 0  # pictures behind a number, below which it tells nothing


def _obeys(row: Row) -> bool:
    """As far as the true and the reconstructed pictures do, and because of what was asked."""
    sampled = _number(row.sampled)
    shares = sampled >= 0.85 * _number(row.reconstructed) and sampled >= 0.75 * _number(row.true)
    return shares and _is_asked_for(row)


def _tells(row: Row) -> bool:
    return _number(row.sampled) >= 0.85 * _number(row.true) and _is_asked_for(row)


def _is_asked_for(row: Row) -> bool:
    """Nearer to what true pictures get than to what any picture of the set would."""
    return _number(row.sampled) > (_number(row.shuffled) + _number(row.true)) / 2.0


def _resembles(row: Row) -> bool | None:
    """No farther from what the first stage can do than twice what the first stage costs."""
    bound = bound_of(row)
    if bound <= 0.0:
        return None
    return _number(row.sampled) - _number(row.reconstructed) <= bound


def bound_of(row: Row) -> float:
    """Of the kernel distance. Noise can bring it below zero, where it bounds nothing."""
    return 2.0 * (_number(row.reconstructed) - _number(row.true))


def _number(value: float | None) -> float:
    assert value is not None
    return value


# Where pictures of a set are alike, who ignores everything comes close to these shares.
_ASKED = "nearer to true than to shuffled"
_MAPS = f"sampled >= 85 % of reconstructed, 75 % of true; {_ASKED}"
_WORDS = f"sampled >= 85 % of true; {_ASKED}"
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
        _resembles, _ALL,
    ),
    Reach(
        "steps", EXCESS, f"sampled <= 2 in draws of {DRAWN} pictures",
        lambda row: _number(row.sampled) <= 2.0, least=DRAWN,
    ),
)  # fmt: skip

# What is asked for together, and the measures by which each must be obeyed as it is alone.
PAIRS = (("labels", "depth"), ("pose", "text"))
PAIRED = {"labels": "mIoU", "depth": "Spearman", "pose": "PCK@0.1", "text": "accuracy"}
ALONE = ", alone on the same pictures"  # ends the name of what a pair is held against


def with_reaches(rows: Sequence[Row], worlds: Collection[str]) -> list[Row]:
    """The rows, with reach and verdict where something is aimed at; `worlds` names such sets."""
    return [_with_reach(row, rows, row.set in worlds) for row in rows]


def unmeasured(rows: Sequence[Row], worlds: Collection[str]) -> list[Row]:
    """A row without numbers for each reach, of scenes and of photographs, that has none here."""
    there = {(row.set, row.task, row.measure) for row in rows}
    wanted = [(name, reach.task, reach.measure) for name in worlds for reach in REACHES]
    wanted += [
        (name, "+".join(pair), f"{condition}: {PAIRED[condition]}")
        for name in worlds
        for pair in PAIRS
        for condition in pair
    ]
    wanted += [(name, "reconstruction", PSNR) for name in PHOTOGRAPHS]
    return [Row(*each) for each in wanted if each not in there]


def doubts(rows: Sequence[Row]) -> list[str]:
    """Why numbers that are there do not tell whether a reach is met; of rows with reaches."""
    told = []
    for row in (row for row in rows if row.reach is not None and row.met is None):
        bounded = None not in (row.true, row.reconstructed, row.sampled)
        if row.measure == KERNEL and bounded and bound_of(row) <= 0.0:
            told.append(
                f"{row.name}: reconstructed pictures are no farther from the reference than true "
                f"ones ({row.reconstructed:.4g} and {row.true:.4g}), which bounds nothing; more "
                f"pictures would tell"
            )
        if row.measure == EXCESS and row.pictures is not None and row.pictures < DRAWN:
            told.append(
                f"{row.name}: draws of {row.pictures} pictures do not tell; it takes --drawn "
                f"{DRAWN}, --pictures {2 * DRAWN}, and a set that holds out as many"
            )
    return told


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
            known = known and (row.pictures or 0) >= reach.least
            here = f" ({row.pictures} here)" if reach.least and row.pictures else ""
            met = reach.met(row) if known else None
            return replace(row, reach=reach.text + here, met=met)
    name, _, measure = row.measure.partition(": ")
    if "+" in row.task and PAIRED.get(name) == measure:
        beside = (row.set, row.task, row.measure + ALONE)
        alone = [r.sampled for r in rows if (r.set, r.task, r.measure) == beside]
        needed = [row.true, row.sampled, row.shuffled, *(alone or [None])]
        met = None
        if None not in needed:
            met = _number(row.sampled) >= TOGETHER * _number(alone[0]) and _is_asked_for(row)
        same = f"the same {row.pictures}" if row.pictures else "the same"
        text = f"sampled >= 97 % of alone on {same} pictures; {_ASKED}"
        return replace(row, reach=text, met=met)
    return row
