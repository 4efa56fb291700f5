"""The command line: words -> calls.

Each command turns its words into one call of the library and saves what comes back; nothing is
computed here. PyTorch is imported inside the commands, so that `taming --help` answers at once.
What a user can mend (a wrong path, an unknown key, a full disk, a missing extra) is one sentence on
standard error and exit code 2; TAMING_TRACEBACK=1 shows where it arose.
"""

import logging
import os
import sys
import warnings
from collections.abc import Iterable, Sequence
from logging import WARNING
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

import taming
from taming.cli_options import (
    Device,
    Grid,
    Model,
    Out,
    Precision,
    Words,
    conditions,
    parse_size,
    sampling,
    taking,
)
from taming.console import progress_bar

if TYPE_CHECKING:
    from PIL import Image

    from taming.pipeline import Pipeline

TRACEBACK_VARIABLE = "TAMING_TRACEBACK"
SHEET = 32  # scenes on a contact sheet
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

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
        app(args=None if words is None else list(words), prog_name="taming")
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get(TRACEBACK_VARIABLE, "0") not in ("", "0"):
            raise
        print(f"taming: {sentence(error)}", file=sys.stderr)
        sys.exit(2)


def sentence(error: Exception) -> str:
    """The message of an error on one line; the system's own errors begin with the file."""
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


# --- training -------------------------------------------------------------------------------------


def show_version(asked: bool) -> None:
    if asked:
        print(taming.__version__)
        raise typer.Exit


