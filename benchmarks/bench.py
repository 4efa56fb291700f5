"""Ours, the original, and what the machine could do: one table.

    python -m benchmarks.bench [--only decode] [--quick] [--whole]

Runs every module of rows, prints the table, and, if all of them were run in full, records it:
`benchmarks/latest.json`, the figure and the table of `docs/performance.md`. Nothing else should run
meanwhile. The exit code is 1 where a module could not be measured, 0 even where a line is missed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
MODULES = (*sorted(path.stem for path in HERE.glob("rows_*.py")), "scaling")
LATEST = HERE / "latest.json"
PAGE = HERE.parent / "docs" / "performance.md"
FIGURE = HERE.parent / "docs" / "figures" / "benchmarks.png"
WAITING = "OMP_WAIT_POLICY"  # of threads: active ones starve whoever else wants their core


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [name.removeprefix("rows_") for name in MODULES]
    parser.add_argument("--only", action="append", choices=names, help="these modules, unrecorded")
    parser.add_argument("--quick", action="store_true", help="few repeats, unrecorded")
    parser.add_argument(
        "--whole", action="store_true", help="run the original's sampler whole, too: minutes more"
    )
    return parser.parse_args(words)


def measure(
    names: Sequence[str], is_quick: bool, is_whole: bool = False
) -> tuple[dict[str, Any], list[str]]:
    """What `latest.json` holds, and the modules that failed."""
    from rich.console import Console

    from benchmarks import report
    from benchmarks.harness import Context, Curve, Row
    from benchmarks.machine import machine, versions

    console = Console(stderr=True, highlight=False)
    rows: list[Row] = []
    curves: list[Curve] = []
    failed: list[str] = []
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        Context(Path(folder), quick=is_quick, whole=is_whole) as context,
    ):

        def told(text: str) -> None:
            console.print(f"[dim]{time.monotonic() - began:5.0f} s  {text}[/]", soft_wrap=True)

        context.report = told
        for name in names:
            try:
                module = importlib.import_module(f"benchmarks.{name}")
                if hasattr(module, "curves"):
                    curves += module.curves(context)
                    continue
                for row in module.rows(context):
                    rows.append(row)
                    told(": ".join(part for part in (report.line(row), row.note) if part))
            except Exception:  # the rows of other modules are not lost
                logging.getLogger(__name__).exception("%s cannot be measured", name)
                failed.append(name)
        about = {
            "machine": machine(),
            "versions": versions(),
            "threads": context.threads,
            "minutes": round((time.monotonic() - began) / 60, 1),
            "floors": context.floors.summary(),
            "curves": [curve._asdict() for curve in curves],
        }
    return report.to_json(rows, **about), failed


def record(content: dict[str, Any]) -> None:
    """The file, the figure, and the table of the page."""
    from benchmarks import plot, report
    from benchmarks.harness import Curve
    from taming.checkpoint import atomic_write

    with atomic_write(LATEST) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    plot.draw([Curve(**curve) for curve in content["curves"]], FIGURE)
    table = report.page_table(report.from_json(content))
    text = f"{report.setting(content)}\n\n{table}\n\n{report.SHOWN}"
    page = report.rewrite(PAGE.read_text("utf-8"), text)
    with atomic_write(PAGE) as partial:
        partial.write_text(page, "utf-8")


def main(words: Sequence[str]) -> int:
    wanted = parse(words)
    if os.environ.get(WAITING) != "passive":  # read when torch is imported, by both sides
        os.environ[WAITING] = "passive"
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.bench", *words])
    from rich.console import Console

    from benchmarks import report

    names = [
        name for name in MODULES if not wanted.only or name.removeprefix("rows_") in wanted.only
    ]
    content, failed = measure(names, wanted.quick, wanted.whole)
    console = Console(width=None if sys.stdout.isatty() else 180)
    rows = report.from_json(content)
    console.print(report.terminal_table(rows))
    for row in rows:
        if row.note:
            console.print(f"{row.name}: {row.note}", highlight=False)
    console.print(f"{report.summary(rows)}; {report.setting(content)}", highlight=False)
    if failed:
        console.print(f"not measured, and therefore nothing recorded: {', '.join(failed)}")
        return 1
    if not (wanted.only or wanted.quick):
        record(content)
        console.print(f"recorded in {LATEST}, {PAGE} and {FIGURE}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
