"""What is evaluated: a model, the sets it is asked about, and all pictures that come of it.

Stages ask this object for pictures: true ones, reconstructions, samples. It makes what is not in
the album yet, and trains the judges that are not in their folder yet. It measures nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from taming.checkpoint import tensor_hash
from taming.cond_stage.base import Condition
from taming.evaluation.album import Album
from taming.evaluation.judge import JudgeConfig, NoJudge, Reader
from taming.evaluation.judge_training import (
    Lessons,
    captions_of,
    draw_lessons,
    judge_config,
    judge_of,
    named_in,
)
from taming.evaluation.judges import EdgeReader
from taming.evaluation.networks import Eyes, Unavailable
from taming.evaluation.reaches import PAIRS
from taming.evaluation.reconstruction import reconstruct
from taming.evaluation.records import HeldOut, Record, Task, records_of, samples
from taming.evaluation.report import Track
from taming.first_stage.prepared import PreparedFirstStage
from taming.painting import Painter
from taming.pipeline import Pipeline
from taming.training.settings import has_bf16_units
from taming.transformer.multi_task import MultiTaskTransformer

READABLE = ("labels", "depth", "pose", "edges", "class_label", "text")  # in the order of PAIRS
PIXEL_GUIDANCE = 1.5  # of conditions that are pixels: half of what is added to 1 elsewhere


@dataclass(frozen=True)
class Plan:
    """How much is painted and looked at. The defaults are for twenty minutes on two cores."""

    pictures: int = 480  # held-out ones of each set: half reference, half asked
    count: int = 64  # records of each condition that is read
    paired: int = 128  # of two together, and of each alone beside them, to tell three per cent
    enlarged: int = 32  # records of each factor
    completed: int = 32  # records, each with two seeds
    draws: int = 5  # of `drawn` pictures, in few steps and one code at a time
    drawn: int = 8
    scenes: int = 1600  # rendered where there is no other data
    judge_draws: int = 2400
    judge_steps: int = 800
    steps: int = 24  # groups of codes
    guidance: float = 2.0
    seed: int = 0

    @property
    def pixel_guidance(self) -> float:
        """What `lowres` and `known` are painted with."""
        return min(PIXEL_GUIDANCE, self.guidance)

    def told(self) -> dict[str, Any]:
        """For reports: everything that decides the numbers."""
        return asdict(self) | {"guidance of lowres and known": self.pixel_guidance}


QUICK = Plan(
    pictures=64, count=12, paired=16, enlarged=6, completed=8, draws=3, drawn=6, scenes=160,
    judge_draws=160, judge_steps=60,
)  # fmt: skip


class Subject:
    def __init__(
        self,
        painter: Painter,
        sets: Sequence[HeldOut],
        plan: Plan,
        album: Album,
        judges: Path,  # their folder; those that it does not have are trained into it
        track: Track,
    ) -> None:
        self.painter, self.sets, self.plan = painter, list(sets), plan
        self.album, self.judges, self.track = album, judges, track
        self.notes: list[str] = []  # what cannot be asked, and why
        self._lessons: dict[str, Lessons] = {}
        self._readers: dict[tuple[str, str], Reader] = {}

    @cached_property
    def eyes(self) -> Eyes:
        return Eyes()

    @property
    def conditions(self) -> dict[str, Condition]:
        return conditions_of(self.painter)

    @property
    def can_paint(self) -> bool:
        return bool(self.conditions)

    # ---- what is asked --------------------------------------------------------------------------

    def tasks(self, held: HeldOut) -> list[Task]:
        """Every condition that is had here and can be read, alone; then pairs."""
        alone = []
        for name in (name for name in READABLE if name in self.conditions):
            lack = self._lack(held, name)
            if lack is None:
                alone.append(name)
            else:
                self.notes.append(f"{name} is left out on {held.name}: {lack}")
        pairs = []
        for pair in (pair for pair in PAIRS if set(pair) <= set(alone)):
            if self.found(held, pair) == 2:
                pairs.append(pair)
            else:
                self.notes.append(
                    f"{'+'.join(pair)} is left out on {held.name}: few pictures have both"
                )
        return [Task(held.name, names) for names in [*((name,) for name in alone), *pairs]]

    def _lack(self, held: HeldOut, name: str) -> str | None:
        """Why the condition cannot be asked for here; None where it can."""
        if name == "text":
            every = (captions_of(held.part, drawn.sample) for drawn in samples(held))
            told = next(filter(None, every), None)
            if told is None:
                return "the set has no captions"
            if not named_in(told):
                return "no judge knows what its captions name, which are not of rendered scenes"
            try:
                self.conditions[name].read(told[0], held.size)
            except ImportError as error:
                return str(error)
        found = self.found(held, [name])
        return None if found == 2 else f"{found or 'none'} of its asked pictures has it"

    def found(self, held: HeldOut, names: Sequence[str]) -> int:
        """How many records there are; two are as good as many."""
        return len(records_of(held, names, self.conditions, 2))

    def records(self, held: HeldOut, task: Task, count: int | None = None) -> list[Record]:
        """The first `count` that there are; None: as many as are read of such a task."""
        if count is None:
            count = self.plan.count if len(task.conditions) == 1 else self.plan.paired
        return records_of(held, task.conditions, self.conditions, count)

    # ---- pictures -------------------------------------------------------------------------------

    def true(self, held: HeldOut, indices: Sequence[int]) -> list[Image.Image]:
        return self.album.pictures(
            f"{held.name}/true", indices, lambda some: [held.picture(index) for index in some]
        )

    def reconstructed(self, held: HeldOut, indices: Sequence[int]) -> list[Image.Image]:
        def make(some: list[int]) -> list[Image.Image]:
            return reconstruct(self.painter.first_stage, self.true(held, some)).pictures

        with self.track(f"reconstructing {held.name}") as progress:
            return self.album.pictures(f"{held.name}/reconstructed", indices, make, progress)

    def sampled(
        self,
        held: HeldOut,
        task: str,
        records: Sequence[Record],
        *,
        seeds: Sequence[int] | None = None,  # None: 0, 1, ...
        one_by_one: bool = False,
    ) -> list[Image.Image]:
        """One picture for each record, which the album knows by task and seed."""
        pipeline, plan = self.painter, self.plan
        assert isinstance(pipeline, Pipeline)
        is_pixels = task.startswith(("lowres", "known"))
        settings = {
            "steps": None if one_by_one else plan.steps,
            "guidance": plan.pixel_guidance if is_pixels else plan.guidance,
        }

        seeds = range(len(records)) if seeds is None else seeds
        record_of = dict(zip(seeds, records, strict=True))

        def make(some: list[int]) -> list[Image.Image]:
            values = [record_of[seed].values for seed in some]
            return pipeline.paint_each(values, held.size, seeds=some, **settings)

        how = "one code at a time" if one_by_one else task
        shelf = f"{held.name}/{task}{' one by one' if one_by_one else ''}"
        with self.track(f"painting {held.name}: {how}") as progress:
            return self.album.pictures(shelf, seeds, make, progress)

    # ---- readers --------------------------------------------------------------------------------

    def reader(self, held: HeldOut, name: str) -> Reader:
        """Unavailable where there can be no judge."""
        if name == "edges":
            return EdgeReader()
        if (held.name, name) not in self._readers:
            try:
                self._readers[held.name, name] = self._judge(held, name)
            except NoJudge as reason:
                raise Unavailable(f"{name} is not read on {held.name}: {reason}") from reason
        return self._readers[held.name, name]

    def _judge(self, held: HeldOut, name: str) -> Reader:
        config = judge_config(
            name,
            held.path,
            held.size,
            held_out=held.part.names,
            split=held.entry.split,
            format=held.entry.format,
            ignore=held.entry.ignore,
            flip=held.entry.flip,
            draws=self.plan.judge_draws,
            steps=self.plan.judge_steps,
            first_stage=self._first_stage_hash,
        )
        with self.track(f"judge of {name} on {held.name}") as progress:
            return judge_of(self.judges, config, lambda: self._lessons_of(held, config), progress)

    @cached_property
    def _first_stage_hash(self) -> str:
        return tensor_hash(self.painter.first_stage.state_dict())[:16]

    def _lessons_of(self, held: HeldOut, config: JudgeConfig) -> Lessons:
        """Made once for all judges of a set; those of the set before are not kept."""
        if held.name not in self._lessons:
            weight = self.painter.first_stage.post_quant_conv.weight
            first_stage = PreparedFirstStage(self.painter.first_stage)
            faster = has_bf16_units(weight.device)

            @torch.inference_mode()
            def through(images: Tensor) -> Tensor:
                given = images.to(weight.device, weight.dtype)
                with torch.autocast(weight.device.type, torch.bfloat16, enabled=faster):
                    return first_stage.decode(first_stage.encode(given).z_q).float().cpu()

            with self.track(f"lessons of {held.name}") as progress:
                self._lessons = {held.name: draw_lessons(config, through, progress)}
        return self._lessons[held.name]


def conditions_of(painter: Painter) -> dict[str, Condition]:
    """What a model can be asked by; nothing for first stages and published models."""
    model = painter.model
    return model.conditions if isinstance(model, MultiTaskTransformer) else {}
