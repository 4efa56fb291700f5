"""Time against the size of a picture and the number of pictures, a panel for each kind of work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Curve
from taming.checkpoint import atomic_write


def panels(curves: Sequence[Curve]) -> dict[tuple[str, str], list[Curve]]:
    """Curves that share work and abscissa share a panel, in the order they came."""
    found: dict[tuple[str, str], list[Curve]] = {}
    for curve in curves:
        found.setdefault((curve.work, curve.against), []).append(curve)
    return found


def draw(curves: Sequence[Curve], out: Path) -> None:
    """Both axes are logarithmic: straight lines of slope one are times that grow in proportion."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError('the figure needs matplotlib: pip install "taming[eval]"') from error
    matplotlib.use("agg")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    grouped = panels(curves)
    columns = min(3, len(grouped))
    lines = -(-len(grouped) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flatten()
    for axis, ((work, against), members) in zip(axes, grouped.items(), strict=False):
        ticks = sorted({x for curve in members for x in curve.x})
        for curve in members:
            axis.plot(curve.x, curve.seconds, marker="o", markersize=3, label=curve.side)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(ticks)
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for which in (axis.xaxis, axis.yaxis):
            which.set_minor_locator(NullLocator())
            which.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_title(work, fontsize=9)
        axis.set_xlabel(against, fontsize=8)
        axis.set_ylabel("seconds", fontsize=8)
        axis.tick_params(labelsize=7, which="both")
        axis.grid(alpha=0.25)
        axis.legend(fontsize=7)
    for axis in axes[len(grouped) :]:
        axis.set_visible(False)
    with atomic_write(out) as partial:
        figure.savefig(partial, dpi=110, format="png")
