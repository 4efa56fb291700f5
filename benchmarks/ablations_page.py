"""A report of ablations as text: a table of the variants, then the tables of each question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.ablations_variants import NAMED
from taming.training.codes import ORDER_KINDS


def markdown(report: Mapping[str, Any]) -> str:
    settings = report["settings"]
    lines = [
        "# Ablations",
        "",
        f"{settings['minutes']:g} minutes for each second stage, "
        f"{settings['first_stage_minutes']:g} for each first stage, on "
        f"{report['machine']['processor']} ({report['machine']['cores']} cores); "
        f"{report['held out']} held-out pictures of {report['data']}, {settings['size']} px. "
        "± is the standard error over these pictures; a difference is from the first line of its "
        "table, picture by picture.",
        "",
        *_table(
            ("variant", "what is changed", "parameters", "examples", "examples/s",
             "s a picture, 1 at once", "s a picture, 16 at once"),
            [_variant_cells(told) for told in report["variants"].values()],
            words=2,
        ),
    ]  # fmt: skip
    for question in report["questions"]:
        lines += ["", f"## {question['title']}"]
        for table in question["tables"]:
            counts = table["examples"]
            seen = ", ".join(f"{NAMED[name].title} {count:,}" for name, count in counts.items())
            lines += ["", f"### {question['title']}: {table['moment']}", "", f"Examples: {seen}."]
            if "kept" in table:
                lines += ["", *_kept_table(table["kept"])]
            else:
                lines += ["", "Nats per code, the lower the better, by kind of order:", ""]
                lines += _nats_table(table["nats"])
                lines += ["", "Obedience, higher is better but for RMSE:", ""]
                lines += _obedience_table(table["obedience"])
    lines += ["", "## What these numbers cannot tell", ""]
    lines += [f"- {text}" for text in report["cannot tell"]]
    if report["not trained"]:
        lines += ["", f"Not trained: {', '.join(report['not trained'])}."]
    return "\n".join(lines) + "\n"


def _variant_cells(told: Mapping[str, Any]) -> list[str]:
    timed = told["seconds a picture"]
    together = [
        ", ".join(f"{seconds[key]:.3f} ({sampling})" for sampling, seconds in timed.items()) or "-"
        for key in ("alone", "together")
    ]
    numbers = [f"{told['parameters']:,}", f"{told['examples']:,}"]
    return [told["title"], told["what"], *numbers, f"{told['examples a second']:.1f}", *together]


def _nats_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in sorted(rows, key=lambda row: [r["given"] for r in rows].index(row["given"])):
        cells.setdefault((row["given"], row["variant"]), {})[row["kind"]] = _told(row)
    lines = [
        [given, NAMED[name].title, *(kinds.get(kind, "-") for kind in ORDER_KINDS)]
        for (given, name), kinds in cells.items()
    ]
    return _table(("given", "variant", *ORDER_KINDS), lines, words=2)


def _obedience_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    order = list(dict.fromkeys((row["task"], row["measure"]) for row in rows))
    lines = [
        [
            row["task"], row["measure"], NAMED[row["variant"]].title, row["sampling"],
            *(f"{row[key]:.3f}" for key in ("reconstructed", "sampled", "shuffled")),
            f"{row['error']:.3f}", _difference(row) or "-",
        ]
        for row in sorted(rows, key=lambda row: order.index((row["task"], row["measure"])))
    ]  # fmt: skip
    heads = ("asked", "measure", "variant", "sampled by", "reconstructed", "sampled", "shuffled")
    return _table((*heads, "±", "difference"), lines, words=4)


def _kept_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    measures = list(dict.fromkeys(row["measure"] for row in rows))
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row["variant"], {})[row["measure"]] = _told(row)
    lines = [
        [NAMED[name].title, *(found.get(measure, "-") for measure in measures)]
        for name, found in cells.items()
    ]
    return _table(("first stage", *measures), lines)


def _told(row: Mapping[str, Any]) -> str:
    """4.312 ± 0.021 (+0.104 ± 0.010)"""
    if row.get("error") is None:
        return f"{row['mean']:.3f}"
    difference = _difference(row)
    return f"{row['mean']:.3f} ± {row['error']:.3f}" + (f" ({difference})" if difference else "")


def _difference(row: Mapping[str, Any]) -> str:
    if row.get("difference") is None:
        return ""
    return f"{row['difference']:+.3f} ± {row['difference_error']:.3f}"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]], words: int = 1) -> list[str]:
    """Markdown; the first columns are words, all others numbers."""
    marks = ["---"] * words + ["--:"] * (len(heads) - words)
    return [f"| {' | '.join(line)} |" for line in (heads, marks, *lines)]
