"""Numbers for people and for programs: tables and progress on the terminal, JSON in a file."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from taming.checkpoint import atomic_write

Track = Callable[[str], Callable[[int, int], None]]  # what is done -> (done, in all)


def silent(what: str) -> Callable[[int, int], None]:
    """A `Track` that shows nothing."""
    return lambda done, places: None


@contextmanager
def progress_bars() -> Iterator[Track]:
    """A `Track` with one bar, and the time left, for each thing that is done."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:

        def track(what: str) -> Callable[[int, int], None]:
            bar = None

            def update(done: int, places: int) -> None:
                nonlocal bar
                bar = bars.add_task(what) if bar is None else bar
                bars.update(bar, completed=done, total=places)

            return update

        yield track


def print_table(
    title: str, rows: Mapping[str, Mapping[str, float | None]], marked: str | None = None
) -> None:
    """Rows of numbers under the names of their columns; None is a dash, `marked` a row in bold."""
    table = Table(title=title, title_justify="left")
    columns = list(next(iter(rows.values())))
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        cells = ["-" if row[c] is None else f"{row[c]:.4g}" for c in columns]
        table.add_row(name, *cells, style="bold" if name == marked else None)
    Console().print(table)


def write_json(report: Mapping[str, Any], path: Path) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
