"""The design beside its alternatives: small models trained for the same minutes, then measured.

    python -m benchmarks.ablations [--minutes 20] [--only control] [--out runs/ablations]

Renders scenes, trains the variants of `ablations_variants.py` one after the other with
`taming.training.train`, measures them on held-out scenes, and writes report.json, report.md, the
figure ablations.png and a sheet of samples for each condition that is judged. What is finished is
kept, and a training that was stopped goes on: run the same command again. With `--only` some
variants are trained; the report holds all that are finished. Twelve trainings and half an hour of
measuring; the weights that are kept on the way take 2 GB. Nothing else should run meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.ablations_figure import draw, draw_sheet
from benchmarks.ablations_meter import Meter, Sight, Trained, held_out
from benchmarks.ablations_page import markdown
from benchmarks.ablations_report import reported
from benchmarks.ablations_training import StoppedEarly, is_complete, train_for
from benchmarks.ablations_variants import FIRST, JUDGED, VARIANTS, Variant, chosen, config_of
from benchmarks.machine import machine, versions
from taming.checkpoint import read_state_dict, tensor_hash
from taming.console import errors_in_a_sentence, progress_bar, without_advice
from taming.data.marks import mark_of
from taming.data.paired_folder import open_set
from taming.evaluation.journal import Journal, clock
from taming.evaluation.report import write_json, write_text
from taming.finding import WEIGHTS
from taming.worlds import render_set
from taming.worlds.dataset import usable_cores

JOURNAL = "ablations.json"
WAITING = "OMP_WAIT_POLICY"  # of threads: active ones starve whoever else wants their core
LEAST_SHARE, MOST_SHARE = 0.1, 0.5  # of rendered scenes that are held out


@dataclass(frozen=True)
class Plan:
    """How long and how large. The defaults are those of `make ablations`."""

    minutes: float = 20.0  # for each second stage
    first_stage_minutes: float = 20.0
    scenes: int = 4000  # rendered where no data is named
    size: int = 64  # pixels along a side
    people: bool | None = None  # in rendered scenes; None: if the extra is installed
    pictures: int = 256  # held-out ones that are measured
    judge_draws: int = 1600
    judge_steps: int = 400
    rounds: int = 5  # of timing
    seed: int = 0
    tokenizer: tuple[str, ...] = ()  # overrides of configs/demo_tokenizer.yaml, for all variants
    painter: tuple[str, ...] = ()  # overrides of configs/demo.yaml
    workers: int | None = None  # processes that render; None: one for each core


class Ablations:
    """The stages, each of which begins with what the ones before left in the folder."""

    def __init__(self, out: Path, plan: Plan, console: Console, data: Path | None = None) -> None:
        self.out, self.plan, self.console = out, plan, console
        out.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(out / JOURNAL)
        self.data = data or out / "worlds"
        self.is_rendered = data is None

    def run(self, only: tuple[str, ...] = ()) -> Path:
        """All stages; returns the report."""
        wanted = [v for v in chosen(only) if v.name != FIRST]
        mark = self._scenes()
        first = next(v for v in VARIANTS if v.name == FIRST)
        trainings = [first, *wanted]
        left = sum(self._minutes(v) for v in trainings if not self._is_kept(v, mark))
        self.console.print(f"trainings: {len(trainings)}, {left:g} minutes still to be done")
        for number, variant in enumerate(trainings, start=1):
            title = f"[bold]{number} of {len(trainings)}   {variant.name}: {variant.title}"
            self.console.rule(title, align="left")
            self.console.print(variant.told, style="dim")
            self._train(variant, mark)
        return self._report(mark)

    # --- scenes ---

    def _scenes(self) -> str:
        """Renders them where none are named; a mark of what they are."""
        plan = self.plan
        if self.is_rendered:
            share = min(MOST_SHARE, max(LEAST_SHARE, plan.pictures / plan.scenes))
            self.console.rule(
                f"[bold]{plan.scenes:,} scenes, {plan.size}x{plan.size}", align="left"
            )
            with progress_bar("rendering") as progress:
                render_set(
                    plan.scenes, plan.size, self.data, seed=plan.seed, people=plan.people,
                    workers=plan.workers or usable_cores(), progress=progress,
                    validation_share=share,
                )  # fmt: skip
        held_out(self.data, plan.size, plan.pictures)  # refuses now what could not be measured
        parts = [open_set(self.data, split) for split in ("train", "validation")]
        return _mark(*(mark_of(part) for part in parts))

    # --- trainings ---

    def _minutes(self, variant: Variant) -> float:
        plan = self.plan
        return plan.first_stage_minutes if variant.stage == "first" else plan.minutes

    def _run(self, variant: Variant) -> Path:
        return self.out / "runs" / variant.name

    def _config(self, variant: Variant) -> dict[str, Any]:
        plan = self.plan
        is_first = variant.stage == "first"
        return config_of(
            variant,
            data=self.data,
            size=plan.size,
            minutes=self._minutes(variant),
            overrides=plan.tokenizer if is_first else plan.painter,
            first_stage=None if is_first else self.out / "runs" / FIRST,
            cache=None if is_first else self.codes,
        )

    @property
    def codes(self) -> Path:
        """The cache of codes, which all second stages share; a first stage has its own."""
        return self.out / "codes" / self._first_stage_mark()

    def _first_stage_mark(self) -> str:
        weights = self.out / "runs" / FIRST / WEIGHTS
        return tensor_hash(read_state_dict(weights))[:16] if weights.is_file() else ""

    def _marked(self, variant: Variant, scenes: str) -> str:
        """A fingerprint of a training's settings and of what it is trained on."""
        return _mark(self._config(variant), scenes)

    def _is_kept(self, variant: Variant, scenes: str) -> bool:
        mark = self._marked(variant, scenes)
        is_finished = self.journal.seconds(variant.name, mark) is not None
        return is_finished and is_complete(self._run(variant), self._minutes(variant))

    def _train(self, variant: Variant, scenes: str) -> None:
        run, mark = self._run(variant), self._marked(variant, scenes)
        if self._is_kept(variant, scenes):
            self.console.print(f"kept from an earlier run: {run}")
            return
        begun = f"{variant.name} begun"
        go_on = self.journal.seconds(begun, mark) is not None
        self.journal.forget(variant.name)
        self.journal.finish(begun, mark, 0.0)
        if variant.name == FIRST and not go_on:
            shutil.rmtree(self.out / "codes", ignore_errors=True)  # of the one before
        started = time.monotonic()
        train_for(self._config(variant), run, go_on)
        seconds = time.monotonic() - started
        self.journal.finish(variant.name, mark, seconds)
        self.console.print(f"done in {clock(seconds)}: {run}")

    # --- report ---

    def _trained(self, scenes: str) -> dict[str, Trained]:
        """All that is finished, now or earlier, with the settings of this plan."""
        return {
            v.name: Trained(
                v,
                self._run(v),
                self._marked(v, scenes),
                self._config(v)["data"]["params"]["batch_size"],
            )
            for v in VARIANTS
            if self._is_kept(v, scenes)
        }

    def _meter(self) -> Meter:
        plan = self.plan
        sight = Sight(
            str(self.data), plan.size, plan.pictures, plan.judge_draws, plan.judge_steps, plan.seed
        )
        return Meter(self.out / "measured", sight, self.codes, progress_bar)

    def _report(self, scenes: str) -> Path:
        self.console.rule("[bold]Measuring", align="left")
        started, plan = time.monotonic(), self.plan
        trained, meter = self._trained(scenes), self._meter()
        first = self._config(trained[FIRST].variant)
        about = {
            "machine": machine(),
            "versions": versions(),
            "data": str(self.data),
            "held out": meter.count,
            "settings": asdict(plan),
            "codebook_size": first["model"]["params"]["n_embed"],
        }
        report = reported(trained, meter, plan.rounds, about)
        write_json(report, self.out / "report.json")
        write_text(markdown(report), self.out / "report.md")
        if report["questions"]:
            draw(report, self.out / "ablations.png")
        for task in JUDGED:
            draw_sheet(trained, meter, self.out / f"{task}.png", task)
        taken = clock(time.monotonic() - started)
        self.console.print(f"measured in {taken}: [bold]{self.out / 'report.md'}")
        return self.out / "report.md"


