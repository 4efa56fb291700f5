"""Commands around training and painting: rendered and annotated sets, old files, what is here."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from taming.cli_options import Device, only_png, parse_size, place_for, save
from taming.console import progress_bar

SHEET = 32  # scenes on a contact sheet

app = typer.Typer()  # its commands are merged into those of cli.py


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
    sheet: Annotated[
        Path | None,
        Option(metavar="PNG", help="Also a contact sheet of the first scenes.", callback=only_png),
    ] = None,
) -> None:
    """Renders scenes with exact depth, labels, poses, captions and classes: a training set.

    \b
    Example:
      taming worlds --count 2000 --size 128 --people --out data/worlds
    """
    from taming.worlds import contact_sheet, render_set

    with nullcontext() if sheet is None else place_for(sheet):
        with progress_bar("rendering") as progress:
            folder = render_set(count, parse_size(size), out, seed, people, progress=progress)
        print(folder)
        if sheet is not None:
            from PIL import Image

            first = sorted((folder / "images").iterdir())[:SHEET]
            save([contact_sheet([Image.open(path) for path in first], 8)], [""], sheet, grid=False)


@app.command()
def convert(
    source: Annotated[
        str, Argument(metavar="IN", help="A checkpoint of any age, or the folder of its run.")
    ],
    out: Annotated[Path, Argument(metavar="OUT", help="The folder to be made.")],
    config: Annotated[
        Path | None, Option(help="The model's YAML, where it does not lie beside the checkpoint.")
    ] = None,
    part: Annotated[
        str | None, Option(help="Only this part: first_stage, cond_stage or transformer.")
    ] = None,
    keep_losses: Annotated[
        bool, Option("--keep-losses", help="With the discriminator, to go on training.")
    ] = False,
    half: Annotated[bool, Option("--half", help="Weights in 16 bits: half the size.")] = False,
    first_stage: Annotated[
        str | None,
        Option(
            help="A first stage of the same codes, in place of the one within: a better decoder."
        ),
    ] = None,
) -> None:
    """Makes config.yaml and weights.safetensors of a checkpoint, running no code from it.

    \b
    Example: a published model, its first stage alone, and a run with a decoder trained further.
      taming convert logs/2020-11-20T12-54-32_drin converted/drin
      taming convert last.ckpt converted/f16 --config project.yaml --part first_stage
      taming convert runs/mine sharper --first-stage runs/mine_decoder
    """
    from taming.convert import convert as convert_model

    with progress_bar("writing MB") as progress:
        made = convert_model(source, out, config, part, keep_losses, half, first_stage, progress)
        print(made)


@app.command()
def doctor() -> None:
    """Says what is installed, what the machine offers, and what stands in the way.

    Ends with code 1 if there is a problem.

    \b
    Example:
      taming doctor
    """
    from taming.doctor import examine, problems, show

    found = examine()
    show(found)
    if problems(found):
        raise typer.Exit(1)


@app.command()
def annotate(
    kind: Annotated[str, Argument(metavar="depth|labels|pose", help="What to find out.")],
    folder: Annotated[Path, Argument(metavar="FOLDER", help="A set, pictures in images/.")],
    model: Annotated[
        str, Option("--model", "-m", help="A network of transformers: hub id or folder.")
    ],
    detector: Annotated[
        str | None,
        Option(help="Finds people, for pose; without it each whole picture is one person."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Writes depth maps, label maps or joints beside pictures, by a network of your choice.

    What exists is not made again, so a pass may be stopped and begun anew.

    \b
    Example:
      taming annotate depth data/mine --model Intel/dpt-large
      taming annotate labels data/mine --model nvidia/segformer-b5-finetuned-ade-640-640
      taming annotate pose data/mine --model usyd-community/vitpose-base-simple \\
          --detector PekingU/rtdetr_r50vd_coco_o365
    """
    from taming.annotators import annotate as annotate_set

    if detector is not None and kind != "pose":
        raise ValueError(f"--detector is for pose; {kind} needs none")
    options = {} if detector is None else {"detector": detector}
    with progress_bar("annotating") as progress:
        count = annotate_set(kind, folder, model, device=device, progress=progress, **options)
    print(f"{folder}: {kind} of {count} pictures")
