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
    if not console.is_terminal:
        yield ProgressLines(text).update
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

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if (speed := bar.tasks[0].speed) is not None:
                bar.update(task, rate=f"{speed:.3g}/s")

        yield show


class ProgressLines:
    """Progress as lines of a log: the rate of each is that since the line before."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.since = (time.monotonic(), sys.maxsize)  # when, and how much was done
        self.done = sys.maxsize

    def update(self, done: int, total: int) -> None:
        """Tell how far the work is, unless that was told, or the work began, a moment ago."""
        now = time.monotonic()
        if done < self.done:  # it begins; what was there before, took no time
            self.since = now, done
        self.done = done
        told, before = self.since
        if done <= before or now - told < SECONDS_A_LINE:
            return
        rate = (done - before) / (now - told)
        left = timedelta(seconds=round((total - done) / rate))
        self.since = now, done
        print(
            f"{self.text}: {done:,} of {total:,}, {rate:.3g} a second, {left} left",
            file=sys.stderr,
            flush=True,
        )
