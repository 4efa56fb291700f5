"""Every task from one set of weights, about a minute after the installation.

    python -m taming.evaluation.demo --out demo

Loads the bundled model, or another run, renders a few scenes that no training has seen, paints
every task from them and leaves `index.html` and one sheet, `grid.png`. Nothing is trained, nothing
selected. How such a model comes to be shows `demo_training`.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from taming.console import errors_in_a_sentence, progress_bar
from taming.worlds import render_set
from taming.worlds.dataset import usable_cores

SEED = 77  # of scenes that no config of this project trains on
SCENES = 40
EXAMPLES, SAMPLES, STEPS = 2, 4, 24
RECONSTRUCTED = 8  # pictures


def paint_page(
    model: str,
    out: Path,
    console: Console,
    scenes: int = SCENES,
    people: bool | None = None,  # None: if the extra is installed
) -> Path:
    """Scenes, pictures and the page in `out`; returns the page. ValueError for a first stage."""
    from taming.evaluation.demo_page import About, write_page, write_sheet
    from taming.evaluation.demo_tasks import Scenes, paint_tasks
    from taming.loading import load
    from taming.pipeline import Pipeline
    from taming.transformer.multi_task import MultiTaskTransformer

    began = time.monotonic()
    pipeline = load(model)
    if not isinstance(pipeline, Pipeline) or not isinstance(pipeline.model, MultiTaskTransformer):
        raise ValueError(f"{model} is no model of several conditions; name a run that is")
    size = min(pipeline.model.sizes[0])
    with progress_bar("rendering") as progress:
        folder = render_set(
            scenes,
            size,
            out / "scenes",
            seed=SEED,
            people=people,
            people_share=0.6,
            workers=usable_cores(),
            progress=progress,
            validation_share=1.0,
        )
    rendered = time.monotonic()
    unseen = Scenes(folder, size)
    with progress_bar("painting") as progress:
        painted = paint_tasks(pipeline, unseen, EXAMPLES, SAMPLES, STEPS, progress)
    truths = [unseen.image(name) for name in unseen.names[:RECONSTRUCTED]]
    reconstructions = pipeline.reconstruct(truths)
    seconds = time.monotonic() - rendered
    pictures = sum(len(each.samples) for examples in painted.values() for each in examples)
    weights = sum(parameter.numel() for parameter in pipeline.model.parameters())
    about = About(
        title="Every task, one set of weights",
        lead=f"Painted on this machine, by {_called(model)}.",
        facts=[
            (f"{weights / 1e6:.0f} M", "parameters, both stages together"),
            (f"{seconds:.0f} s", f"for {pictures} pictures, {usable_cores()} processor cores"),
            (f"{STEPS}", "sampling steps for a picture; a panorama has several windows"),
        ],
        text=[
            "Scenes rendered a moment ago, which no training has seen. Rows are the first that "
            "have what a task needs, samples the first seeds: nothing is selected.",
            "Train your own: <code>taming train configs/worlds.yaml</code>, or a folder of your "
            "own pictures in place of the scenes.",
        ],
        model=model,
    )
    out.mkdir(parents=True, exist_ok=True)
    write_sheet(painted, out / "grid.png")
    page = write_page(painted, list(zip(truths, reconstructions, strict=True)), about, out)
    console.print(
        f"{pictures} pictures in {seconds:.0f} s, {time.monotonic() - began:.0f} s in all: "
        f"[bold]{page}"
    )
    return page


def _called(model: str) -> str:
    return "the model that comes with the package" if model == "bundled" else model


def make(
    out: Annotated[Path, typer.Option(help="Folder of scenes, pictures and page.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Run directory, checkpoint, or 'bundled'.")
    ] = "bundled",
) -> None:
    """Paints every task into OUT/index.html."""
    with errors_in_a_sentence("demo"):
        paint_page(model, out, Console())


if __name__ == "__main__":
    # Before torch is imported: threads that wait actively starve those that work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    typer.run(make)
