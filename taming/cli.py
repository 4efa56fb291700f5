"""The command line: words -> calls.

Each command turns its words into one call of the library and saves what comes back; nothing is
computed here. The commands stand by subject in cli_train, cli_paint and cli_data. PyTorch is
imported inside the commands, so that `taming --help` answers at once.
What a user can mend (a wrong path, an unknown key, a full disk, a missing extra) is one sentence on
standard error and exit code 2; TAMING_TRACEBACK=1 shows where it arose.
"""

import logging
import os
import sys
from collections.abc import Sequence
from logging import WARNING
from typing import Annotated

import typer
from typer import Option

import taming
from taming import cli_data, cli_evaluate, cli_paint, cli_train
from taming.cli_old_words import modern_words
from taming.console import without_advice

logger = logging.getLogger(__name__)

TRACEBACK_VARIABLE = "TAMING_TRACEBACK"

app = typer.Typer(
    name="taming",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def main(words: Sequence[str] | None = None) -> None:
    """Runs the command line; always ends in SystemExit."""
    # Set before torch is imported: threads that wait actively starve each other (many times slower
    # as soon as another program wants a core).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        modern = modern_words(sys.argv[1:] if words is None else words)
        app(args=modern.words, prog_name="taming", obj=modern.notes)
    except Exception as error:
        is_broken = others_broke(error)
        is_ours = is_broken or isinstance(error, (ValueError, OSError, ImportError))
        if not is_ours or os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            raise
        text = sentence(error)
        if is_broken and "taming doctor" not in text:
            text += "; other packages broke this installation: see taming doctor"
        print(f"taming: {text}", file=sys.stderr)
        sys.exit(2)


def others_broke(error: Exception) -> bool:
    """Whether it comes of a torchvision for another PyTorch, or of files laid over ours."""
    return "torchvision::" in str(error) or not hasattr(taming, "__version__")


def sentence(error: Exception) -> str:
    """The message of an error on one line; the system's own errors begin with the file."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def show_version(asked: bool) -> None:
    if asked:
        print(taming.__version__)
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, Option("--version", help="Show the version.", is_eager=True, callback=show_version)
    ] = False,
    quiet: Annotated[bool, Option("--quiet", "-q", help="Only warnings.")] = False,
) -> None:
    """Trains on your own pictures, and paints from depth, labels, poses, words and fragments."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.name.startswith("taming") or record.levelno >= WARNING)
    logging.basicConfig(
        level=WARNING if quiet else logging.INFO, format="%(message)s", handlers=[handler]
    )
    without_advice()
    for note in context.obj or []:  # of words that are spelt otherwise today
        logger.info(note)


for commands in (cli_train.app, cli_paint.app, cli_evaluate.app, cli_data.app):
    app.add_typer(commands)


if __name__ == "__main__":
    main()
