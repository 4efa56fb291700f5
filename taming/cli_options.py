"""What several commands share: options, what their words mean, and how pictures are saved.

A group of options is one function: its parameters declare them, its result is what the pipeline is
called with. Knows no command.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

if TYPE_CHECKING:
    from PIL import Image

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

Words = Annotated[
    list[str] | None,
    Argument(
        metavar="CONFIG... [KEY=VALUE]...",
        help="YAML files, merged in order, then settings such as training.max_minutes=60.",
    ),
]
Model = Annotated[str, Option("--model", "-m", help="Run directory, checkpoint, or 'bundled'.")]


def usable_device(name: str) -> str:
    """`auto` is the graphics card if there is one; ValueError where a device cannot be used."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device '{name}' cannot be used here ({reason}); try cpu") from error
    return name


def folder_or_png(out: Path | None) -> Path | None:
    """Refuses other formats before anything is painted."""
    from taming.provenance import check_is_png

    if out is not None and out.suffix.lower() in PICTURE_SUFFIXES:
        check_is_png(out)
    return out


Device = Annotated[
    str, Option(help="cpu, cuda, cuda:1, mps; auto: cuda or cpu.", callback=usable_device)
]
Precision = Annotated[str, Option(help="float32, or bf16, int8: faster, other rounding.")]
Out = Annotated[
    Path,
    Option("--out", "-o", help="A folder, or a file such as picture.png.", callback=folder_or_png),
]
WindowRule = Annotated[
    str | None,
    Option(
        "--window",
        metavar="published|block",
        help="How published models paint pictures larger than trained: well, or fast.",
    ),
]
Grid = Annotated[bool, Option("--grid", help="All pictures side by side in one file.")]

_panel: dict[str, Any] = {"rich_help_panel": "Conditions, in any combination"}


def conditions(
    depth: Annotated[Path | None, Option(help="Depth map: 16-bit PNG or .npy.", **_panel)] = None,
    labels: Annotated[
        Path | None, Option(help="Label map: ids, or painted in the palette.", **_panel)
    ] = None,
    pose: Annotated[Path | None, Option(help="People: COCO keypoints as JSON.", **_panel)] = None,
    text: Annotated[str | None, Option(help="A description in words.", **_panel)] = None,
    class_label: Annotated[
        str | None,
        Option("--class", help="A class, by name or number; 5,12 for published models.", **_panel),
    ] = None,
    boxes: Annotated[Path | None, Option(help="What is where: boxes as JSON.", **_panel)] = None,
    edges: Annotated[Path | None, Option(help="A line drawing.", **_panel)] = None,
    lowres: Annotated[Path | None, Option(help="A small picture.", **_panel)] = None,
    known: Annotated[
        Path | None, Option(help="A picture to complete; needs --mask.", **_panel)
    ] = None,
    mask: Annotated[Path | None, Option(help="White where it is kept.", **_panel)] = None,
) -> dict[str, Any]:
    """Conditions as keywords of the pipeline; what is not given is not passed on."""
    given = dict(locals())
    return {name: value for name, value in given.items() if value is not None}


def sampling(
    seeds: Annotated[str, Option(help="One picture a seed: 7, 0-3 or 0,5,8-11.")] = "0",
    steps: Annotated[
        int | None,
        Option(help="Groups of codes drawn together; 0: one code at a time.", min=0),
    ] = None,
    guidance: Annotated[
        str | None, Option(metavar="SCALE", help="How strictly to obey: 3, or depth=2,text=4.")
    ] = None,
    temperature: Annotated[float, Option(help="0 takes the likeliest code.", min=0.0)] = 1.0,
    top_k: Annotated[int | None, Option(help="Draw among the K likeliest codes.", min=1)] = None,
    top_p: Annotated[
        float | None, Option(help="Draw among the likeliest, P in sum.", min=0.0, max=1.0)
    ] = None,
) -> dict[str, Any]:
    """Settings as keywords of the pipeline; what is not given keeps the pipeline's default."""
    given = {
        "guidance": None if guidance is None else parse_guidance(guidance),
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    if steps is not None:
        settings["steps"] = steps or None  # the pipeline's None is one code at a time
    return {"seeds": parse_seeds(seeds), **settings}


def taking(*groups: Callable[..., dict[str, Any]]) -> Callable[[Callable], Callable[..., None]]:
    """Adds the parameters of `groups` to a command; their results arrive in it as `settings`."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        shared = {group: inspect.signature(group).parameters for group in groups}
        own = inspect.signature(command).parameters

        @functools.wraps(command)
        def run(**words: Any) -> None:
            settings: dict[str, Any] = {}
            for group, names in shared.items():
                settings |= group(**{name: words.pop(name) for name in names})
            command(**words, settings=settings)

        parameters = [p for name, p in own.items() if name != "settings"]
        for names in shared.values():
            parameters.extend(names.values())
        keyword_only = inspect.Parameter.KEYWORD_ONLY
        signature = inspect.Signature([p.replace(kind=keyword_only) for p in parameters])
        vars(run)["__signature__"] = signature
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return add


def parse_size(text: str) -> tuple[int, int]:
    """'128' or 'HEIGHTxWIDTH' -> (height, width)."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"size '{text}': give one number or HEIGHTxWIDTH, such as 192x128")
    return int(parts[0]), int(parts[-1])


def parse_seeds(text: str, what: str = "seeds") -> list[int]:
    """'7', '0-3' or '0,5,8-11' -> numbers in the order written."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isdecimal() for end in ends) or int(ends[0]) > int(ends[1]):
            raise ValueError(
                f"{what} '{text}': give numbers and ranges, such as 7 or 0-3 or 0,5,8-11"
            )
        seeds.extend(range(int(ends[0]), int(ends[1]) + 1))
    return seeds


def parse_guidance(text: str) -> float | dict[str, float]:
    """'3' -> 3.0; 'depth=2,text=4' -> a scale for each condition."""
    try:
        if "=" not in text:
            return float(text)
        pairs = (part.split("=") for part in text.split(","))
        return {name.strip(): float(scale) for name, scale in pairs}
    except ValueError:
        raise ValueError(
            f"guidance '{text}': give one number, or condition=number pairs such as depth=2,text=4"
        ) from None


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
