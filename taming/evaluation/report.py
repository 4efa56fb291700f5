"""Numbers for people and for programs: rows of four columns, a table, JSON and Markdown.

Every row has the same columns: of true pictures, of pictures reconstructed through the codebook, of
samples, and of samples under the condition of another record. None is a dash: it means nothing
there. `reach` is what was aimed at, `met` whether the numbers of the row reach it.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from taming.checkpoint import atomic_write

# What is done -> a context that gives what is called with (done, in all): `console.progress_bar`.
Track = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]

COLUMNS = ("true", "reconstructed", "sampled", "shuffled")


def silent(what: str) -> AbstractContextManager[Callable[[int, int], None]]:
    """A `Track` that shows nothing."""
    return nullcontext(lambda done, places: None)


@dataclass(frozen=True)
class Row:
    """One measure of one task on one set."""

    set: str
    task: str
    measure: str
    true: float | None = None
    reconstructed: float | None = None
    sampled: float | None = None
    shuffled: float | None = None
    reach: str | None = None
    met: bool | None = None
    pictures: int | None = None  # behind each number; in the stage `steps`, those of one draw

    @classmethod
    def of(
        cls, set_name: str, task: str, measure: str, columns: Mapping[str, float | None]
    ) -> "Row":
        """A row of the columns that there are; NaN, what nothing was counted for, is none."""
        strangers = set(columns) - set(COLUMNS)
        assert not strangers, strangers
        known = {name: x for name, x in columns.items() if x is not None and not math.isnan(x)}
        true, reconstructed, sampled, shuffled = (known.get(column) for column in COLUMNS)
        return cls(set_name, task, measure, true, reconstructed, sampled, shuffled)

    @property
    def name(self) -> str:
        return f"{self.set}, {self.task}: {self.measure}"

    def as_json(self) -> dict[str, Any]:
        """Its name first; what is no number is null, as JSON has it."""
        told = {"name": self.name, **asdict(self)}
        for column in COLUMNS:
            value = told[column]
            told[column] = None if value is None or not math.isfinite(value) else float(value)
        return told


def rows_from(entries: Sequence[Mapping[str, Any]]) -> list[Row]:
    """What `Row.as_json` gave."""
    return [Row(**{key: value for key, value in e.items() if key != "name"}) for e in entries]


def cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def verdict(row: Row) -> str:
    """The reach and whether it is met, in a few words; empty where nothing was aimed at."""
    if row.reach is None:
        return ""
    return f"{row.reach}: {'not known' if row.met is None else 'yes' if row.met else 'NO'}"


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """A table on the terminal; a line between sets and tasks."""
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    table.add_column("reach")
    before: tuple[str, str] | None = None
    for row in rows:
        if before not in (None, (row.set, row.task)):
            table.add_section()
        before = (row.set, row.task)
        colour = {None: None, True: "green", False: "red"}[row.met]
        numbers = [cell(getattr(row, column)) for column in COLUMNS]
        table.add_row(row.name, *numbers, verdict(row), style=colour)
    Console().print(table)


def markdown(
    title: str, facts: Mapping[str, Any], rows: Sequence[Row], notes: Sequence[str]
) -> str:
    """The whole report as text."""
    lines = [f"# {title}", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", f"| measure | {' | '.join(COLUMNS)} | reach |", "|---|--:|--:|--:|--:|---|"]
    for row in rows:
        numbers = " | ".join(cell(getattr(row, column)) for column in COLUMNS)
        lines.append(f"| {row.name} | {numbers} | {verdict(row)} |")
    if notes:
        lines += ["", "Notes:", "", *(f"- {note}" for note in notes)]
    return "\n".join(lines) + "\n"


def write_json(report: Mapping[str, Any], path: Path) -> None:
    write_text(json.dumps(report, indent=2) + "\n", path)


def write_text(text: str, path: Path) -> None:
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")
