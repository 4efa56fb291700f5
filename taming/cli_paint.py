"""Commands that make pictures with a trained model.

Each turns its words into one call of a pipeline and saves the pictures that come back.
"""

from collections.abc import Sequence
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
    WindowRule,
    check_stems,
    conditions,
    conditions_beside_image,
    is_file,
    parse_seeds,
    parse_size,
    sampling,
    save,
    saving,
    taking,
)
from taming.console import progress_bar

if TYPE_CHECKING:
    from PIL import Image
    from typing_extensions import TypeIs

    from taming.prefix_pipeline import PrefixPipeline

app = typer.Typer()  # its commands are merged into those of cli.py


@app.command()
@saving
@taking(sampling, conditions)
def paint(
    settings: dict[str, Any],
    model: Model = "bundled",
    device: Device = "auto",
    precision: Precision = "float32",
    size: Annotated[
        str | None,
        Option(
            metavar="HxW",
            help="Height x width; else the proportions of the first map, at the scale trained on "
            "(of a small picture, 2 to 8 times its size); without a map, as trained.",
        ),
    ] = None,
    window: WindowRule = None,
    out: Out = Path("painted"),
    grid: Grid = False,
) -> None:
    """Paints pictures from any combination of conditions, or from none.

    A folder instead of a map paints from every file in it.

    \b
    Example: four streets for one label map, in one file; fifty pictures of each of two classes.
      taming paint --model runs/streets --labels street.png \\
          --seeds 0-3 --guidance 3 --grid --out streets.png
      taming paint --model published/cin --class 5,12 --seeds 0-49 --top-k 250 --out classes/
    """
    if window is not None:
        settings["window"] = window
    shape = None if size is None else parse_size(size)
    pipeline = taming.load(model, device=device, precision=precision)
    jobs = paint_jobs(settings, numbered_classes=is_published(pipeline), grid=grid)
    if len(jobs) > 1 and not grid and is_file(out):
        raise ValueError(f"{out} is one file for several pictures; give a folder, or --grid")
    page: list[Image.Image] = []
    with progress_bar("painting") as progress:
        for index, (words, job) in enumerate(jobs):

            def report(done: int, total: int, index: int = index) -> None:
                progress(index * total + done, len(jobs) * total)

            images = pipeline.paint(size=shape, progress=report, **job)
            if grid:
                page += images
            else:
                save(images, words, out, grid)  # at once: there may be more than memory holds
    if grid:
        save(page, [], out, grid)


Job = tuple[Sequence[int | str], dict[str, Any]]  # names of pictures, and what `paint` is told


def paint_jobs(settings: dict[str, Any], numbered_classes: bool, grid: bool) -> list[Job]:
    """One call of `paint` for each file of a folder, or for each class; else one."""
    folders = [name for name, value in settings.items() if isinstance(value, Path)]
    folders = [name for name in folders if settings[name].is_dir()]
    if len(folders) > 1:
        raise ValueError(
            f"--{folders[0]} and --{folders[1]} are both folders; one condition can be a folder"
        )
    if folders:
        name = folders[0]
        files = sorted(path for path in settings[name].iterdir() if is_map(path, name))
        if not files:
            raise ValueError(f"{settings[name]} holds no maps to paint from")
        if not grid:
            check_stems(files)
        each = [(f"{path.stem}-", {name: path}) for path in files]
    elif numbered_classes and "class_label" in settings:
        classes = parse_seeds(settings["class_label"], "classes")
        each = [(f"{number:04d}-", {"class_label": number}) for number in classes]
    else:
        return [(settings["seeds"], settings)]
    return [
        ([f"{word}{seed:04d}" for seed in settings["seeds"]], {**settings, **condition})
        for word, condition in each
    ]


def is_map(path: Path, condition: str) -> bool:
    """Whether a condition is read from such files; tables of names may lie beside maps."""
    from taming.data.pictures import SUFFIXES

    suffixes = {"pose": (".json",), "boxes": (".json",)}.get(condition, (*SUFFIXES, ".npy"))
    is_hidden = path.name.startswith(".")
    return path.suffix.lower() in suffixes and path.is_file() and not is_hidden


@app.command()
@saving
@taking(sampling)
def scenes(
    settings: dict[str, Any],
    annotations: Annotated[
        list[Path],
        Argument(metavar="JSON...", help="COCO annotations that belong together, or one scene."),
    ],
    model: Model,
    limit: Annotated[int, Option(help="Only the first so many pictures.", min=1)] = 16,
    device: Device = "auto",
    precision: Precision = "float32",
    size: Annotated[
        str | None, Option(metavar="HxW", help="Height x width, or as trained.")
    ] = None,
    out: Out = Path("scenes"),
) -> None:
    """Paints scenes from boxes, each beside a drawing of its boxes.

    \b
    Example: the first eight pictures of COCO's things and stuff, three times each.
      taming scenes instances_val2017.json stuff_val2017.json \\
          --model published/coco_scene --limit 8 --seeds 0-2 --out scenes/
    """
    shape = None if size is None else parse_size(size)
    pipeline = taming.load(model, device=device, precision=precision)
    if not is_published(pipeline):
        raise ValueError(
            f"{model} is no scene model of the original, which this command is for; where a model "
            f"was trained with boxes, taming paint --boxes takes them"
        )
    from taming.cond_stage.scenes import Scenes, read_scenes

    found = read_scenes(annotations)
    chosen = found.scenes[:limit]
    with progress_bar("painting") as progress:
        for index, scene in enumerate(chosen):
            boxes = Scenes(found.names, [scene])
            images = pipeline.paint(boxes=boxes, size=shape, **settings)
            words = [f"{scene.name}-{seed:04d}" for seed in settings["seeds"]]
            drawing = pipeline.draw_boxes(boxes, (images[0].height, images[0].width))
            save([drawing, *images], [f"{scene.name}-boxes", *words], out, grid=False)
            progress(index + 1, len(chosen))


