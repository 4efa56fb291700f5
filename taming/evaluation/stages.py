"""The stages of an evaluation: each asks one question of one set, and answers in rows.

An answer is plain: `rows` (report.py), `shown`, pictures for the page (page.py), and `notes`, what
could not be measured and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taming.evaluation import completion, superresolution
from taming.evaluation.distribution import (
    NEIGHBOURS,
    frechet_distance,
    kernel_distance,
    precision_recall,
)
from taming.evaluation.figures import sample_sheet
from taming.evaluation.networks import NETWORK, inception_distance, open_inception
from taming.evaluation.obedience import Judged, judged
from taming.evaluation.reaches import ALONE, EXCESS, KERNEL, PAIRED
from taming.evaluation.reconstruction import code_rows, measured, reconstruct
from taming.evaluation.records import HeldOut, Record, Task
from taming.evaluation.report import Row
from taming.evaluation.subject import Subject
from taming.painting import reach_of
from taming.provenance import save_png

Answer = dict[str, Any]

SHOWN = 12  # records on a sheet
OTHER_SEEDS = 10_000  # where the second seeds of completions begin


class Answers:
    """Rows, pictures and notes as they are found."""

    def __init__(self, subject: Subject, held: HeldOut) -> None:
        self.subject, self.held = subject, held
        self.rows: list[Row] = []
        self.shown: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def add(self, rows: Sequence[Row], pictures: int) -> None:
        """Rows whose numbers rest on so many pictures."""
        self.rows += [replace(row, pictures=pictures) for row in rows]

    def show(
        self,
        task: str,
        records: Sequence[Record],
        reconstructed: Sequence[Image.Image],
        sampled: Sequence[Image.Image],
        scores: Tensor,
    ) -> None:
        """The best, the median and the worst sample, as the readers see it; the first as they come.

        Twelve that nobody has chosen say more of a model than its best one.
        """
        size, conditions = self.held.size, self.subject.conditions

        def row(number: int) -> dict[str, Image.Image]:
            values = records[number].values.items()
            given = {name: conditions[name].show(value, size) for name, value in values}
            return {
                **{name: Image.fromarray(picture) for name, picture in given.items()},
                "sample": sampled[number],
                "reconstructed": reconstructed[number],
                "true": records[number].picture,
            }

        order = scores.argsort(descending=True, stable=True).tolist()
        chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
        for word, number in chosen.items():
            self._keep(task, word, records[number].name, row(number))
        first = [row(number) for number in range(min(SHOWN, len(records)))]
        pictures = [[np.asarray(picture) for picture in each.values()] for each in first]
        sheet = sample_sheet(pictures, list(first[0]))
        self._keep(task, "first", f"{len(first)} records, unselected", {"sheet": sheet})

    def _keep(self, task: str, word: str, name: str, pictures: dict[str, Image.Image]) -> None:
        kept = []
        for title, picture in pictures.items():
            shelf = f"{self.held.name}/shown/{task} {word} {title}"
            # Found anew whenever the stage is: what lies there is of one that was stopped.
            path = save_png(picture, self.subject.album.folder / f"{shelf}.png")
            kept.append([title, path.relative_to(self.subject.album.folder).as_posix()])
        told = {"set": self.held.name, "task": task, "word": word, "name": name}
        self.shown.append({**told, "pictures": kept})

    def plain(self) -> Answer:
        rows = [row.as_json() for row in self.rows]
        return {"rows": rows, "shown": self.shown, "notes": self.notes}


def reconstructing(subject: Subject, held: HeldOut) -> Answer:
    """What the codebook keeps of all held-out pictures that are used."""
    answers = Answers(subject, held)
    indices = [*held.reference, *held.asked]
    true = subject.true(held, indices)
    with subject.track(f"codes of {held.name}") as progress:
        found = reconstruct(subject.painter.first_stage, true, progress)
    made = dict(zip(indices, found.pictures, strict=True))
    shelf = f"{held.name}/reconstructed"
    pictures = subject.album.pictures(shelf, indices, lambda some: [made[n] for n in some])
    rows = measured(held.name, true, pictures, found.counts, subject.eyes, subject.plan.seed)
    answers.add(rows, len(true))
    return answers.plain() | {"counts": found.counts.tolist()}


def over_all_sets(counts: Sequence[Tensor], pictures: int) -> list[Row]:
    """How much of the codebook is used by all sets together, of so many pictures."""
    rows = code_rows("all", torch.stack(list(counts)).sum(dim=0))
    return [replace(row, pictures=pictures) for row in rows]


def obeying(subject: Subject, held: HeldOut, task: Task) -> Answer:
    """Whether pictures show what was asked for; of a pair, also whether each alone would do."""
    answers = Answers(subject, held)
    records = subject.records(held, task)
    readers = {name: subject.reader(held, name) for name in task.conditions}
    name = "+".join(task.conditions)
    sampled = subject.sampled(held, name, records)
    reconstructed = subject.reconstructed(held, [record.index for record in records])

    def found(names: Sequence[str], pictures: Sequence[Image.Image]) -> Judged:
        asked = {each: readers[each] for each in names}
        conditions, seed = subject.conditions, subject.plan.seed
        return judged(held.name, asked, records, reconstructed, pictures, conditions, seed)

    together = found(task.conditions, sampled)
    answers.add(together.rows, len(records))
    paired = [each for each in task.conditions if len(readers) > 1 and each in PAIRED]
    for each in paired:
        for row in found([each], alone(subject, held, task, each, records)).rows:
            if row.measure == PAIRED[each]:
                told = f"{each}: {row.measure}{ALONE}"
                answers.add([replace(row, task=name, measure=told)], len(records))
    answers.show(name, records, reconstructed, sampled, together.scores)
    return answers.plain()


def alone(
    subject: Subject, held: HeldOut, task: Task, name: str, records: Sequence[Record]
) -> list[Image.Image]:
    """Pictures of the records of a task, painted from one of its conditions."""
    single = [record._replace(values={name: record.values[name]}) for record in records]
    usual = subject.records(held, Task(held.name, (name,)), len(single))
    is_usual = [each.index for each in usual] == [each.index for each in single] and all(
        torch.equal(one.values[name], other.values[name])
        for one, other in zip(usual, single, strict=True)
    )
    shelf = name if is_usual else f"{name} of {'+'.join(task.conditions)}"
    return subject.sampled(held, shelf, single)


def enlarging(subject: Subject, held: HeldOut) -> Answer:
    """Small pictures made large."""
    answers = Answers(subject, held)
    factors = superresolution.factors_of(subject.conditions["lowres"])
    answers.notes += [
        f"x{factor} is not asked for on {held.name}: this model does not enlarge by that"
        for factor in superresolution.FACTORS
        if factor not in factors
    ]
    for factor in factors:
        records = superresolution.records_of(held, factor, subject.plan.enlarged)
        task = f"lowres x{factor}"
        sampled = subject.sampled(held, task, records)
        reconstructed = subject.reconstructed(held, [record.index for record in records])
        found = superresolution.compared(
            held.name,
            factor,
            subject.eyes,
            records,
            reconstructed,
            sampled,
            subject.conditions["lowres"].settle,
            subject.plan.seed,
        )
        answers.add(found.rows, len(records))
        answers.show(task, records, reconstructed, sampled, found.scores)
    return answers.plain()


def completing(subject: Subject, held: HeldOut) -> Answer:
    """Half-finished pictures."""
    answers = Answers(subject, held)
    records = completion.records_of(held, subject.plan.completed)
    sampled = subject.sampled(held, "known", records)
    others = range(OTHER_SEEDS, OTHER_SEEDS + len(records))
    again = subject.sampled(held, "known", records, seeds=others)
    reconstructed = subject.reconstructed(held, [record.index for record in records])
    found = completion.compared(
        held.name,
        subject.eyes,
        records,
        reconstructed,
        sampled,
        again,
        reach_of(subject.painter.first_stage),
        subject.plan.seed,
    )
    answers.add(found.rows, len(records))
    answers.show("known", records, reconstructed, sampled, found.scores)
    return answers.plain()


class Collections(NamedTuple):
    """Equally many pictures each, for their number decides how far collections seem apart."""

    reference: list[Image.Image]  # against which the others are held
    others: dict[str, list[Image.Image]]  # by their column
    notes: list[str]  # on what is no part of them


def collections_of(subject: Subject, held: HeldOut, tasks: Sequence[Task]) -> Collections:
    """The reference pictures, the asked ones, their reconstructions, and samples.

    Samples are those of tasks of one condition, none of which was given pixels of the true picture.
    No two of them were asked by the same picture: task k of n has the asked pictures i with
    i mod n = k.
    """
    every = {task: subject.records(held, task, len(held.asked)) for task in tasks}
    whole = [task for task in tasks if len(every[task]) == len(held.asked)]
    notes = [
        f"samples of {task.conditions[0]} are no part of the collection on {held.name}: "
        f"{len(every[task])} of {len(held.asked)} asked pictures have it, which is a selection"
        for task in tasks
        if task not in whole
    ]
    painted: dict[int, Image.Image] = {}
    for place, task in enumerate(whole):
        own = range(place, len(held.asked), len(whole))[: subject.plan.count]
        records = [every[task][number] for number in own]
        pictures = subject.sampled(held, task.conditions[0], records, seeds=own)
        painted |= dict(zip(own, pictures, strict=True))
    mixed = [painted[number] for number in sorted(painted)]
    if 0 < len(mixed) <= NEIGHBOURS:
        notes.append(f"{len(mixed)} samples on {held.name} are too few for a collection")
        mixed = []
    reference = subject.true(held, held.reference)
    others = {
        "true": subject.true(held, held.asked),
        "reconstructed": subject.reconstructed(held, held.asked),
        **({"sampled": mixed} if mixed else {}),
    }
    number = min(len(reference), *(len(pile) for pile in others.values()))
    few = {name: pile[:number] for name, pile in others.items()}
    return Collections(reference[:number], few, notes)


def resembling(subject: Subject, held: HeldOut, tasks: Sequence[Task]) -> Answer:
    """How far collections are from the reference pictures."""
    answers = Answers(subject, held)
    found = collections_of(subject, held, tasks)
    answers.notes += found.notes
    with subject.track(f"features of {held.name}") as progress:
        against = subject.eyes.features(found.reference, progress)
        features = {name: subject.eyes.features(pile) for name, pile in found.others.items()}
    quality = {name: precision_recall(against, each) for name, each in features.items()}
    measures = {
        KERNEL: {name: kernel_distance(against, each) for name, each in features.items()},
        f"Frechet distance on {NETWORK}": {
            name: frechet_distance(against, each) for name, each in features.items()
        },
        f"precision on {NETWORK}": {name: each.precision for name, each in quality.items()},
        f"recall on {NETWORK}": {name: each.recall for name, each in quality.items()},
    }
    rows = [Row.of(held.name, "distribution", *each) for each in measures.items()]
    answers.add(rows, len(against))
    return answers.plain()


def resembling_on_inception(subject: Subject, held: HeldOut, tasks: Sequence[Task]) -> Answer:
    """The same collections by the published distance; Unavailable without its network."""
    metric = open_inception()  # first: a start without it is to cost nothing
    answers = Answers(subject, held)
    found = collections_of(subject, held, tasks)
    columns = {
        name: inception_distance(metric, found.reference, pile)
        for name, pile in found.others.items()
    }
    number = len(found.reference)
    told = f"FID on Inception, {number} pictures"
    answers.add([Row.of(held.name, "distribution", told, columns)], number)
    return answers.plain()


def hastening(subject: Subject, held: HeldOut, task: Task) -> Answer:
    """Whether painting in few steps costs quality: draws in steps, and one code at a time."""
    answers, plan = Answers(subject, held), subject.plan
    records = subject.records(held, task, plan.draws * plan.drawn)
    size = min(plan.drawn, len(records))
    if size < plan.drawn:
        answers.notes.append(
            f"draws of {held.name} are of {size} pictures, not of {plan.drawn}: so many different "
            f"records there are"
        )
    # In a row, so that no draw has a record twice; draw by draw with other seeds.
    drawn = [records[number % len(records)] for number in range(plan.draws * size)]
    against = subject.eyes.features(subject.true(held, held.reference))
    distances = []
    for one_by_one in (False, True):
        name = "+".join(task.conditions)  # in steps, obedience has painted some of them
        pictures = subject.sampled(held, name, drawn, one_by_one=one_by_one)
        features = subject.eyes.features(pictures)
        distances.append(
            np.array([kernel_distance(against, part) for part in features.split(size)])
        )
    fast, slow = distances
    # Draws are pairs: the same records with the same seeds, which both find easy or hard.
    apart = fast - slow
    excess = apart.mean() / max(apart.std(ddof=1) / len(apart) ** 0.5, 1e-12)
    told = [
        (f"{KERNEL} in {plan.steps} steps", fast.mean()),
        (f"{KERNEL} one code at a time", slow.mean()),
        (EXCESS, excess),
    ]
    answers.add([Row(held.name, "steps", name, sampled=float(x)) for name, x in told], size)
    return answers.plain()
