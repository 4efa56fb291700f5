"""How long a program waits before it can begin: whole processes, interpreter included."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

from benchmarks.harness import ROOT, Context, Row

HELP = "import sys; sys.argv = ['taming', '--help']; from taming.cli import main; main()"


def program(text: str) -> Callable[[], object]:
    command = [sys.executable, "-c", text]
    return lambda: subprocess.run(command, cwd=ROOT, capture_output=True, check=True)


def rows(context: Context) -> Iterator[Row]:
    pairs = (
        ("import taming", "import taming", "import torch", 5.0),
        ("taming --help", HELP, "import typer, rich.console, rich.table, rich.panel", 0.5),
    )
    for name, ours, theirs, reach in pairs:
        context.report(name)
        taken = context.paired(program(ours), program(theirs), repeats=5)
        yield Row(
            name=name,
            **taken.columns(1e3),
            against=theirs.split(",")[0] if "typer" not in theirs else "import typer and rich",
            unit="ms",
            reach=reach,
        )