@app.command()
@saving
@taking(sampling, conditions_beside_image())
def complete(
    settings: dict[str, Any],
    image: Annotated[
        Path,
        Argument(metavar="IMAGE", help="The picture, with --mask or transparent in the hole."),
    ],
    model: Model = "bundled",
    half: Annotated[bool, Option("--half", help="Keep the upper half; instead of --mask.")] = False,
    size: Annotated[
        str | None,
        Option(
            metavar="HxW",
            help="Height x width; else as the picture, in windows where it is larger than trained.",
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "float32",
    window: WindowRule = None,
    out: Out = Path("completed"),
    grid: Grid = False,
) -> None:
    """Paints what is missing in a picture; what is kept stays pixel for pixel.

    The picture is resized to --size, not cropped, and kept pixels are those of the resized one.

    \b
    Example: eight ways to fill a hole, and to go on below the upper half.
      taming complete photo.png --mask keep.png --model runs/mine \\
          --seeds 0-7 --out completed/
      taming complete photo.png --half --model published/faceshq --seeds 0-7
    """
    from taming.cond_stage.known import has_hole, upper_half

    if half and "mask" in settings:
        raise ValueError("--mask and --half both say what is kept; give one of them")
    if half:
        settings["mask"] = upper_half(image)
    elif "mask" not in settings and not has_hole(image):
        raise ValueError(
            f"{image} has no transparent part to be filled; give --mask with white where it is "
            f"kept, or --half"
        )
    if window is not None:
        settings["window"] = window
    shape = None if size is None else parse_size(size)
    pipeline = taming.load(model, device=device, precision=precision)
    with progress_bar("completing") as progress:
        images = pipeline.complete(image, size=shape, progress=progress, **settings)
    save(images, settings["seeds"], out, grid)


@app.command()
@saving
@taking(sampling, conditions_beside_image("lowres", "mask"))
def upscale(
    settings: dict[str, Any],
    image: Annotated[Path, Argument(metavar="IMAGE", help="The small picture.")],
    factor: Annotated[int, Option(help="How many times larger.", min=2, max=8)] = 4,
    model: Model = "bundled",
    device: Device = "auto",
    precision: Precision = "float32",
    out: Out = Path("upscaled"),
    grid: Grid = False,
) -> None:
    """Paints a small picture large.

    \b
    Example:
      taming upscale small.png --factor 4 --model runs/mine --out large.png
    """
    pipeline = taming.load(model, device=device, precision=precision)
    with progress_bar("enlarging") as progress:
        images = pipeline.upscale(image, factor, progress=progress, **settings)
    save(images, settings["seeds"], out, grid)


@app.command()
@saving
def reconstruct(
    pictures: Annotated[list[Path], Argument(metavar="IMAGE...", help="Pictures.")],
    model: Model = "bundled",
    device: Device = "auto",
    precision: Precision = "float32",
    out: Out = Path("reconstructed"),
    grid: Grid = False,
) -> None:
    """Pictures to codes and back: what the first stage can show at best.

    \b
    Example:
      taming reconstruct photo1.jpg photo2.jpg --model runs/tokenizer --out back/
    """
    if not grid:
        check_stems(pictures)
    images = taming.load(model, device=device, precision=precision).reconstruct(pictures)
    save(images, [picture.stem for picture in pictures], out, grid)


@app.command()
@saving
@taking(sampling, conditions_beside_image("mask"))
def vary(
    settings: dict[str, Any],
    image: Annotated[Path, Argument(metavar="IMAGE", help="The picture.")],
    share: Annotated[
        float, Option(help="How much is painted anew, spread over the picture.", min=0.0, max=1.0)
    ] = 0.5,
    model: Model = "bundled",
    size: Annotated[
        str | None,
        Option(
            metavar="HxW",
            help="Height x width; else as the picture, in windows where it is larger than trained.",
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "float32",
    out: Out = Path("varied"),
    grid: Grid = False,
) -> None:
    """Paints variations of a picture: some of it stays, the rest is painted anew.

    \b
    Example: six variations that keep two thirds, side by side.
      taming vary photo.png --share 0.33 --seeds 0-5 --grid --out varied.png
    """
    shape = None if size is None else parse_size(size)
    pipeline = taming.load(model, device=device, precision=precision)
    if is_published(pipeline):
        raise ValueError(f"{model} paints in one order, and completes only what lies behind")
    with progress_bar("varying") as progress:
        images = pipeline.vary(image, share, size=shape, progress=progress, **settings)
    save(images, settings["seeds"], out, grid)


@app.command()
@saving
@taking(conditions)
def repaint(
    settings: dict[str, Any],
    picture: Annotated[Path, Argument(metavar="PNG", help="A picture that was painted.")],
    model: Model = "bundled",
    device: Device = "auto",
    precision: Precision = "float32",
    out: Out = Path("repainted"),
) -> None:
    """Paints a picture again from what its PNG says of how it was made.

    In float32, on the same machine and PyTorch, it is the same bit for bit.

    Conditions of more than a megabyte are not in the file and have to be given again.

    \b
    Example:
      taming repaint painted/0003.png --model runs/mine --out again.png
    """
    image = taming.load(model, device=device, precision=precision).repaint(picture, **settings)
    save([image], [picture.stem], out, grid=False)


def is_published(pipeline: object) -> "TypeIs[PrefixPipeline]":
    """Whether it is a second stage of the published design."""
    from taming.prefix_pipeline import PrefixPipeline

    return isinstance(pipeline, PrefixPipeline)