@app.callback()
def root(
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
    # Lightning's advice is for authors of trainers; what it finds odd is done on purpose.
    warnings.filterwarnings("ignore", module="pytorch_lightning")


def read_config(words: Iterable[str] | None, resume: Path | None = None) -> Any:
    """The merged configuration of the words: YAML files, and settings with '=' in them."""
    from taming.config import load_config

    given = list(words or [])
    files = [word for word in given if "=" not in word]
    settings = [word for word in given if "=" in word]
    if not files:
        if resume is None:
            raise ValueError("no configuration given: name a YAML file, such as mine.yaml")
        files = [str(resume / "config.yaml")]
    return load_config(files, settings)


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

    \b
    Example: both stages, with a setting changed, then go on with a stopped run.
      taming train mine_tokenizer.yaml
      taming train mine.yaml data.params.batch_size=16 --name small
      taming train --resume runs/small
    """
    config = read_config(words, resume)
    from taming.training.run import train as run

    print(run(config, resume=resume, dry_run=dry_run, name=name))


@app.command()
def encode(
    words: Words = None,
    out: Annotated[Path | None, Option("--out", "-o", help="Folder of the shards.")] = None,
) -> None:
    """Writes the codes that second-stage training reads.

    Training does this by itself where they are missing; on a cluster, do it once beforehand.

    \b
    Example:
      taming encode mine.yaml --out cache/mine
      taming train mine.yaml data.params.codes.cache=cache/mine
    """
    config = read_config(words)
    from taming.training.run import encode as encode_sets

    with progress_bar("encoding") as progress:
        print(encode_sets(config, out, progress))


# --- painting -------------------------------------------------------------------------------------


@app.command()
@taking(sampling, conditions)
def paint(
    settings: dict[str, Any],
    model: Model = "bundled",
    device: Device = "cpu",
    precision: Precision = "float32",
    size: Annotated[
        str | None, Option(metavar="HxW", help="Height x width, or as trained.")
    ] = None,
    out: Out = Path("painted"),
    grid: Grid = False,
) -> None:
    """Paints pictures from any combination of conditions, or from none.

    \b
    Example: four streets for one label map, in one file.
      taming paint --model runs/streets --labels street.png \\
          --seeds 0-3 --guidance 3 --grid --out streets.png
    """
    if ("known" in settings) != ("mask" in settings):
        raise ValueError(
            "--known and --mask go together: a picture, and a mask white where it stays"
        )
    if "mask" in settings:
        settings["known"] = (settings["known"], settings.pop("mask"))
    shape = None if size is None else parse_size(size)
    pipeline = open_model(model, device, precision)
    with progress_bar("painting") as progress:
        images = pipeline.paint(size=shape, progress=progress, **settings)
    save(images, settings["seeds"], out, grid)


@app.command()
@taking(sampling, conditions)
def complete(
    settings: dict[str, Any],
    image: Annotated[
        Path, Argument(metavar="IMAGE", help="The picture; --mask is white where it stays.")
    ],
    model: Model = "bundled",
    device: Device = "cpu",
    precision: Precision = "float32",
    out: Out = Path("completed"),
    grid: Grid = False,
) -> None:
    """Paints what is missing in a picture; what is kept stays pixel for pixel.

    \b
    Example: eight ways to fill a hole.
      taming complete photo.png --mask keep.png --model runs/mine \\
          --seeds 0-7 --out completed/
    """
    if "known" in settings or "mask" not in settings:
        raise ValueError(
            "complete takes the picture as IMAGE, and --mask with white where it is kept"
        )
    pipeline = open_model(model, device, precision)
    with progress_bar("completing") as progress:
        images = pipeline.complete(image, progress=progress, **settings)
    save(images, settings["seeds"], out, grid)


@app.command()
@taking(sampling, conditions)
def upscale(
    settings: dict[str, Any],
    image: Annotated[Path, Argument(metavar="IMAGE", help="The small picture.")],
    factor: Annotated[int, Option(help="How many times larger.", min=2, max=8)] = 4,
    model: Model = "bundled",
    device: Device = "cpu",
    precision: Precision = "float32",
    out: Out = Path("upscaled"),
    grid: Grid = False,
) -> None:
    """Paints a small picture large.

    \b
    Example:
      taming upscale small.png --factor 4 --model runs/mine --out large.png
    """
    pipeline = open_model(model, device, precision)
    with progress_bar("enlarging") as progress:
        images = pipeline.upscale(image, factor, progress=progress, **settings)
    save(images, settings["seeds"], out, grid)


@app.command()
def reconstruct(
    pictures: Annotated[list[Path], Argument(metavar="IMAGE...", help="Pictures.")],
    model: Model = "bundled",
    device: Device = "cpu",
    precision: Precision = "float32",
    out: Out = Path("reconstructed"),
    grid: Grid = False,
) -> None:
    """Pictures to codes and back: what the first stage can show at best.

    \b
    Example:
      taming reconstruct photo1.jpg photo2.jpg --model runs/tokenizer --out back/
    """
    images = open_model(model, device, precision).reconstruct(pictures)
    save(images, [picture.stem for picture in pictures], out, grid)


def open_model(model: str, device: str, precision: str) -> "Pipeline":
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device '{device}' cannot be used here ({reason}); try cpu") from error
    return taming.load(model, device=device, precision=precision)


def save(
    images: "Sequence[Image.Image]", names: Sequence[int | str], out: Path, grid: bool
) -> None:
    """One file a picture, or all in one; `out` is a file if named like one, else a folder."""
    from taming.provenance import save_png
    from taming.worlds import contact_sheet

    words = [f"{name:04d}" if isinstance(name, int) else name for name in names]
    to_file = out.suffix.lower() in PICTURE_SUFFIXES
    if grid:
        files = [out if to_file else out / "grid.png"]
        images = [contact_sheet(images, columns=4)]
    elif not to_file:
        files = [out / f"{word}.png" for word in words]
    elif len(images) == 1:
        files = [out]
    else:
        files = [out.with_stem(f"{out.stem}-{word}") for word in words]
    for image, file in zip(images, files, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        print(save_png(image, file))


# --- data -----------------------------------------------------------------------------------------


@app.command()
def worlds(
    count: Annotated[int, Option(help="How many scenes.", min=1)],
    out: Annotated[Path, Option("--out", "-o", help="Folder of the set.")],
    size: Annotated[str, Option(metavar="HxW", help="Pixels.")] = "128",
    seed: Annotated[int, Option(help="Same seed, same scenes, at any size.", min=0)] = 0,
    people: Annotated[
        bool | None,
        Option("--people/--no-people", help="Without it: if the extra 'people' is installed."),
    ] = None,
    sheet: Annotated[Path | None, Option(help="Also a contact sheet of the first scenes.")] = None,
) -> None:
    """Renders scenes with exact depth, labels, poses, captions and classes: a training set.

    \b
    Example:
      taming worlds --count 2000 --size 128 --people --out data/worlds
    """
    from taming.worlds import contact_sheet, render_set

    with progress_bar("rendering") as progress:
        folder = render_set(count, parse_size(size), out, seed, people, progress=progress)
    print(folder)
    if sheet is not None:
        from PIL import Image

        first = sorted((folder / "images").iterdir())[:SHEET]
        save([contact_sheet([Image.open(path) for path in first], 8)], [""], sheet, grid=False)


if __name__ == "__main__":
    main()
