"""Everything that can be measured of a model, in stages, with one report at the end.

    reconstruction   what the codebook keeps
    obedience        what readers see of the conditions, alone and two together
    enlargement      small pictures made 2, 4 and 8 times as large
    completion       half-finished pictures
    distribution     whole collections against held-out pictures
    steps            painting in few steps against one code at a time

Pictures and answers are put away as they come: the same command goes on where it was stopped. A
first stage, or a published second stage, is measured by what all can do: its reconstructions.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from taming.config import load_config, plain
from taming.data.marks import mark_of
from taming.data.paired_folder import open_set
from taming.data.roots import VARIABLE
from taming.evaluation.album import Album
from taming.evaluation.figures import draw_curves
from taming.evaluation.networks import NETWORK, Unavailable
from taming.evaluation.page import write_page
from taming.evaluation.reaches import PHOTOGRAPHS, doubts, unmeasured, with_reaches
from taming.evaluation.records import (
    HeldOut,
    Size,
    Task,
    name_of,
    open_sets,
    own_sets,
    photographs,
    rendered_worlds,
)
from taming.evaluation.report import Row, Track, markdown, rows_from, silent, write_json, write_text
from taming.evaluation.stages import (
    Answer,
    completing,
    enlarging,
    hastening,
    obeying,
    over_all_sets,
    reconstructing,
    resembling,
    resembling_on_inception,
)
from taming.evaluation.subject import READABLE, Plan, Subject, conditions_of
from taming.finding import find
from taming.first_stage.perceptual import EfficientNetLoss, cache_folder
from taming.loading import load
from taming.painting import Painter
from taming.transformer.multi_task import MultiTaskTransformer

logger = logging.getLogger(__name__)

STAGES = ("reconstruction", "obedience", "enlargement", "completion", "distribution", "steps")
LEAST = 8  # held-out pictures of a set: less are no collection
WORLDS = "worlds"  # what scenes are called that are rendered on the spot
LOSSES = "lossconfig"  # the key of a first stage in a config
DEFAULT_SIZE = 128  # pixels, where neither the model nor the command says


def evaluate(
    run: str | Path,
    out: Path,
    *,
    data: Sequence[Path] = (),  # paired folders; none: the run's sets, scenes where it names none
    judges: Path | None = None,  # folder of judges; None: in the cache of this machine
    plan: Plan = Plan(),  # noqa: B008 - frozen
    only: Sequence[str] = STAGES,
    tasks: Sequence[Task] | None = None,  # None: all that can be read
    size: Size | None = None,  # of all sets
    set_sizes: Mapping[str, Size] | None = None,  # of single sets, by name
    device: str = "cpu",
    track: Track = silent,
) -> dict[str, Any]:
    """The report, also written to `out` as report.json, report.md and index.html."""
    strangers = sorted(set(only) - set(STAGES))
    if strangers:
        raise ValueError(f"there is no stage '{strangers[0]}'; the stages are {', '.join(STAGES)}")
    painter = load(run, device=device)
    tasks = None if tasks is None else arranged(tasks, conditions_of(painter))
    is_bundled = str(run) == "bundled"
    entries = entries_of(painter, run, data, plan, size, track)
    # Scenes are what the bundled model paints; photographs, too, have to pass its codebook.
    beside = photographs(PHOTOGRAPHS, entries[0]["size"]) if is_bundled and not data else []
    sets = open_sets(
        [*entries, *beside],
        conditions_of(painter),
        size=size,
        set_sizes=set_sizes,
        pictures=plan.pictures,
        seed=plan.seed,
    )
    settings = {
        "model": painter.fingerprint,
        "sets": {held.name: [str(held.path), list(held.size)] for held in sets},
        **plan.told(),
    }
    decided = {
        **settings,
        "data": {
            held.name: [*marks_of(held, bool(conditions_of(painter))), asdict(held.entry)]
            for held in sets
        },
        "judges": None if judges is None else str(judges),
    }
    album = Album(out / "work", decided)
    folder = judges or cache_folder() / "judges"
    subject = Subject(painter, sets, plan, album, folder, track)
    subject.notes += seen_before(plain(load_config(find(run).config)))
    answers = answered(subject, only, tasks, [name_of(Path(each["path"])) for each in beside])
    report = reported(str(run), subject, settings, answers, is_bundled)
    write_json(report, out / "report.json")
    facts = {
        "model": f"{painter.name}, {painter.fingerprint[:12]}",
        "sets": "; ".join(f"{h.name}: {h.path}, {h.size[0]}x{h.size[1]}" for h in sets),
        "stages": ", ".join(only),
        "tasks": "all that can be read" if tasks is None else ", ".join(map(str, tasks)),
        **report["settings"],
    }
    title = f"Evaluation of {painter.name or run}"
    write_text(
        markdown(title, facts, rows_from(report["rows"]), report["notes"]), out / "report.md"
    )
    shown = [each for answer in answers for each in answer["shown"]]
    write_page(title, facts, rows_from(report["rows"]), shown, report["notes"], album.folder, out)
    history = Path(run) / "history.csv"
    if history.is_file():
        draw_curves(history, out / "curves.png")
    return report


def marks_of(held: HeldOut, has_judges: bool) -> list[str]:
    """Of what is asked, and of what judges learn from, where they can learn."""
    asked, entry = mark_of(held.part), held.entry
    if not has_judges:
        return [asked]
    options = {"format": entry.format, "annotations": entry.annotations}
    try:
        return [asked, mark_of(open_set(held.path, entry.split, **options))]
    except ValueError:  # which the judges will say
        return [asked]


def entries_of(
    painter: Painter,
    run: str | Path,
    data: Sequence[Path],
    plan: Plan,
    size: Size | None,
    track: Track,
) -> list[dict[str, Any]]:
    """The sets to look at: those named, the run's own, or scenes rendered on the spot."""
    config = plain(load_config(find(run).config))
    own = [] if data or str(run) == "bundled" else own_sets(config)
    if own:
        return own
    params = (config.get("data") or {}).get("params") or {}
    model = painter.model
    trained = model.sizes[0] if isinstance(model, MultiTaskTransformer) else params.get("size")
    wanted = size or trained or DEFAULT_SIZE
    height, width = (wanted, wanted) if isinstance(wanted, int) else wanted
    if data:
        return [{"path": str(folder), "size": [height, width]} for folder in data]
    with track(f"rendering {plan.scenes} scenes that no model has seen") as progress:
        folder = rendered_worlds(cache_folder(), (height, width), plan.scenes, progress)
    return [{"path": str(folder), "size": [height, width], "name": WORLDS}]


