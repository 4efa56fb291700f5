"""The command that measures a model.

Its words become one call of `taming.evaluation.evaluate`, and its result a table.
"""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from taming.cli_options import Device, parse_size
from taming.console import progress_bar

app = typer.Typer()  # its commands are merged into those of cli.py


@app.command()
def evaluate(
    run: Annotated[str, Argument(metavar="RUN", help="Run directory, checkpoint, or 'bundled'.")],
    out: Annotated[Path, Option("--out", "-o", help="Folder of the report and its pictures.")],
    data: Annotated[
        list[Path] | None,
        Option(help="A paired folder; may be repeated. Without it: the run's sets; scenes where it "
               "names none."),
    ] = None,
    quick: Annotated[bool, Option("--quick", help="Few of everything: only to try it.")] = False,
    only: Annotated[
        str | None,
        Option(metavar="STAGE,...", help="reconstruction, obedience, enlargement, completion, "
               "distribution, steps."),
    ] = None,
    task: Annotated[
        list[str] | None,
        Option(metavar="SET:CONDITION[+CONDITION]", help="Such as rooms:depth+labels; may be "
               "repeated. Without it: all that can be read."),
    ] = None,
    size: Annotated[str | None, Option(metavar="HxW", help="Pixels of all sets.")] = None,
    set_size: Annotated[
        list[str] | None,
        Option(metavar="SET=HxW", help="Of one set, such as people=192x128; may be repeated."),
    ] = None,
    pictures: Annotated[
        int | None, Option(help="Held-out pictures of each set that are used.", min=8)
    ] = None,
    count: Annotated[int | None, Option(help="Pictures painted of each condition.", min=2)] = None,
    paired: Annotated[
        int | None, Option(help="Pictures painted of two conditions together.", min=2)
    ] = None,
    drawn: Annotated[
        int | None, Option(help="Pictures in each draw of the stage steps.", min=2)
    ] = None,
    steps: Annotated[int | None, Option(help="Groups of codes drawn together.", min=1)] = None,
    guidance: Annotated[float | None, Option(help="How strictly to obey.", min=0.0)] = None,
    judges: Annotated[
        Path | None, Option(help="Folder of judges; they are trained where it has none.")
    ] = None,
    judge_steps: Annotated[int | None, Option(help="Training steps of a judge.", min=1)] = None,
    seed: Annotated[int, Option(help="Of choices; record i is painted with seed i.", min=0)] = 0,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Measures a model: what its codes keep, whether it obeys, how true its pictures look.

    Writes report.json, report.md and index.html. A stopped evaluation goes on where it was.

    \b
    Example: the bundled model on scenes rendered on the spot, then a run on a folder of one's own.
      taming evaluate bundled --out results
      taming evaluate runs/rooms --data data/rooms --only reconstruction,obedience --out rooms
    """
    from taming.evaluation import QUICK, STAGES, Plan
    from taming.evaluation import evaluate as run_suite
    from taming.evaluation.report import print_rows, rows_from
    from taming.evaluation.suite import parse_task

    given: dict[str, Any] = {
        "pictures": pictures,
        "count": count,
        "paired": paired,
        "drawn": drawn,
        "steps": steps,
        "guidance": guidance,
        "judge_steps": judge_steps,
    }
    told = {name: value for name, value in given.items() if value is not None}
    report = run_suite(
        run,
        out,
        data=data or (),
        judges=judges,
        plan=replace(QUICK if quick else Plan(), seed=seed, **told),
        only=STAGES if only is None else [word.strip() for word in only.split(",")],
        tasks=None if task is None else [parse_task(text) for text in task],
        size=None if size is None else parse_size(size),
        set_sizes=dict(parse_set_size(text) for text in set_size or ()),
        device=device,
        track=progress_bar,
    )
    print_rows(f"{run}, {report['model'][:12]}", rows_from(report["rows"]))
    for note in report["notes"]:
        print(note)
    print(out / "index.html")


def parse_set_size(text: str) -> tuple[str, tuple[int, int]]:
    """'people=192x128' -> ("people", (192, 128))."""
    name, _, size = text.rpartition("=")
    if not name:
        raise ValueError(f"'{text}': write SET=SIZE, such as people=192x128")
    return name, parse_size(size)
