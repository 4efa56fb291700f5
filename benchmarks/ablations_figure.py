"""A report of ablations as pictures: curves and bars of each question, and a sheet of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablations_meter import Meter, Trained
from benchmarks.ablations_variants import (
    HEADLINES,
    NAMED,
    QUESTIONS,
    VARIANTS,
    Entry,
)
from taming.checkpoint import atomic_write
from taming.evaluation.figures import Picture, sample_sheet

LINES = ("-", "--", ":")  # of several curves of one variant
SHOWN, WIDTH = 8, 128  # records on the sheet, and pixels of each, which its title needs
COLOURS = dict(  # matplotlib's ten, and as many more as there are variants
    zip((v.name for v in VARIANTS), (*(f"C{n}" for n in range(10)), "black", "grey"), strict=True)
)


def draw(report: Mapping[str, Any], out: Path) -> None:
    """A column for each question: above, what was learned when; below, what came of it."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError('the figure needs matplotlib: pip install "taming[eval]"') from error
    matplotlib.use("agg")
    from matplotlib.figure import Figure

    questions = report["questions"]
    columns = max(1, len(questions))
    figure = Figure(figsize=(4.6 * columns, 7.6), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    for column, question in enumerate(questions):
        _draw_curves(axes[0][column], question)
        table = question["tables"][0]
        if "kept" in table:
            _draw_codebooks(axes[1][column], table["kept"], report["codebook_size"])
        else:
            _draw_obedience(axes[1][column], table["obedience"])
    for axis in axes.flatten():
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
        axis.set_axisbelow(True)
    with atomic_write(out) as partial:
        figure.savefig(partial, dpi=110, format="png")


def _draw_curves(axis: Any, question: Mapping[str, Any]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    whats = list(dict.fromkeys(curve["what"] for curve in question["curves"]))
    for curve in question["curves"]:
        points = curve["points"]
        minutes = [point["minutes"] for point in points]
        mean = np.array([point["mean"] for point in points])
        error = np.array([point["error"] for point in points])
        colour, title = COLOURS[curve["variant"]], NAMED[curve["variant"]].title
        label = f"{title}: {curve['what']}" if len(whats) > 1 else title
        line = LINES[whats.index(curve["what"]) % len(LINES)]
        axis.plot(minutes, mean, line, color=colour, marker="o", markersize=2.5, label=label)
        axis.fill_between(minutes, mean - error, mean + error, color=colour, alpha=0.15, lw=0)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel("minutes of training", fontsize=8)
    is_nats = question["name"] != "codebook"
    unit = "nats per code" if is_nats else whats[0]
    axis.set_ylabel(unit if len(whats) > 1 or not is_nats else f"{unit}, {whats[0]}", fontsize=8)
    axis.set_title(question["title"], fontsize=10)
    axis.legend(fontsize=7)


def _draw_obedience(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    """Bars with their errors; lines for reconstructions and for samples under other conditions."""
    shown = [row for row in rows if row["measure"] == HEADLINES[row["task"]]]
    tasks = list(dict.fromkeys(row["task"] for row in shown))
    entries = list(dict.fromkeys((row["variant"], row["sampling"]) for row in shown))
    width = 0.8 / max(1, len(entries))
    for number, (variant, sampling) in enumerate(entries):
        own = [row for row in shown if (row["variant"], row["sampling"]) == (variant, sampling)]
        places = [tasks.index(row["task"]) + (number + 0.5) * width - 0.4 for row in own]
        axis.bar(
            places,
            [row["sampled"] for row in own],
            0.9 * width,
            yerr=[row["error"] for row in own],
            color=COLOURS[variant],
            alpha=0.55 if entries[0][0] == variant and number else 0.9,
            label=Entry(variant, sampling).title,
            error_kw={"lw": 1},
        )
    for place, task in enumerate(tasks):
        first = next(row for row in shown if row["task"] == task)
        for key, line in (("reconstructed", "--"), ("shuffled", ":")):
            label = key if place == 0 else None
            axis.plot(
                [place - 0.45, place + 0.45], [first[key]] * 2, line, color="0.3", label=label
            )
    names = [f"{task}:\n{HEADLINES[task]}" for task in tasks]
    axis.set_xticks(range(len(tasks)), names)
    axis.set_ylabel("obedience, as judges see it", fontsize=8)
    axis.margins(y=0.35)  # room for the legend
    axis.legend(fontsize=7, loc="upper center", ncols=2)


def _draw_codebooks(axis: Any, rows: Sequence[Mapping[str, Any]], codebook_size: int) -> None:
    """Usage, and perplexity as a share of the codebook: 1 is as varied as can be."""
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    whole = {(row["variant"], row["measure"]): row["mean"] for row in rows}
    width = 0.8 / len(variants)
    parts = {"codebook usage": 1.0, "perplexity": 1.0 / codebook_size}
    for number, name in enumerate(variants):
        places = [place + (number + 0.5) * width - 0.4 for place in range(len(parts))]
        heights = [whole[name, measure] * scale for measure, scale in parts.items()]
        bars = axis.bar(places, heights, 0.9 * width, color=COLOURS[name], label=NAMED[name].title)
        axis.bar_label(bars, fmt="%.2f", fontsize=7)
    axis.set_xticks(range(len(parts)), ["usage", f"perplexity / {codebook_size}"])
    axis.set_ylabel("share of the codebook", fontsize=8)
    axis.margins(y=0.35)
    axis.legend(fontsize=7, loc="upper center")


def draw_sheet(trained: Mapping[str, Trained], meter: Meter, out: Path, task: str) -> None:
    """The same held-out conditions, painted by every variant that knows them, with equal seeds."""
    asked = [
        entry
        for entry in dict.fromkeys(entry for q in QUESTIONS for entry in q.entries)
        if entry.variant in trained and entry.sampling
        if task in trained[entry.variant].variant.conditions
    ]
    if not asked:
        return
    first = trained[asked[0].variant]
    subject, held = meter.subject(first)
    records = meter.records(first, task)[:SHOWN]
    condition = subject.conditions[task]
    columns: dict[str, list[Any]] = {
        f"{task}": [condition.show(record.values[task], held.size) for record in records],
        "true": [record.picture for record in records],
        "reconstructed": meter.reconstructed(first, task)[:SHOWN],
    }
    for entry in asked:
        own = trained[entry.variant]
        painted = meter.painted(own, own.end, task, entry.sampling)
        columns[entry.title] = painted[:SHOWN]
    rows = [[_enlarged(picture) for picture in row] for row in zip(*columns.values(), strict=True)]
    sheet = sample_sheet(rows, list(columns), columns=1)
    with atomic_write(out) as partial:
        sheet.save(partial, format="PNG")


def _enlarged(picture: Any) -> Picture:
    pixels = np.asarray(picture, dtype=np.uint8)
    times = -(-WIDTH // pixels.shape[1])
    return pixels.repeat(times, axis=0).repeat(times, axis=1)
