"""The tasks of the demos: what is given for a held-out scene, and the painting of it.

Nothing is selected: a task takes the first held-out scenes that have what it needs, and the seeds
0, 1, 2, ...
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from taming.cond_stage.base import Condition
from taming.cond_stage.edges import find_edges
from taming.cond_stage.sources import to_float
from taming.data.keypoints import People
from taming.pipeline import Guidance, Pipeline

SHOWN = 192  # pixels along a side of a condition that is drawn, not looked up
Progress = Callable[[int, int], None]


class Example(NamedTuple):
    """What is given to the model, and the picture that it was taken from."""

    conditions: dict[str, Any]  # keywords of `Pipeline.paint`
    truth: Image.Image | None = None  # None: nothing to hold samples against
    words: str = ""  # what is given, where that is words
    varied: Image.Image | None = None  # the picture to make variations of


class Painted(NamedTuple):
    """One example with its samples."""

    shown: list[Image.Image]  # what was given, one picture for each condition
    words: str
    samples: list[Image.Image]
    truth: Image.Image | None


class Scenes:
    """The held-out scenes of a rendered set."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size

        def read(name: str) -> Any:
            return json.loads((folder / name).read_text(encoding="utf-8"))

        self.names: list[str] = read("split.json")["validation"]
        self.captions: dict[str, list[str]] = read("captions.json")
        classes = read("class_labels.json")
        self.classes = {name: classes["names"][str(i)] for name, i in classes["images"].items()}
        joints = folder / "keypoints.json"
        self.people = People(joints).people if joints.is_file() else {}

    def image(self, name: str) -> Image.Image:
        with Image.open(self.folder / "images" / f"{name}.png") as opened:
            return opened.convert("RGB").resize((self.size, self.size), Image.Resampling.LANCZOS)


def _maps(kind: str) -> Callable[[Scenes], Iterator[Example]]:
    """Examples of a condition that lies beside the pictures as a PNG."""

    def examples(scenes: Scenes) -> Iterator[Example]:
        for name in scenes.names:
            yield Example({kind: scenes.folder / kind / f"{name}.png"}, scenes.image(name))

    return examples


def _poses(scenes: Scenes) -> Iterator[Example]:
    """People who are mostly in the picture, and not far away."""
    for name in scenes.names:
        if name not in scenes.people:
            continue
        largest = scenes.people[name][0]  # (19, 3)
        seen = largest[largest[:, 2] > 0, 1]
        if len(seen) >= 14 and np.ptp(seen) > 0.4 * scenes.size:
            joints = f"{scenes.folder / 'keypoints.json'}#{name}"
            yield Example({"pose": joints}, scenes.image(name))


def _small(scenes: Scenes) -> Iterator[Example]:
    """A quarter of the width, a sixteenth of the pixels."""
    for name in scenes.names:
        truth = scenes.image(name)
        side = scenes.size // 4
        yield Example({"lowres": truth.resize((side, side), Image.Resampling.BICUBIC)}, truth)


