"""Asks trained variants, and keeps every answer: what was measured once is not measured again.

Answers and painted pictures lie in albums (`taming.evaluation.album`), one for each variant, whose
name says what decides them: the training, the scenes, the judges. Judges, true pictures and
reconstructions are the same for all second stages, since these share a first stage.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import nn

from benchmarks.ablations_measures import (
    AT_ONCE,
    GUIDANCE,
    SAMPLINGS,
    Each,
    Timed,
    kept,
    nats_per_code,
    obeyed,
    paint,
    seconds_per_picture,
)
from benchmarks.ablations_training import Snapshot, model_at, snapshots
from benchmarks.ablations_variants import (
    JUDGED,
    NATS_GIVEN,
    Curve,
    Variant,
    given_title,
    samplings_of,
)
from taming.checkpoint import tensor_hash
from taming.evaluation.album import Album
from taming.evaluation.networks import Eyes
from taming.evaluation.obedience import judged
from taming.evaluation.records import HeldOut, Record, Task, open_sets
from taming.evaluation.report import Track
from taming.evaluation.subject import Plan as EvaluationPlan
from taming.evaluation.subject import Subject
from taming.first_stage.prepared import PreparedFirstStage
from taming.first_stage.vqgan import VQModel
from taming.pipeline import Pipeline
from taming.training.cache import CodesCache
from taming.transformer.multi_task import MultiTaskTransformer

LEAST = 4  # held-out pictures, below which there is nothing to compare


@dataclass(frozen=True)
class Trained:
    """A variant that has trained for all of its minutes."""

    variant: Variant
    run: Path
    mark: str  # of its settings and of what it was trained on
    batch_size: int

    @cached_property
    def snapshots(self) -> list[Snapshot]:
        return snapshots(self.run)

    @property
    def end(self) -> Snapshot:
        return self.snapshots[-1]

    def at(self, step: int) -> Snapshot:
        return next(each for each in self.snapshots if each.step == step)

    def until(self, seconds: float) -> Snapshot:
        """The last one within so much training; the first, where none is."""
        within = [each for each in self.snapshots if each.seconds <= seconds]
        return within[-1] if within else self.snapshots[0]

    def examples(self, snapshot: Snapshot) -> int:
        return snapshot.step * self.batch_size


class Sight(NamedTuple):
    """How much is looked at."""

    data: str
    size: int
    pictures: int
    judge_draws: int
    judge_steps: int
    seed: int = 0


def held_out(data: Path, size: int, pictures: int, seed: int = 0) -> HeldOut:
    """The held-out scenes that are measured; ValueError where they cannot be."""
    (held,) = open_sets([{"path": str(data)}], {}, size=(size, size), seed=seed)
    held = _asked(held, pictures)
    if len(held.asked) < LEAST:
        raise ValueError(
            f"{data} has {len(held.asked)} held-out pictures, {LEAST} are needed; give it more in "
            f"split.json, or render more scenes"
        )
    absent = [name for name in JUDGED if name not in held.part.sample(held.asked[0])]
    if absent:
        raise ValueError(
            f"{data} has no {absent[0]}; {' and '.join(JUDGED)} are what variants are judged by, "
            f"name a set that has them"
        )
    return held


def _asked(held: HeldOut, pictures: int) -> HeldOut:
    """All of them are asked, none is kept as reference."""
    return replace(held, asked=[*held.asked, *held.reference][:pictures], reference=[])


class Meter:
    """Measures variants; see `ablations_measures` for what the numbers are."""

    def __init__(self, out: Path, sight: Sight, codes: Path, track: Track) -> None:
        self.out, self.sight, self.codes, self.track = out, sight, codes, track
        self._loaded: tuple[Path, nn.Module] | None = None
        self._albums: dict[str, Album] = {}
        self._subjects: dict[str, tuple[Subject, HeldOut]] = {}
        self._records: dict[str, list[Record]] = {}

    # --- models and albums ---

    def model(self, trained: Trained, snapshot: Snapshot) -> Any:
        """The last one asked for is kept."""
        if self._loaded is None or self._loaded[0] != snapshot.path:
            self._loaded = (snapshot.path, model_at(trained.run, snapshot))
        return self._loaded[1]

    def album(self, trained: Trained) -> Album:
        name = trained.variant.name
        if name not in self._albums:
            settings = {
                "mark": trained.mark,
                "end": [trained.end.step, trained.end.seconds],
                "guidance": GUIDANCE,
                **self.sight._asdict(),
            }
            self._albums[name] = Album(self.out / name, settings)
        return self._albums[name]

    def _ask(
        self, trained: Trained, what: str, snapshot: Snapshot, work: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        return self.album(trained).result(f"{what} at {snapshot.step}", work)

    # --- first stages ---

    def kept(self, trained: Trained, snapshot: Snapshot, eyes: bool = True) -> dict[str, Any]:
        """`each` and `whole` of `ablations_measures.Kept`; without eyes, PSNR alone."""

        def work() -> dict[str, Any]:
            model: VQModel = self.model(trained, snapshot)
            return kept(model, self._true, Eyes() if eyes else None)._asdict()

        return self._ask(trained, "kept" if eyes else "PSNR", snapshot, work)

    @cached_property
    def _true(self) -> list[Image.Image]:
        sight = self.sight
        held = held_out(Path(sight.data), sight.size, sight.pictures, sight.seed)
        return [held.picture(index) for index in held.asked]

    @property
    def count(self) -> int:
        """How many held-out pictures there are to measure."""
        return len(self._true)

    # --- second stages ---

    def nats(
        self, trained: Trained, snapshot: Snapshot, kind: str, given: Sequence[str]
    ) -> list[float]:
        """Nats per code of each held-out picture."""

        def work() -> dict[str, Any]:
            model: MultiTaskTransformer = self.model(trained, snapshot)
            cache = CodesCache(self.codes / "validation")
            return {"each": nats_per_code(model, cache, self.sight.pictures, kind, given)}

        what = f"nats, {kind} order, given {given_title(given)}"
        return self._ask(trained, what, snapshot, work)["each"]

    def all_nats(
        self, trained: Trained, snapshot: Snapshot, only: Collection[Curve] = ()
    ) -> dict[tuple[str, tuple[str, ...]], list[float]]:
        """By kind of order and conditions given: all that the variant can be asked, or some."""
        variant = trained.variant
        asked = [
            curve
            for given in NATS_GIVEN
            for curve in (Curve(kind, given) for kind in variant.kinds)
            if set(given) <= set(variant.conditions) and (not only or curve in only)
        ]
        with self.track(f"nats of {trained.variant.title}") as progress:
            found = {}
            for kind, given in asked:
                found[kind, given] = self.nats(trained, snapshot, kind, given)
                progress(len(found), len(asked))
        return found

    def obeyed(
        self, trained: Trained, snapshot: Snapshot, task: str, sampling: str
    ) -> dict[str, Any]:
        """`rows`, of all pictures together as in `taming evaluate`, and `each`, by picture."""

        def work() -> dict[str, Any]:
            subject, held = self.subject(trained)
            records, reader = self.records(trained, task), subject.reader(held, task)
            pictures = self.painted(trained, snapshot, task, sampling)
            again = subject.reconstructed(held, [record.index for record in records])
            rows = judged(
                held.name, {task: reader}, records, again, pictures, subject.conditions,
                self.sight.seed,
            ).rows  # fmt: skip
            words = getattr(subject.conditions[task], "names", ())
            each: Each = obeyed(reader, task, words, records, pictures, self.sight.seed)
            return {"rows": [row.as_json() for row in rows], "each": each}

        return self._ask(trained, f"obeyed {task}, {sampling}", snapshot, work)

    def painted(
        self, trained: Trained, snapshot: Snapshot, task: str, sampling: str
    ) -> list[Image.Image]:
        """A picture for each record of the task: record i with seed i."""
        records, size = self.records(trained, task), self.subject(trained)[1].size

        def make(some: list[int]) -> list[Image.Image]:
            model: MultiTaskTransformer = self.model(trained, snapshot)
            values = [records[n].values for n in some]
            return paint(model, values, size, some, SAMPLINGS[sampling])

        shelf = f"{task}, {sampling} at {snapshot.step}"
        with self.track(f"{trained.variant.title} paints {shelf}") as progress:
            album = self.album(trained)
            return album.pictures(shelf, range(len(records)), make, progress)

    def records(self, trained: Trained, task: str) -> list[Record]:
        """The same for every variant that knows the task: scenes decide them, weights do not."""
        if task not in self._records:
            subject, held = self.subject(trained)
            self._records[task] = subject.records(held, Task(held.name, (task,)))
        return self._records[task]

    def reconstructed(self, trained: Trained, task: str) -> list[Image.Image]:
        subject, held = self.subject(trained)
        return subject.reconstructed(held, [each.index for each in self.records(trained, task)])

    def subject(self, trained: Trained) -> tuple[Subject, HeldOut]:
        """Judges and reconstructions for a variant, and the scenes it is asked about."""
        name = trained.variant.name
        if name not in self._subjects:
            sight = self.sight
            model: MultiTaskTransformer = self.model(trained, trained.end)
            plan = EvaluationPlan(
                count=sight.pictures, judge_draws=sight.judge_draws, judge_steps=sight.judge_steps,
                seed=sight.seed,
            )  # fmt: skip
            entry, size = {"path": sight.data}, (sight.size, sight.size)
            (held,) = open_sets([entry], model.conditions, size=size, seed=sight.seed)
            held = _asked(held, sight.pictures)
            shared = Album(
                self.out / "shared",
                {"first stage": tensor_hash(model.first_stage_model.state_dict())}
                | {**asdict(plan), **sight._asdict()},
            )
            subject = Subject(
                Pipeline(model), [held], plan, shared, self.out / "judges", self.track
            )
            self._subjects[name] = (subject, held)
        return self._subjects[name]

    # --- speed ---

    def timed(self, every: Sequence[Trained], rounds: int) -> dict[str, dict[str, Timed]]:
        """Variant -> sampling -> seconds a picture, all variants measured in one go."""
        works: dict[str, Callable[[int], object]] = {}
        names: dict[str, tuple[str, str]] = {}
        for trained in every:
            model: MultiTaskTransformer = self.model(trained, trained.end)
            task = next(name for name in JUDGED if name in trained.variant.conditions)
            values = [record.values for record in self.records(trained, task)]
            for sampling in samplings_of(trained.variant.name):
                key = f"{trained.variant.name}, {sampling}"
                works[key] = _painting(model, values, self.sight.size, sampling)
                names[key] = (trained.variant.name, sampling)

        def work() -> dict[str, Any]:
            with self.track("timing") as progress:
                found = seconds_per_picture(works, rounds, progress)
            return {key: list(timed) for key, timed in found.items()}

        settings = {each.variant.name: [each.mark, each.end.seconds] for each in every}
        album = Album(self.out / "timing", {**settings, "rounds": rounds})
        found: dict[str, dict[str, Timed]] = {}
        for key, seconds in album.result("timing", work).items():
            name, sampling = names[key]
            found.setdefault(name, {})[sampling] = Timed(*seconds)
        return found


def _painting(
    model: MultiTaskTransformer, values: Sequence[Mapping[str, Any]], size: int, sampling: str
) -> Callable[[int], object]:
    prepared = PreparedFirstStage(model.first_stage_model)
    many = [values[n % len(values)] for n in range(AT_ONCE)]

    def work(count: int) -> object:
        seeds = range(count)
        return paint(model, many[:count], (size, size), seeds, SAMPLINGS[sampling], prepared)

    return work
