"""Commands that train, and what prepares training.

Each turns its words into one call of `taming.training`; settings are words with '=' in them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from taming.cli_options import Device, Words
from taming.console import progress_bar

app = typer.Typer()  # its commands are merged into those of cli.py


@app.command()
def train(
    words: Words = None,
    name: Annotated[
        str | None, Option(help="Name of the run directory, instead of the config's.")
    ] = None,
    resume: Annotated[
        Path | None, Option(help="Run directory to go on with, exactly where it stopped.")
    ] = None,
    dry_run: Annotated[
        bool,
        Option("--dry-run", help="Show the resolved config and all sizes; train nothing."),
    ] = False,
) -> None:
    """Trains either stage from a YAML file.

    Words of the original's main.py (--base, -t, --gpus, ...) are understood.

    \b
    Example: both stages, with a setting changed, then go on with a stopped run.
      taming train mine_tokenizer.yaml
      taming train mine.yaml data.params.batch_size=16 --name small
      taming train --resume runs/small
    """
    config = read_config(words, resume)
    from taming.training import is_first_process
    from taming.training import train as run

    folder = run(config, resume=resume, dry_run=dry_run, name=name)
    if is_first_process():
        print(folder)


@app.command()
def encode(
    words: Words = None,
    out: Annotated[Path | None, Option("--out", "-o", help="Folder of the shards.")] = None,
    device: Device = "auto",
) -> None:
    """Writes the codes that second-stage training reads.

    Training does this by itself where they are missing; on a cluster, do it once beforehand.

    \b
    Example:
      taming encode mine.yaml --out cache/mine
      taming train mine.yaml data.params.codes.cache=cache/mine
    """
    config = read_config(words)
    from taming.training import encode as encode_sets

    with progress_bar("encoding") as progress:
        print(encode_sets(config, out, progress, device))


def read_config(words: Iterable[str] | None, resume: Path | None = None) -> Any:
    """The merged configuration of the words: YAML files, and settings with '=' in them."""
    from taming.config import load_config

    given = list(words or [])
    files = [word for word in given if "=" not in word]
    settings = [word for word in given if "=" in word]
    if not files and resume is None:
        raise ValueError("no configuration given: name a YAML file, such as mine.yaml")
    config = load_config(files, settings)  # what is resumed has a config of its own below
    if files and resume is None:
        config.setdefault("name", Path(files[0]).stem)
    return config
