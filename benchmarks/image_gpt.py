"""Completes the same pictures with Image-GPT and with ours, trained equally long on the same set.

    make image-gpt                                  an hour and ten minutes
    python -m benchmarks.image_gpt --data data/worlds --minutes 30 --out runs/image_gpt
    python -m benchmarks.image_gpt --run bundled    ours is a model that is already trained

The set is a paired folder (`taming worlds` renders one, docs/own_pictures.md tells of one's own).
Both sides learn from its training split on this machine, one after the other, for so many minutes
each by the clock; what they need first (colours by k-means, the codes of the set) is paid from
their own minutes. Nothing else should run meanwhile. Then both complete the same held-out pictures,
of which they see the upper halves, twice each.

- Image-GPT is that of `transformers`, trained from nothing: 512 colours by k-means of the training
  pixels, 32x32 pixels in raster order, as published (Chen et al. 2020). It is smaller than that
  (--width, --layers, --heads), and fast for a processor: fused attention, bf16 where it has units.

- Ours are both stages of the committed configs configs/worlds_tokenizer.yaml (40 % of the minutes)
  and configs/worlds.yaml (the rest), made smaller for an hour; it learns all tasks of which the set
  has annotations, of which completion is one. --first-stage and --second-stage change single keys.
  With --run nothing of ours is trained, the minutes are Image-GPT's alone, and the table says so.

Everything is compared twice: at 32x32 pixels, ours shrunk by area; and at full size, Image-GPT
enlarged. What is measured stands in `benchmarks/image_gpt_measures.py`.

The folder --out holds report.md, report.json and completions.png, the trainings, the judge and all
completed pictures. What was stopped, by Ctrl-C or otherwise, goes on with the same command: states
are saved every five minutes. A folder belongs to its settings of training; with others it is
refused. Settings of painting and measuring may change.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.image_gpt_options import Options


def make(
    data: Annotated[Path, typer.Option(help="Paired folder of pictures.")] = Options.data,
    minutes: Annotated[
        float, typer.Option(help="Of training, each side.", min=0.01)
    ] = Options.minutes,
    out: Annotated[Path, typer.Option(help="Folder of everything that is made.")] = Options.out,
    run: Annotated[
        str | None,
        typer.Option(help="A trained model of ours, bundled or a run, in place of training one."),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Side of our pictures; without it, the run's, else 64.", min=32),
    ] = None,
    pictures: Annotated[
        int, typer.Option(help="How many are completed.", min=3)
    ] = Options.pictures,
    shown: Annotated[
        int, typer.Option(help="How many of them in the figure.", min=1)
    ] = Options.shown,
    steps: Annotated[int, typer.Option(help="Of our painting.", min=1)] = Options.steps,
    guidance: Annotated[float, typer.Option(help="Of our painting.")] = Options.guidance,
    top_k: Annotated[int | None, typer.Option(help="Of Image-GPT's drawing.", min=1)] = None,
    width: Annotated[int, typer.Option(help="Of Image-GPT.", min=8)] = 192,
    layers: Annotated[int, typer.Option(help="Of Image-GPT.", min=1)] = 6,
    heads: Annotated[int, typer.Option(help="Of Image-GPT.", min=1)] = 6,
    colours: Annotated[int, typer.Option(help="Of Image-GPT.", min=2)] = 512,
    batch_size: Annotated[int, typer.Option(help="Of Image-GPT's training.", min=1)] = 4,
    learning_rate: Annotated[float, typer.Option(help="Of Image-GPT's training.")] = 1e-3,
    first_stage: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE on top of configs/worlds_tokenizer.yaml; can be repeated."),
    ] = None,
    second_stage: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE on top of configs/worlds.yaml.")
    ] = None,
    judge_draws: Annotated[
        int, typer.Option(help="Pictures the judge learns from.")
    ] = Options.judge_draws,
    judge_steps: Annotated[
        int, typer.Option(help="Of the judge's training.")
    ] = Options.judge_steps,
    seed: Annotated[int, typer.Option(help="Of everything.", min=0)] = 0,
) -> None:
    from rich.console import Console

    from benchmarks.image_gpt_comparison import compare
    from benchmarks.image_gpt_training import Stopped
    from taming.console import errors_in_a_sentence, progress_bar, without_advice

    without_advice()
    options = Options(
        data=data,
        out=out,
        minutes=minutes,
        run=run,
        size=size,
        pictures=pictures,
        shown=shown,
        steps=steps,
        guidance=guidance,
        top_k=top_k,
        judge_draws=judge_draws,
        judge_steps=judge_steps,
        seed=seed,
        image_gpt={
            "width": width,
            "layers": layers,
            "heads": heads,
            "colours": colours,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
        },
        first_stage=tuple(first_stage or ()),
        second_stage=tuple(second_stage or ()),
    )
    console = Console(highlight=False)
    try:
        with errors_in_a_sentence("image_gpt"):
            report = compare(options, progress_bar)
    except Stopped as stopped:
        console.print("stopped and saved; the same command goes on")
        raise typer.Exit(1) from stopped
    console.print(f"done: [bold]{report}", soft_wrap=True)


def paragraphs(text: str) -> str:
    """For the terminal, which breaks lines anew but for those of commands."""
    return "\n\n".join(
        f"\b\n{part}" if part.startswith(" ") else " ".join(part.split())
        for part in text.split("\n\n")
    )


if __name__ == "__main__":
    # Before torch is imported: threads that wait actively starve those that work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    app = typer.Typer(rich_markup_mode=None, add_completion=False)
    app.command(help=paragraphs(__doc__ or ""))(make)
    app(prog_name="python -m benchmarks.image_gpt")
