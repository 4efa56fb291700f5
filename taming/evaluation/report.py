"""Numbers for people and for programs: a table on the terminal, JSON in a file."""

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from taming.checkpoint import atomic_write

# What is done -> a context that gives what is called with (done, in all): `console.progress_bar`.
Track = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


def silent(what: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """A `Track` that shows nothing."""
    return nullcontext(lambda done, places: None)


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
