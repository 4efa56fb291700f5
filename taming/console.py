"""What programs say on the terminal: progress and errors. Knows nothing of the work."""

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
    """A bar on standard error with rate and time left; to be called with (done, in all)."""
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
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