def seen_before(config: Any) -> list[str]:
    """A note where training used, or may have used, the network that compares pictures here."""
    told = json.dumps(config, default=str)
    if LOSSES not in told:  # a second stage keeps of its first what painting needs
        return [
            f"the config does not tell which losses trained the first stage; if "
            f"{EfficientNetLoss.__name__} was one, perceptual and kernel distances ({NETWORK}) "
            f"flatter it"
        ]
    if EfficientNetLoss.__name__ not in told:
        return []
    return [
        f"perceptual and kernel distances use {NETWORK}, by which this first stage was trained "
        f"({EfficientNetLoss.__name__}): compare them with those of its kind"
    ]


def answered(
    subject: Subject,
    only: Sequence[str],
    tasks: Sequence[Task] | None = None,
    reconstructed: Collection[str] = (),  # names of sets of which no more is asked
) -> list[Answer]:
    """What the stages found, in their order."""
    answers: list[Answer] = []

    def ask(name: str, work: Callable[[], Answer]) -> None:
        try:
            answers.append(subject.album.result(name, work))
        except Unavailable as reason:
            answers.append(note(str(reason)))

    sets = [held for held in subject.sets if len(held.asked) + len(held.reference) >= LEAST]
    for held in subject.sets:
        if held not in sets:
            answers.append(note(f"{held.name} has less than {LEAST} held-out pictures"))
    if not sets:
        raise ValueError(f"no set has {LEAST} held-out pictures; name others with --data")
    painted = [held for held in sets if held.name not in reconstructed]
    available = {held.name: subject.tasks(held) for held in painted}
    chosen = available if tasks is None else checked(tasks, available, subject)
    if "reconstruction" in only:
        for held in sets:
            ask(f"reconstruction {held.name}", lambda held=held: reconstructing(subject, held))
        counts = [torch.tensor(answer["counts"]) for answer in answers if "counts" in answer]
        if len(counts) > 1:
            pictures = sum(len(held.reference) + len(held.asked) for held in sets)
            rows = [row.as_json() for row in over_all_sets(counts, pictures)]
            answers.append({"rows": rows, "shown": [], "notes": []})
    if not subject.can_paint:
        answers.append(note("no conditions: only stages of taming.transformer.multi_task have any"))
    unread = [name for name in subject.conditions if name not in (*READABLE, "lowres", "known")]
    answers += [note(f"{name} is not asked for: nothing here reads it") for name in unread]
    for held in painted:
        asked = chosen[held.name]
        if "obedience" in only:
            for task in asked:
                name = f"obedience {held.name} {'+'.join(task.conditions)}"
                ask(name, lambda held=held, task=task: obeying(subject, held, task))
        if "enlargement" in only and "lowres" in subject.conditions:
            ask(f"enlargement {held.name}", lambda held=held: enlarging(subject, held))
        if "completion" in only and "known" in subject.conditions:
            ask(f"completion {held.name}", lambda held=held: completing(subject, held))
        if "distribution" in only:
            single = [task for task in asked if len(task.conditions) == 1]
            name = f"{held.name} {' '.join(task.conditions[0] for task in single)}"
            for what, stage in (("distribution", resembling), ("FID", resembling_on_inception)):
                ask(f"{what} {name}", partial(stage, subject, held, single))
        if "steps" in only and asked:
            name = f"steps {held.name} {'+'.join(asked[0].conditions)}"
            ask(name, lambda held=held, asked=asked: hastening(subject, held, asked[0]))
    return answers


