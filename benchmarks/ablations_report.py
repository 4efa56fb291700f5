"""Answers -> numbers with their errors, question by question, and what they cannot tell.

Errors are standard errors over held-out pictures. Differences are taken picture by picture from the
first entry of a question, so that what makes one scene harder than another does not count.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.ablations_meter import Meter, Trained
from benchmarks.ablations_training import Snapshot
from benchmarks.ablations_variants import (
    JUDGED,
    QUESTIONS,
    VARIANTS,
    Curve,
    Question,
    given_title,
)

UNEQUAL = (
    0.02  # examples seen that differ by more than this share are also compared as equally many
)

CANNOT_TELL = (
    "Every variant was trained once. Errors are over held-out pictures: they say how well these "
    "weights were measured, not how much another training of the same variant would differ. Where "
    "the base was also trained from other first weights, what lies between the two is luck, and so "
    "may be any difference that is not several times as large.",
    "Trainings are short, models small, pictures small and rendered. What learns faster is ahead "
    "here; which variant ends ahead after days, on photographs or at more codes, is another "
    "question.",
    "Learning rate, warm-up, and how often conditions and orders come are those of the base, "
    "constant and the same for all variants; others may have better ones of their own. So may "
    "guidance, which is 2 everywhere.",
    "Equal minutes depend on the machine: on one with other ratios of speed, variants have seen "
    "other numbers of examples. The tables of equal examples do not depend on it.",
    "Judges are small networks that learned from scenes of the same kind. They err, alike for all "
    "variants. Reconstructions are a guide and no ceiling: guidance makes pictures more typical "
    "than true ones.",
    "Obedience is not beauty: nothing here says how varied pictures are, or how much of a picture "
    "many codes in one step cost. Nats are those of one code after the other.",
    "Scenes are few, and codes of each are cached twice: what draws orders and conditions at "
    "random learns them by heart later than what does not.",
    "Errors and differences of obedience are of the measure taken picture by picture, the other "
    "columns of all pictures together, which for mIoU and RMSE is not the same.",
    "A model of all tasks sees each condition in a part of its examples only, a model of one task "
    "spends all of its time on it: equal minutes favour the latter, task by task.",
    "Of first stages, PSNR and usage say what codes keep, not how well they can be predicted. All "
    "have 64 channels in front of their codes, so that 256 dimensions are a projection of 64.",
)


class Compared(NamedTuple):
    """A mean over pictures and its standard error, and the same of the differences by picture."""

    mean: float
    error: float
    difference: float | None = None
    difference_error: float | None = None


def compared(values: Sequence[float], reference: Sequence[float] | None = None) -> Compared:
    """`reference` holds the same pictures in the same order."""
    own = np.asarray(values, dtype=np.float64)
    mean, error = _mean_and_error(own)
    if reference is None:
        return Compared(mean, error)
    assert len(reference) == len(own), f"{len(own)} pictures beside {len(reference)}"
    return Compared(mean, error, *_mean_and_error(own - np.asarray(reference)))


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    values = values[~np.isnan(values)]  # pictures of which a measure says nothing
    if not len(values):
        return math.nan, math.nan
    spread = values.std(ddof=1) if len(values) > 1 else math.nan
    return float(values.mean()), float(spread / math.sqrt(len(values)))


class Moment(NamedTuple):
    """When variants are compared."""

    title: str
    snapshots: dict[str, Snapshot]  # of each variant


def moments(every: Sequence[Trained], replaced: int = 1) -> list[Moment]:
    """After the same minutes; also after equal examples, where they have seen unequally many.

    Where the first stands for several of the others together, also when these have had no more
    minutes together than it alone, each an equal part.
    """
    ends = {each.variant.name: each.end for each in every}
    found = [Moment("after the same minutes", ends)]
    if replaced > 1:
        part = every[0].end.seconds / replaced
        early = {each.variant.name: each.until(part) for each in every[1:]}
        spent = ", ".join(f"{each.seconds / 60:.1f}" for each in early.values())
        title = f"after no more minutes together than the first alone ({spent})"
        found.append(Moment(title, ends | early))
    steps = [end.step for end in ends.values()]
    common = set.intersection(*({s.step for s in each.snapshots} for each in every))
    if common and max(steps) > (1 + UNEQUAL) * min(steps):
        step = max(common)
        examples = every[0].examples(every[0].at(step))
        same = {each.variant.name: each.at(step) for each in every}
        found.append(Moment(f"after the same {examples:,} examples", same))
    return found


# --- questions -----------------------------------------------------------------------------------


def answered(question: Question, trained: Mapping[str, Trained], meter: Meter) -> dict[str, Any]:
    """All tables of a question, of those of its variants that are trained."""
    entries = [entry for entry in question.entries if entry.variant in trained]
    every = [trained[name] for name in dict.fromkeys(entry.variant for entry in entries)]
    tables = []
    replaced = question.replaced if question.entries[0].variant in trained else 1
    for number, moment in enumerate(moments(every, replaced)):
        table: dict[str, Any] = {"moment": moment.title}
        table["examples"] = {
            each.variant.name: each.examples(moment.snapshots[each.variant.name]) for each in every
        }
        if question.stage == "first":
            table["kept"] = _kept(every, moment, meter)
        else:
            # Everything once, and then what the curves tell of as well
            table["nats"] = _nats(every, moment, meter, question.curves if number else ())
            table["obedience"] = _obedience(question, trained, moment, meter)
        tables.append(table)
    return {
        "name": question.name,
        "title": question.title,
        "variants": [each.variant.name for each in every],
        "tables": tables,
        "curves": _curves(question, every, meter),
    }


def _kept(every: Sequence[Trained], moment: Moment, meter: Meter) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    reference: Mapping[str, list[float]] = {}
    for trained in every:
        name = trained.variant.name
        found = meter.kept(trained, moment.snapshots[name])
        for measure, each in found["each"].items():
            told = compared(each, reference.get(measure) if rows else None)
            rows.append({"variant": name, "measure": measure, **told._asdict()})
            if len(reference) < len(found["each"]):
                reference = {**reference, measure: each}
        rows += [
            {"variant": name, "measure": measure, "mean": value}
            for measure, value in found["whole"].items()
        ]
    return rows


def _nats(
    every: Sequence[Trained], moment: Moment, meter: Meter, only: Collection[Curve]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    reference = None
    for trained in every:
        name = trained.variant.name
        found = meter.all_nats(trained, moment.snapshots[name], only)
        for (kind, given), each in found.items():
            told = compared(each, None if reference is None else reference.get((kind, given)))
            where = {"variant": name, "given": given_title(given), "kind": kind}
            rows.append({**where, **told._asdict()})
        reference = reference or found
    return rows


def _obedience(
    question: Question, trained: Mapping[str, Trained], moment: Moment, meter: Meter
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for task in JUDGED:
        reference = None
        for entry in question.entries:
            asked = trained.get(entry.variant)
            if asked is None or task not in asked.variant.conditions:
                continue
            snapshot = moment.snapshots[entry.variant]
            found = meter.obeyed(asked, snapshot, task, entry.sampling)
            for row in found["rows"]:
                each = found["each"][row["measure"]]
                told = compared(each, None if reference is None else reference[row["measure"]])
                columns = {key: row[key] for key in ("reconstructed", "sampled", "shuffled")}
                where = {"variant": entry.variant, "sampling": entry.sampling, "task": task}
                rows.append({**where, "measure": row["measure"], **columns, **told._asdict()})
            reference = reference or found["each"]
    return rows


def _curves(question: Question, every: Sequence[Trained], meter: Meter) -> list[dict[str, Any]]:
    """Nats, or decibels of a first stage, against minutes and examples, at every snapshot."""
    curves: list[dict[str, Any]] = []
    for trained in every:
        told = {"variant": trained.variant.name}
        if question.stage == "first":
            each = [meter.kept(trained, s, eyes=False)["each"]["PSNR"] for s in trained.snapshots]
            curves.append({**told, "what": "PSNR, dB", "points": _points(trained, each)})
            continue
        for curve in question.curves:
            if set(curve.given) <= set(trained.variant.conditions):
                with meter.track(f"curve of {trained.variant.title}") as progress:
                    each = []
                    for snapshot in trained.snapshots:
                        each.append(meter.nats(trained, snapshot, curve.kind, curve.given))
                        progress(len(each), len(trained.snapshots))
                curves.append({**told, "what": curve.title, "points": _points(trained, each)})
    return curves


def _points(trained: Trained, every: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    return [
        {
            "minutes": snapshot.seconds / 60,
            "examples": trained.examples(snapshot),
            **dict(zip(("mean", "error"), compared(each)[:2], strict=True)),
        }
        for snapshot, each in zip(trained.snapshots, every, strict=True)
    ]


# --- the whole report ----------------------------------------------------------------------------


def reported(
    trained: Mapping[str, Trained], meter: Meter, rounds: int, about: Mapping[str, Any]
) -> dict[str, Any]:
    """What report.json holds. Questions of which only one entry is trained are left out."""
    asked = [
        question
        for question in QUESTIONS
        if sum(entry.variant in trained for entry in question.entries) > 1
    ]
    questions = [answered(question, trained, meter) for question in asked]
    second = [each for each in trained.values() if each.variant.stage == "second"]
    seconds = meter.timed(second, rounds) if second else {}
    variants = {
        name: {
            "title": each.variant.title,
            "what": each.variant.told,
            "overrides": list(each.variant.overrides),
            "conditions": list(each.variant.conditions) if each in second else [],
            "parameters": parameters(meter, each),
            "minutes": each.end.seconds / 60,
            "steps": each.end.step,
            "examples": each.examples(each.end),
            "examples a second": each.examples(each.end) / each.end.seconds,
            "seconds a picture": {
                sampling: timed._asdict() for sampling, timed in seconds.get(name, {}).items()
            },
        }
        for name, each in trained.items()
    }
    missing = [v.name for v in VARIANTS if v.name not in trained]
    return {
        **about,
        "variants": variants,
        "not trained": missing,
        "questions": questions,
        "cannot tell": list(CANNOT_TELL),
    }


def parameters(meter: Meter, trained: Trained) -> int:
    """Of what is trained: without the first stage in a second one."""
    model = meter.model(trained, trained.end)
    named = [*model.named_parameters()]
    return sum(p.numel() for name, p in named if not name.startswith("first_stage_model."))