def _fragments(scenes: Scenes) -> Iterator[Example]:
    """Kept in turn: the left half, everything around a box, a box."""
    n = scenes.size
    left, outside, inside = (np.zeros((n, n), np.uint8) for _ in range(3))
    left[:, : n // 2] = 255
    outside[:] = 255
    outside[n // 4 : 3 * n // 4, n // 4 : 3 * n // 4] = 0
    inside[n // 4 : 3 * n // 4, n // 4 : 3 * n // 4] = 255
    for i, name in enumerate(scenes.names):
        truth = scenes.image(name)
        mask = Image.fromarray((left, outside, inside)[i % 3])
        yield Example({"known": (truth, mask)}, truth)


def _drawings(scenes: Scenes) -> Iterator[Example]:
    """Black on white, as a person would hand it in."""
    for name in scenes.names:
        truth = scenes.image(name)
        lines = find_edges(to_float(np.asarray(truth)))[0].numpy()
        if lines.any():
            ink = Image.fromarray((255 - 255 * lines).astype(np.uint8))
            yield Example({"edges": ink}, truth)


def _classes(scenes: Scenes) -> Iterator[Example]:
    """Every class once."""
    seen: set[str] = set()
    for name in scenes.names:
        word = scenes.classes[name]
        if word not in seen:
            seen.add(word)
            yield Example({"class_label": word}, scenes.image(name), word)


def _sentences(scenes: Scenes) -> Iterator[Example]:
    for name in scenes.names:
        sentence = scenes.captions[name][0]
        yield Example({"text": sentence}, scenes.image(name), sentence)


def _two(scenes: Scenes) -> Iterator[Example]:
    """A label map and a sentence, of the same scene."""
    for name in scenes.names:
        sentence = scenes.captions[name][0]
        given = {"labels": scenes.folder / "labels" / f"{name}.png", "text": sentence}
        yield Example(given, scenes.image(name), sentence)


def _three(scenes: Scenes) -> Iterator[Example]:
    """Depth and pose of one scene in the words of another."""
    words = [scenes.captions[name][0] for name in scenes.names]
    for number, example in enumerate(_poses(scenes)):
        name = str(example.conditions["pose"]).rpartition("#")[2]
        sentence = words[(number + len(words) // 2) % len(words)]
        given = {"depth": scenes.folder / "depth" / f"{name}.png", **example.conditions}
        yield Example({**given, "text": sentence}, None, sentence)


def _varied(scenes: Scenes) -> Iterator[Example]:
    for name in scenes.names:
        yield Example({}, None, varied=scenes.image(name))


def _wide(scenes: Scenes) -> Iterator[Example]:
    """Every class once, without a truth: no scene was rendered that wide."""
    for example in _classes(scenes):
        yield example._replace(truth=None)


@dataclass(frozen=True)
class Task:
    """One way to paint."""

    name: str
    title: str
    given: str  # what the model gets, in a sentence
    call: str  # the same in Python
    examples: Callable[[Scenes], Iterator[Example]]
    guidance: Guidance = 2.0
    truth: str = "truth"  # what the last column is
    is_wide: bool = False  # one sample, as wide as the samples of other tasks together


TASKS = (
    Task(
        "depth",
        "Depth map to picture",
        "How near everything is: light is near.",
        'model.paint(depth="depth.png", seeds=range(4))',
        _maps("depth"),
    ),
    Task(
        "labels",
        "Label map to picture",
        "What is where: sky, water, sand, grass, rock, snow, skin, cloth.",
        'model.paint(labels="labels.png", seeds=range(4))',
        _maps("labels"),
    ),
    Task(
        "pose",
        "Pose to person",
        "Joints of everybody in the picture; left in blue, right in orange.",
        'model.paint(pose="keypoints.json", seeds=range(4))',
        _poses,
    ),
    Task(
        "lowres",
        "Super-resolution",
        "A sixteenth of the pixels.",
        'model.upscale("small.png", 4, seeds=range(4))',
        _small,
        guidance=1.5,
    ),
    Task(
        "known",
        "Completion",
        "Part of a picture. What is kept comes back pixel for pixel.",
        'model.complete("picture.png", "mask.png", seeds=range(4))',
        _fragments,
        guidance=1.5,
    ),
    Task(
        "edges",
        "Drawing to picture",
        "Lines, black on white.",
        'model.paint(edges="drawing.png", seeds=range(4))',
        _drawings,
    ),
    Task(
        "class_label",
        "Class to picture",
        "One word of ten.",
        'model.paint(class_label="desert", seeds=range(4))',
        _classes,
        guidance=3.0,
        truth="one of this class",
    ),
    Task(
        "text",
        "Sentence to picture",
        "A description in words.",
        'model.paint(text="A mountain lake at dawn.", seeds=range(4))',
        _sentences,
        guidance=3.0,
        truth="one so described",
    ),
    Task(
        "two",
        "Two at once",
        "A label map and a sentence: any subset of the conditions works.",
        'model.paint(labels="labels.png", text="A lake at dawn.", seeds=range(4))',
        _two,
    ),
    Task(
        "three",
        "Three at once",
        "Depth and pose of one scene, in the words of another.",
        'model.paint(depth="depth.png", pose="keypoints.json", text="Snow at noon.")',
        _three,
    ),
    Task(
        "vary",
        "Variations",
        "A picture, of whose codes a half is painted anew.",
        'model.vary("picture.png", share=0.5, seeds=range(4))',
        _varied,
        guidance=1.0,
    ),
    Task(
        "panorama",
        "Panorama",
        "A class, painted in windows wider than anything that was trained on.",
        'model.paint(class_label="desert", size=(128, 512))',
        _wide,
        guidance=3.0,
        is_wide=True,
    ),
)


def paint_tasks(
    pipeline: Pipeline,
    scenes: Scenes,
    examples: int,
    samples: int,
    steps: int | None = None,  # None: one code at a time
    progress: Progress | None = None,
) -> dict[Task, list[Painted]]:
    """Every task that this model and these scenes allow; one seed for each sample."""
    chosen = {}
    for task in TASKS:
        found = list(islice(task.examples(scenes), examples))
        if found and set(found[0].conditions) <= set(pipeline.conditions):
            chosen[task] = found
    total, done = sum(map(len, chosen.values())), 0
    painted: dict[Task, list[Painted]] = {}
    for task, found in chosen.items():
        painted[task] = []
        for example in found:
            pictures = _paint(pipeline, task, example, scenes.size, samples, steps)
            shown = _shown(pipeline, example, scenes.size)
            painted[task].append(Painted(shown, example.words, pictures, example.truth))
            done += 1
            if progress is not None:
                progress(done, total)
    return painted


def _paint(
    pipeline: Pipeline, task: Task, example: Example, size: int, samples: int, steps: int | None
) -> list[Image.Image]:
    settings: dict[str, Any] = {"steps": steps, "guidance": task.guidance, **example.conditions}
    if example.varied is not None:
        return pipeline.vary(example.varied, seeds=range(samples), **settings)
    if task.is_wide:
        return pipeline.paint(size=(size, samples * size), seeds=0, **settings)
    return pipeline.paint(size=(size, size), seeds=range(samples), **settings)


def _shown(pipeline: Pipeline, example: Example, size: int) -> list[Image.Image]:
    """Each condition as the condition itself shows it."""
    if example.varied is not None:
        return [example.varied]
    conditions: dict[str, Condition] = pipeline.model.conditions  # pyright: ignore[reportAssignmentType]
    pictures = []
    for name, source in example.conditions.items():
        value = conditions[name].read(source, (size, size))
        pictures.append(Image.fromarray(conditions[name].show(value, (SHOWN, SHOWN))))
    return pictures
