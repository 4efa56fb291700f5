"""Rows -> a table on the terminal, a table in a page between two markers, and JSON.

Knows nothing of how rows are measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from rich.table import Table

from benchmarks.harness import Row

BEGIN, END = "<!-- table -->", "<!-- end of table -->"
SHOWN = "![time against the size of a picture and the number of pictures](figures/benchmarks.png)"
HEADINGS = ("what", "ours", "compared with", "ratio", "reach", "met", "floor", "memory")
ABSENT = "-"


def number(value: float | None) -> str:
    """Three digits, no exponent: 1234.5 -> 1,235."""
    if value is None:
        return ABSENT
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def quantity(value: float | None, unit: str) -> str:
    return ABSENT if value is None else f"{number(value)} {unit}".rstrip()


def ratio(row: Row) -> str:
    """1.52 (1.48 to 1.55): the median, and the quartiles over the pairs."""
    if row.ratio is None or row.spread is None:
        return number(row.ratio)
    return f"{number(row.ratio)} ({number(row.spread[0])} to {number(row.spread[1])})"


def verdict(row: Row) -> str:
    return {None: ABSENT, True: "yes", False: "no"}[row.met]


def cells(row: Row) -> tuple[str, ...]:
    """One for each of `HEADINGS`."""
    compared = ABSENT
    if row.peer is not None:
        compared = f"{quantity(row.peer, row.unit)}, {row.against}"
    elif row.ratio is not None:
        compared = row.against
    return (
        row.name,
        quantity(row.ours, row.unit),
        compared,
        ratio(row),
        number(row.reach),
        verdict(row),
        quantity(row.floor, row.unit),
        quantity(row.memory, "MiB"),
    )


def line(row: Row) -> str:
    """A row in one line, for while it is being measured."""
    found = f"{row.name}: {quantity(row.ours, row.unit)}, ratio {ratio(row)}"
    return found if row.reach is None else f"{found}, reach {number(row.reach)}"


def setting(content: dict[str, Any]) -> str:
    """On what the rows of a `latest.json` were measured."""
    machine, versions, floors = content["machine"], content["versions"], content["floors"]
    units = ", ".join(machine["units"]) or "no wide units"
    rates = ", ".join(f"{name} {number(value)}" for name, value in floors.items())
    return (
        f"{machine['processor']}, {content['threads']} threads ({units}), "
        f"{machine['memory GiB']} GiB; torch {versions['torch']}; {rates}; "
        f"{number(content['minutes'])} minutes in all"
    )


def summary(rows: Sequence[Row]) -> str:
    aimed = [row for row in rows if row.met is not None]
    return f"{sum(bool(row.met) for row in aimed)} of {len(aimed)} rows reach their line"


def terminal_table(rows: Sequence[Row]) -> Table:
    table = Table(title="ratio = what ours is compared with / ours: bigger is better", leading=0)
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in ("what", "met") else "right")
    colours = {None: "", True: "green", False: "red"}
    for row in rows:
        *first, met, floor, memory = cells(row)
        colour = colours[row.met]
        table.add_row(*first, f"[{colour}]{met}[/]" if colour else met, floor, memory)
    return table


def page_table(rows: Sequence[Row]) -> str:
    """Markdown: the table, and below it what is to be said about its rows."""
    lines = [
        "| " + " | ".join(HEADINGS) + " |",
        "|---|--:|--:|--:|--:|:-:|--:|--:|",
        *(
            "| " + " | ".join(cell.replace("|", r"\|") for cell in cells(row)) + " |"
            for row in rows
        ),
    ]
    notes = [f"- *{row.name}*: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, "", f"{summary(rows)}.", *([""] if notes else []), *notes])


def rewrite(page: str, text: str) -> str:
    """The page with the text between its markers; ValueError where it does not have both."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page needs {BEGIN} and, after it, {END}")
    return f"{before}{BEGIN}\n{text.strip()}\n{END}{after}"


def to_json(rows: Sequence[Row], **about: Any) -> dict[str, Any]:
    """What `latest.json` holds; `about` says on what machine and with which versions."""
    return {**about, "rows": [{**asdict(row), "met": row.met} for row in rows]}


def from_json(content: dict[str, Any]) -> list[Row]:
    names = {field.name for field in fields(Row)}
    rows = [{key: row[key] for key in names & row.keys()} for row in content["rows"]]
    return [Row(**{**row, "spread": row["spread"] and tuple(row["spread"])}) for row in rows]