def note(text: str) -> Answer:
    return {"rows": [], "shown": [], "notes": [text]}


def arranged(tasks: Sequence[Task], conditions: Collection[str]) -> list[Task]:
    """Each task once, its conditions in the one order that they have everywhere.

    ValueError for a condition that is named twice, or that the model does not know.
    """
    readable = [name for name in READABLE if name in conditions]
    for task in tasks:
        if not set(task.conditions) <= set(readable):
            listed = ", ".join(readable) or "nothing"
            raise ValueError(f"task '{task}': of what can be read, this model knows {listed}")
        if len(set(task.conditions)) < len(task.conditions):
            raise ValueError(f"task '{task}' names a condition twice")
    ordered = [
        task._replace(conditions=tuple(name for name in readable if name in task.conditions))
        for task in tasks
    ]
    return list(dict.fromkeys(ordered))


def checked(
    tasks: Sequence[Task], available: Mapping[str, Sequence[Task]], subject: Subject
) -> dict[str, list[Task]]:
    """The tasks by their set, if each set has what its tasks ask for."""
    single = {(n, t.conditions[0]) for n, each in available.items() for t in each}
    for task in tasks:
        if not task.conditions or any((task.set, name) not in single for name in task.conditions):
            listed = ", ".join(f"{name}:{condition}" for name, condition in sorted(single))
            raise ValueError(f"task '{task}' cannot be read here; there are {listed or 'none'}")
        held = next(held for held in subject.sets if held.name == task.set)
        if subject.found(held, task.conditions) < 2:
            raise ValueError(
                f"task '{task}': fewer than two of its asked pictures have all of that"
            )
    return {name: [task for task in tasks if task.set == name] for name in available}


def parse_task(text: str) -> Task:
    """'nyu_depth_v2:depth+labels' -> Task."""
    name, colon, conditions = text.partition(":")
    if not (name and colon and conditions):
        raise ValueError(f"task '{text}': write SET:CONDITION or SET:CONDITION+CONDITION")
    return Task(name, tuple(conditions.split("+")))


def reported(
    run: str,
    subject: Subject,
    settings: Mapping[str, Any],
    answers: Sequence[Answer],
    is_bundled: bool = False,  # which is aimed at scenes, whatever it is asked about
) -> dict[str, Any]:
    rows: list[Row] = [row for answer in answers for row in rows_from(answer["rows"])]
    names = [held.name for held in subject.sets]
    worlds = [held.name for held in subject.sets if held.is_worlds]
    aimed = worlds or ([WORLDS] if is_bundled else [])
    notes = [*subject.notes, *(text for answer in answers for text in answer["notes"])]
    if aimed:
        rows += unmeasured(rows, aimed)
        notes += [
            f"{name} is not measured: name it with --data or, for the bundled model without, put "
            f"it into the folder that {VARIABLE} names"
            for name in PHOTOGRAPHS
            if name not in names
        ]
    rows = with_reaches(rows, [*aimed, *(["all"] if worlds == names else [])])
    return {
        "run": run,
        "model": settings["model"],
        "sets": settings["sets"],
        "settings": subject.plan.told(),
        "rows": [row.as_json() for row in rows],
        "notes": list(dict.fromkeys([*notes, *doubts(rows)])),
    }
