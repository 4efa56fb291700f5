"""Commands that make pictures with a trained model.

Each turns its words into one call of a pipeline and saves the pictures that come back.
"""

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
    conditions,
    parse_size,
    sampling,
    save,
    taking,
)
from taming.console import progress_bar

if TYPE_CHECKING:
    from taming.pipeline import Pipeline

app = typer.Typer()  # its commands are merged into those of cli.py


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
