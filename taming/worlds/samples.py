"""Sample inputs for every task, rendered: the files of `data/samples`.

    python -m taming.worlds.samples --out data/samples

    scene.png     with  labels.png + label_names.json, depth.png + depth.json, caption.txt
    people.png    with  keypoints.json (COCO), boxes.json (parts of the picture)
    small.png     a quarter of the width, to be enlarged
    picture.png   with  keep.png, a mask: white stays, black is painted anew
    drawing.png   outlines of a scene, black on white

The same command makes the same files again. The seeds belong to no set that a config renders, so
that a model trained on such a set has seen none of these scenes.
"""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from PIL import Image

from taming.worlds.annotations import DEPTH_TABLE, coco, depth_steps, label_table
from taming.worlds.bodies import require_people
from taming.worlds.render import Rendered, render
from taming.worlds.sample import sample_scene

SIDE = 128  # pixels
SMALLER = 4  # how many times small.png is smaller
SCENES = 777_000_000  # seeds count from here
# Chosen so that different things are seen: four kinds of ground, two people, one close by, ...
SCENE, PEOPLE, SMALL, PICTURE, DRAWING = 58, 15, 31, 4, 16
STEP = 0.25  # of its distance: how far depth jumps where a line is drawn


def render_samples(out: str | os.PathLike[str]) -> list[Path]:
    """Writes the files into the folder `out`; needs the extra `people`."""
    require_people()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    scene, people = _scene(SCENE), _scene(PEOPLE, people=True)
    small = Image.fromarray(_scene(SMALL, people=True).image)
    pictures = {
        "scene": scene.image,
        "labels": scene.labels,
        "depth": depth_steps(scene.depth),
        "people": people.image,
        "small": np.asarray(small.resize((SIDE // SMALLER, SIDE // SMALLER), Image.Resampling.BOX)),
        "picture": _scene(PICTURE).image,
        "keep": _mask(SIDE),
        "drawing": _outlines(_scene(DRAWING)),
    }
    texts = {
        "label_names.json": _json(label_table()),
        "depth.json": _json(DEPTH_TABLE),
        "caption.txt": scene.captions[0] + "\n",
        "keypoints.json": _json(coco([("people.png", people.keypoints, people.boxes)], SIDE, SIDE)),
        "boxes.json": _json(_boxes(people)),
    }
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / f"{name}.png", optimize=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(folder / name for name in [*texts, *(f"{name}.png" for name in pictures)])


def _scene(number: int, people: bool = False) -> Rendered:
    return render(sample_scene(SCENES + number, people), (SIDE, SIDE))


def _mask(side: int) -> np.ndarray:
    """White with a black hole, a slanting oval right of the middle. uint8 (side, side)."""
    y, x = np.mgrid[0:side, 0:side] / side - 0.5
    along, across = (x - 0.12) * 0.8 + y * 0.6, (x - 0.12) * -0.6 + y * 0.8
    hole = (along / 0.34) ** 2 + (across / 0.22) ** 2 < 1
    return np.where(hole, 0, 255).astype(np.uint8)


def _outlines(picture: Rendered) -> np.ndarray:
    """Lines where one thing ends and another begins, uint8 (H, W), black on white."""
    ink = np.zeros(picture.labels.shape, bool)
    # Two pixels meet at an edge; the one above, or to the left, takes the ink.
    for inked, axis in ((ink[:-1], 0), (ink[:, :-1], 1)):
        other = np.diff(picture.labels.astype(np.int16), axis=axis) != 0
        jump = np.abs(np.diff(np.log(picture.depth), axis=axis)) > np.log1p(STEP)
        inked |= other | jump
    return np.where(ink, 0, 255).astype(np.uint8)


def _boxes(picture: Rendered) -> dict[str, Any]:
    """People, in parts of the picture."""
    height, width = picture.labels.shape
    parts = picture.boxes.astype(np.float64) / np.array([width, height, width, height])
    boxes = [{"category": "person", "bbox": box} for box in np.round(parts, 4).tolist()]
    return {"categories": ["person"], "boxes": boxes}


def _json(content: Any) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def make(out: Annotated[Path, typer.Option(help="Folder of the files.")]) -> None:
    """Renders the sample inputs."""
    for path in render_samples(out):
        print(path)


if __name__ == "__main__":
    typer.run(make)
