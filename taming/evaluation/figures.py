"""Pictures of results: sheets of samples beside conditions and truths, and curves of a run."""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from taming.checkpoint import atomic_write

Picture = NDArray[np.uint8]  # (H, W, 3)

GAP, HEADING = 4, 16  # pixels
PAPER, INK = (255, 255, 255), (40, 40, 40)
LEFT_OUT = ("learning_rate",)  # of the curves


def sample_sheet(
    rows: Sequence[Sequence[Picture]], titles: Sequence[str], columns: int = 3
) -> Image.Image:
    """Records side by side, `columns` a line; each is the pictures of a row under their titles."""
    if not rows or any(len(row) != len(titles) for row in rows):
        raise ValueError(f"{[len(row) for row in rows]} pictures in rows of {len(titles)} titles")
    height, width = rows[0][0].shape[:2]
    wide, high = len(titles) * (width + GAP) + 2 * GAP, height + GAP
    lines = -(-len(rows) // columns)
    columns = min(columns, len(rows))
    sheet = Image.new("RGB", (columns * wide, HEADING + lines * high), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, row in enumerate(rows):
        left, top = (number % columns) * wide, HEADING + (number // columns) * high
        for place, (title, picture) in enumerate(zip(titles, row, strict=True)):
            x = left + place * (width + GAP)
            if number < columns:
                draw.text((x, 1), title, fill=INK, font=font)
            sheet.paste(Image.fromarray(picture), (x, top))
    return sheet


def read_history(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Points (step, value) of each number in the `history.csv` of a run.

    A line that was cut off, as by a disk that was full, is passed over.
    """
    points: dict[str, list[tuple[int, float]]] = defaultdict(list)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            try:
                point = int(row["step"]), float(row["value"])
            except (TypeError, ValueError):
                continue
            points[row["name"]].append(point)
    return dict(points)


def draw_curves(history: Path, out: Path) -> None:
    """One panel for each number of a run; training and validation share a panel."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError('curves need matplotlib: pip install "taming[eval]"') from error
    matplotlib.use("agg")
    from matplotlib.figure import Figure

    panels = grouped(read_history(history))
    columns = min(3, max(1, len(panels)))
    lines = max(1, -(-len(panels) // columns))
    figure = Figure(figsize=(4.2 * columns, 2.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis, (title, curves) in zip(axes, panels.items(), strict=False):
        for name, points in curves.items():
            axis.plot(*zip(*points, strict=True), label=name, linewidth=1.2)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("steps", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
        if len(curves) > 1:
            axis.legend(fontsize=7)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    with atomic_write(out) as partial:
        figure.savefig(partial, dpi=110)


def grouped(
    points: Mapping[str, list[tuple[int, float]]],
) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Panel "loss" of "train/loss" and "validation/loss"; what never changes is left out."""
    panels: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(dict)
    for name, curve in sorted(points.items()):
        part, _, title = name.partition("/")
        is_constant = len(curve) > 1 and len({value for _, value in curve}) == 1
        if name not in LEFT_OUT and not is_constant:
            panels[title or part][part if title else name] = curve
    return dict(panels)
