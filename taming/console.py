"""What programs say on the terminal: progress and errors. Knows nothing of the work."""

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

SECONDS_A_LINE = 60.0  # of progress, where there is no terminal


@contextmanager
def errors_in_a_sentence(program: str) -> Iterator[None]:
    """What a user can mend ends a program in one line and with code 2, without a traceback."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        print(f"{program}: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def without_advice() -> None:
    """Lightning's advice is for authors of trainers; what it finds odd is done on purpose."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error with rate and time left; to be called with (done, in all).

    Where standard error is no terminal, but a log, it is a line a minute.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    lines = ProgressLines(text)
    if not console.is_terminal:
        yield lines.update
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(text, total=None, rate="")
        yield lambda done, total: bar.update(
            task, completed=done, total=total, rate=f"{lines.rate(done):.3g}/s"
        )


class ProgressLines:
    """Progress as lines of a log."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.started = self.told = time.monotonic()

    def rate(self, done: int) -> float:
        """How much is done in a second."""
        return done / max(time.monotonic() - self.started, 1e-9)

    def update(self, done: int, total: int) -> None:
        """Tell how far the work is, unless that was told a moment ago."""
        now = time.monotonic()
        if done <= 0 or now - self.told < SECONDS_A_LINE:
            return
        self.told = now
        left = timedelta(seconds=round((total - done) / self.rate(done)))
        print(
            f"{self.text}: {done:,} of {total:,}, {self.rate(done):.3g} a second, {left} left",
            file=sys.stderr,
            flush=True,
        )
