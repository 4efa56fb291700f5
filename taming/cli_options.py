"""What several commands share: options, what their words mean, and how pictures are saved.

A group of options is one function: its parameters declare them, its result is what the pipeline is
called with. Knows no command.
"""

import functools
import inspect
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

if TYPE_CHECKING:
    from PIL import Image

Words = Annotated[
    list[str] | None,
    Argument(
        metavar="CONFIG... [KEY=VALUE]...",
        help="YAML files, merged in order, then settings such as training.max_minutes=60.",
    ),
]
Model = Annotated[str, Option("--model", "-m", help="Run directory, checkpoint, or 'bundled'.")]


def check_device(name: str) -> str:
    """Refuses one that is not there before anything is read."""
    from taming.loading import usable_device

    return usable_device(name)


def folder_or_png(out: Path | None) -> Path | None:
    """Refuses other formats before anything is painted."""
    from taming.data.pictures import SUFFIXES
    from taming.provenance import check_is_png

    if out is not None and out.suffix.lower() in SUFFIXES:
        check_is_png(out)
    return out


def only_png(out: Path | None) -> Path | None:
    """Refuses other formats and folders."""
    from taming.provenance import check_is_png

    if out is not None:
        check_is_png(out)
    return out


def is_file(out: Path) -> bool:
    """Whether `--out` names one file; else it is a folder."""
    return out.suffix.lower() == ".png"


@contextmanager
def place_for(out: Path) -> Iterator[None]:
    """Makes the folder of results, and takes away again what of it has stayed empty."""
    folder = out.parent if is_file(out) else out
    if is_file(out) and out.is_dir():
        raise ValueError(f"{out} is a folder; give the name of a file in it")
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{folder} cannot be made ({error.strerror}); give another place") from (
            error
        )
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{folder} cannot be written to; give another place")
    try:
        yield
    finally:
        for each in made:
            with suppress(OSError):
                each.rmdir()


def saving(command: Callable[..., None]) -> Callable[..., None]:
    """Makes the place that `--out` names before the command begins."""

    @functools.wraps(command)
    def run(**words: Any) -> None:
        with place_for(words["out"]):
            command(**words)

    return run


Device = Annotated[
    str, Option(help="cpu, cuda, cuda:1, mps; auto: cuda or cpu.", callback=check_device)
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
Grid = Annotated[
    bool,
    Option(
        "--grid",
        help="All pictures side by side in one file; pictures saved alone say how they were made.",
    ),
]

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
        Path | None,
        Option(help="A picture to complete, with --mask or transparent in the hole.", **_panel),
    ] = None,
    mask: Annotated[Path | None, Option(help="White where it is kept.", **_panel)] = None,
) -> dict[str, Any]:
    """Conditions as keywords of the pipeline; what is not given is not passed on."""
    given = {name: value for name, value in locals().items() if value is not None}
    if "mask" in given:
        if "known" not in given:
            raise ValueError("--mask says what stays of a picture; give the picture as --known")
        given["known"] = (given["known"], given.pop("mask"))
    return given


def conditions_beside_image(*refused: str) -> Callable[..., dict[str, Any]]:
    """`conditions` of a command whose picture is IMAGE: without `known` and these others.

    The help leaves them out; giving one is an error that says why. A mask is that of the picture.
    """
    absent = ("known", *refused)

    def group(**words: Any) -> dict[str, Any]:
        given = {name: value for name, value in words.items() if value is not None}
        for name in absent:
            if name in given:
                raise ValueError(
                    f"--{name} {given[name]}: this command takes its picture as IMAGE, and no "
                    f"--{name}; leave it out"
                )
        return given

    parameters = [
        parameter.replace(annotation=Annotated[Path | None, Option(hidden=True)])
        if parameter.name in absent
        else parameter
        for parameter in inspect.signature(conditions).parameters.values()
    ]
    vars(group)["__signature__"] = inspect.Signature(parameters)
    return group


def sampling(
    seeds: Annotated[str, Option(help="One picture a seed: 7, 0-3 or 0,5,8-11.")] = "0",
    steps: Annotated[
        int | None,
        Option(
            help="Steps in which a picture of the trained size is painted, 32 if not given; more "
            "is slower; 0: one code at a time.",
            min=0,
        ),
    ] = None,
    guidance: Annotated[
        str | None,
        Option(
            metavar="SCALE",
            help="How closely conditions are followed, 1 if not given; 2 to 4 follow more closely, "
            "with less variety. For each condition: depth=2,text=4.",
        ),
    ] = None,
    temperature: Annotated[
        float,
        Option(help="Below 1 calmer, with less variety; 0: always the likeliest code.", min=0.0),
    ] = 1.0,
    top_k: Annotated[
        int | None,
        Option(help="Paint with the K likeliest codes of each place only; else with all.", min=1),
    ] = None,
    top_p: Annotated[
        float | None,
        Option(
            help="Paint with the likeliest codes of each place only, as many as have this "
            "probability together, such as 0.9; else with all.",
            min=0.0,
            max=1.0,
        ),
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
    """'7', '0-3' or '0,5,8-11' -> numbers in the order written, each of them once."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last) if dash else (first, first)
        if not all(end.isdecimal() for end in ends) or int(ends[0]) > int(ends[1]):
            raise ValueError(
                f"{what} '{text}': give numbers and ranges, such as 7 or 0-3 or 0,5,8-11"
            )
        seeds.extend(range(int(ends[0]), int(ends[1]) + 1))
    ((commonest, count),) = Counter(seeds).most_common(1)
    if count > 1:
        raise ValueError(f"{what} '{text}': {commonest} stands there twice; give each number once")
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


def check_stems(files: Sequence[Path]) -> None:
    """ValueError where pictures of two files would be saved under one name."""
    first: dict[str, Path] = {}
    for file in files:
        if file.stem in first:
            raise ValueError(
                f"{first[file.stem]} and {file} would be saved under one name, {file.stem}; rename "
                f"one of them"
            )
        first[file.stem] = file


def save(
    images: "Sequence[Image.Image]", names: Sequence[int | str], out: Path, grid: bool
) -> None:
    """One file a picture, or all in one; `out` is a file if named like one, else a folder."""
    from taming.provenance import save_png
    from taming.worlds import contact_sheet

    words = [f"{name:04d}" if isinstance(name, int) else name for name in names]
    if grid:
        files = [out if is_file(out) else out / "grid.png"]
        images = [contact_sheet(images, columns=4)]
    elif not is_file(out):
        files = [out / f"{word}.png" for word in words]
    elif len(images) == 1:
        files = [out]
    else:
        files = [out.with_stem(f"{out.stem}-{word}") for word in words]
    for image, file in zip(images, files, strict=True):
        print(save_png(image, file))
