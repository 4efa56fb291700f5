"""What is asked of a model: held-out pictures, and the values of their conditions.

The pictures of a set that training did not see are divided once: *reference* pictures, against
which collections are held, and *asked* ones, whose conditions are given to the model. Nothing that
is painted is compared with the picture that it was painted from as if that were another one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torch import Tensor

from taming.cond_stage.base import Condition
from taming.cond_stage.edges import find_edges
from taming.cond_stage.sources import to_uint8
from taming.data.datamodule import ImageData, SetConfig
from taming.data.image_list import ImageList, expanded
from taming.data.roots import VARIABLE, data_root
from taming.evaluation.judge_training import captions_of
from taming.worlds import render_set
from taming.worlds.dataset import VERSION, usable_cores

logger = logging.getLogger(__name__)

Size = tuple[int, int]
Progress = Callable[[int, int], None]

WORLDS_SEED = 1_000_003  # no training set is rendered from it
WORLDS_HELD_OUT = 0.5  # the other scenes teach judges
WORLDS_MARGIN = 9 / 8  # scenes are rendered larger than they are judged, as training sets are


class Task(NamedTuple):
    """A set, and the conditions that are given together."""

    set: str
    conditions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.set}:{'+'.join(self.conditions)}"


class Record(NamedTuple):
    """A held-out picture, the values of its conditions, and what readers are told of them."""

    index: int  # in its set
    name: str
    picture: Image.Image
    values: dict[str, Tensor]
    asked: dict[str, Any]  # the value itself, but the caption of a sentence


@dataclass(frozen=True)
class HeldOut:
    """The held-out part of one set, divided."""

    entry: SetConfig
    part: ImageList
    size: Size
    reference: list[int]  # indices of the part
    asked: list[int]

    @property
    def name(self) -> str:
        return self.part.name

    @property
    def path(self) -> Path:
        return self.part.root

    @property
    def is_worlds(self) -> bool:
        return (self.path / "worlds.json").is_file()

    def picture(self, index: int) -> Image.Image:
        return to_picture(self.part.sample(index)["image"])


# --- sets ----------------------------------------------------------------------------------------


def own_sets(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sets that a run's config names; ValueError if one of them is not on this machine."""
    params = (config.get("data") or {}).get("params") or {}
    found = []
    for entry in params.get("sets") or []:
        entry = {"path": entry} if isinstance(entry, str) else dict(entry)
        path = expanded(entry["path"])
        if not path.exists():
            raise ValueError(
                f"{path} does not exist, a set that the run's config names; put it there "
                f"({VARIABLE} names the folder of data), or name sets with --data"
            )
        # Whole pictures: crops at random scales are for training.
        size = entry.get("size") or params.get("size")
        found.append(entry | {"scale": [1.0, 1.0], "weight": None, "size": size})
    return found


def photographs(names: Iterable[str], size: Size) -> list[dict[str, Any]]:
    """Those of these sets that lie in the folder of all data, without their annotations."""
    folders = [data_root(os.environ.get(VARIABLE) or "data") / name for name in names]
    return [
        {"path": str(folder), "size": list(size), "annotations": []}
        for folder in folders
        if folder.is_dir()
    ]


def open_sets(
    entries: Sequence[Mapping[str, Any]],
    conditions: Mapping[str, Condition],  # with the vocabularies that they were trained with
    *,
    size: Size | None = None,  # of all sets; None: their own
    set_sizes: Mapping[str, Size] | None = None,  # of single sets, by name
    pictures: int | None = None,  # held-out pictures of each set that are used; None: all
    seed: int = 0,
) -> list[HeldOut]:
    """The held-out parts of sets; ValueError where nothing is held out."""
    given = set_sizes or {}
    named: list[dict[str, Any]] = [dict(entry) for entry in entries]
    names = [str(entry.get("name") or name_of(expanded(entry["path"]))) for entry in named]
    strangers = sorted(set(given) - set(names))
    if strangers:
        raise ValueError(f"there is no set '{strangers[0]}'; the sets are {', '.join(names)}")
    for name, entry in zip(names, named, strict=True):
        entry["size"] = given.get(name, size or entry.get("size"))
    words: dict[str, Any] = {
        condition.vocabulary: list(getattr(condition, "names"))  # noqa: B009
        for condition in conditions.values()
        if condition.vocabulary is not None
    }
    data = ImageData(named, **words)
    mix = data.validation
    if mix is None:
        raise ValueError(f"the sets {', '.join(names)} have no held-out pictures")
    opened = dict(zip(names, data.sets, strict=True))
    return [divided(opened[part.name], part, pictures, seed) for part in mix.sets]


def name_of(path: Path) -> str:
    """What a set without a name of its own is called, as in `ImageList`."""
    return path.stem if path.is_file() else path.name


def divided(entry: SetConfig, part: ImageList, pictures: int | None, seed: int) -> HeldOut:
    assert part.draw is not None
    order = np.random.default_rng(seed).permutation(len(part)).tolist()
    chosen = order if pictures is None else order[:pictures]
    half = len(chosen) // 2
    return HeldOut(entry, part, part.draw.size, chosen[:half], chosen[half:])


def rendered_worlds(cache: Path, size: Size, scenes: int, progress: Progress | None = None) -> Path:
    """Scenes that no model was trained on, rendered once and kept.

    ImportError where there is nothing to render people with: without them poses cannot be asked.
    """
    larger = tuple(round(side * WORLDS_MARGIN / 8) * 8 for side in size)
    return render_set(
        scenes,
        (larger[0], larger[1]),
        cache / f"worlds_{larger[0]}x{larger[1]}_{scenes}_people_v{VERSION}",
        seed=WORLDS_SEED,
        people=True,
        workers=usable_cores(),
        progress=progress,
        validation_share=WORLDS_HELD_OUT,
    )


# --- records -------------------------------------------------------------------------------------


class Drawn(NamedTuple):
    index: int
    sample: dict[str, Any]
    rng: np.random.Generator  # its own


def samples(held: HeldOut) -> Iterator[Drawn]:
    """The asked pictures in their order."""
    for index in held.asked:
        yield Drawn(index, held.part.sample(index), np.random.default_rng((index, 7)))


def records_of(
    held: HeldOut, names: Sequence[str], conditions: Mapping[str, Condition], count: int
) -> list[Record]:
    """The first `count` asked pictures that have all of these conditions."""
    records: list[Record] = []
    for index, sample, rng in samples(held):
        asked = {name: asked_for(name, held.part, sample, conditions, rng) for name in names}
        if any(value is None for value in asked.values()):
            continue
        values = {}
        for name, value in asked.items():
            said = isinstance(value, str)
            values[name] = conditions[name].read(value, held.size) if said else value
        picture = to_picture(sample["image"])
        records.append(Record(index, sample["name"], picture, values, asked))
        if len(records) == count:
            break
    return records


def asked_for(
    name: str,
    part: ImageList,
    sample: dict[str, Any],
    conditions: Mapping[str, Condition],
    rng: np.random.Generator,
) -> Any:
    """A value of the condition, or the caption of a sentence; None where it is absent."""
    if name == "edges":
        return find_edges(sample["image"])  # not a random pen: readers use this rule
    if name == "text":
        told = captions_of(part, sample)
        return str(rng.choice(told)) if told else None
    return conditions[name].derive(sample, rng)


def to_picture(image: Tensor) -> Image.Image:
    """float (3, H, W) in [-1, 1] -> a picture."""
    return Image.fromarray(to_uint8(image[None])[0])