def _mark(*told: Any) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def make(
    out: Annotated[Path, typer.Option(help="Folder of scenes, runs and report.")] = Path(
        "runs/ablations"
    ),
    data: Annotated[
        Path | None,
        typer.Option(help="A paired folder with labels and depth. Without it: rendered scenes."),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Of each second stage.")] = Plan.minutes,
    first_stage_minutes: Annotated[
        float | None, typer.Option(help="Of each first stage. Without it: as the second stages.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="A variant or a question; may be repeated.")
    ] = None,
    scenes: Annotated[int, typer.Option(help="How many to render.", min=20)] = Plan.scenes,
    size: Annotated[int, typer.Option(help="Pixels along a side.", min=32)] = Plan.size,
    pictures: Annotated[
        int, typer.Option(help="Held-out pictures that are measured.", min=4)
    ] = Plan.pictures,
    judge_steps: Annotated[
        int, typer.Option(help="Training steps of a judge.", min=1)
    ] = Plan.judge_steps,
    seed: Annotated[int, typer.Option(help="Of the scenes.", min=0)] = Plan.seed,
) -> None:
    """Trains the design and its alternatives for the same minutes and says how they compare."""
    without_advice()
    plan = Plan(
        minutes=minutes,
        first_stage_minutes=minutes if first_stage_minutes is None else first_stage_minutes,
        scenes=scenes,
        size=size,
        pictures=pictures,
        judge_steps=judge_steps,
        seed=seed,
    )
    try:
        with errors_in_a_sentence("ablations"):
            Ablations(out, plan, Console(), data).run(tuple(only or ()))
    except (StoppedEarly, KeyboardInterrupt) as reason:
        told = str(reason) or "stopped; the same command goes on"
        print(f"ablations: {told}", file=sys.stderr)
        raise typer.Exit(130) from reason


if __name__ == "__main__":
    if os.environ.get(WAITING) != "passive":  # read when torch was imported, above
        os.environ[WAITING] = "passive"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.ablations", *sys.argv[1:]])
    typer.run(make)
