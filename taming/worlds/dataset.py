"""Renders a set of scenes to disk, in the folder layout that training reads.

    images/<name>.png   labels/<name>.png + label_names.json   depth/<name>.png + depth.json
    keypoints.json (COCO)   class_labels.json   captions.json   split.json   SOURCE.md   worlds.json

A set is complete or absent: everything is written to a hidden folder beside the target, which is
renamed at the end. Rendering that was stopped goes on there, and a set grows when more scenes of it
are wanted: scene number i is the same whatever the count. `worlds.json` holds the settings; the
same settings find the set and keep it. `.records.jsonl` says of each finished scene what the other
files say of all.
"""

import json
import logging
import math
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from taming.worlds.bodies import (
    JOINTS,
    SKELETON,
    Bodies,
    bodies,
    hold,
    people_available,
    require_people,
)
from taming.worlds.render import render
from taming.worlds.sample import sample_scene
from taming.worlds.scene import BIOMES, FAR
from taming.worlds.surface import LABELS

logger = logging.getLogger(__name__)

# Raise when the pictures of a seed, what is told of them, or those held out, change.
VERSION = 5  # 5: joints lay half a pixel right and down; keypoints.json has centres at integers
PICTURES = ("images", "labels", "depth")
SETTINGS, RECORDS = "worlds.json", ".records.jsonl"
DEPTH_SCALE = 0.02  # metres per step: FAR fits 16 bits, and a body close by has some relief
DEPTH_TABLE = {  # what depth.json says
    "kind": "metric",
    "dtype": "uint16",
    "scale": DEPTH_SCALE,
    "unit": "metre = value * scale",
    "invalid": None,
    "range_m": [0.0, FAR],
    "far": f"sky and everything beyond {FAR:g} m have the value of {FAR:g} m",
}
_CHUNK = 8
_SETS_APART = 1_000_000  # scenes of two sets with different seeds never coincide


@dataclass(frozen=True)
class Settings:
    """What decides the content of a set."""

    version: int
    count: int
    height: int
    width: int
    seed: int
    people_share: float  # 0 without people
    validation_share: float


class Record(NamedTuple):
    """What the JSON files say about one picture."""

    name: str
    biome: str
    captions: list[str]
    keypoints: np.ndarray  # (N,17,3)
    boxes: np.ndarray  # (N,4) x, y, width, height


def usable_cores() -> int:
    """Processor cores that this process may use, as far as the platform tells."""
    allowed = getattr(os, "sched_getaffinity", None)  # not everywhere
    return os.cpu_count() or 1 if allowed is None else len(allowed(0))


def render_set(
    count: int,
    size: int | tuple[int, int],
    out: str | os.PathLike[str],
    seed: int = 0,
    people: bool | None = None,
    people_share: float = 0.5,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
    validation_share: float = 0.1,
) -> Path:
    """Renders `count` scenes of `size` (H, W) into the folder `out` and returns it.

    people: None = if the extra is installed, True = or ImportError, False = never.
    people_share: how many of the scenes have people.
    workers: processes; 1 renders in this one. More than one starts new interpreters, so a script
        must call this under `if __name__ == "__main__":`.
    progress: called with (done, count).
    An existing set of the same settings is kept as it is, one with fewer scenes grows; anything
    else in the way is an error.
    """
    settings = _settings(count, size, seed, people, people_share, validation_share)
    target = Path(out).absolute()
    there = _scenes_there(target, settings)
    if there == count:
        logger.info("%s holds this set already; nothing to render", target)
        return target
    partial = target.parent / f".{target.name}.partial"
    records = _begun(partial, settings, target if there else None)
    if records and progress is not None:
        progress(len(records), count)
    with open(partial / RECORDS, "a", encoding="utf-8") as log:
        for chunk in _render_all(settings, partial, records.keys(), workers):
            log.writelines(_line(record) for record in chunk)
            log.flush()
            records.update({record.name: record for record in chunk})
            if progress is not None:
                progress(len(records), count)
    _write_annotations(partial, settings, [records[name] for name in sorted(records)])
    _put(partial, target)
    return target


def _begun(partial: Path, settings: Settings, smaller: Path | None) -> dict[str, Record]:
    """Makes `partial` ready, and returns what it holds: of an earlier attempt, or `smaller`'s."""
    if _has(partial / SETTINGS, _scene_settings(settings)):
        logger.info("going on in %s", partial)
    else:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in PICTURES:
            (partial / folder).mkdir(parents=True)
        if smaller is not None:
            for folder in PICTURES:
                for path in (smaller / folder).iterdir():
                    _link(path, partial / folder / path.name)
            shutil.copyfile(smaller / RECORDS, partial / RECORDS)
        _write(partial / SETTINGS, _scene_settings(settings))
    log = partial / RECORDS
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    whole = [line for line in text.splitlines(keepends=True) if line.endswith("\n")]
    log.write_text("".join(whole), encoding="utf-8")  # without a line that was cut off
    records = {record.name: record for record in map(_record, whole)}
    for name in records.keys() - {_name(index) for index in range(settings.count)}:
        del records[name]  # more were wanted then
        for folder in PICTURES:
            (partial / folder / f"{name}.png").unlink(missing_ok=True)
    return records


def _scene_settings(settings: Settings) -> dict[str, Any]:
    """What decides a scene of a set, and not how many there are."""
    return {key: value for key, value in asdict(settings).items() if key != "count"}


def _has(path: Path, content: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")) == content)
    except (OSError, ValueError):
        return False


def _link(path: Path, other: Path) -> None:
    """The same file under a second name, or a copy where the disk has no such thing."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def _put(partial: Path, target: Path) -> None:
    """`partial` becomes `target`; a smaller set there goes."""
    if not target.is_dir():
        partial.replace(target)
        return
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    target.replace(old)
    partial.replace(target)
    shutil.rmtree(old)


def _settings(
    count: int,
    size: int | tuple[int, int],
    seed: int,
    people: bool | None,
    people_share: float,
    validation_share: float,
) -> Settings:
    height, width = (size, size) if isinstance(size, int) else size
    if not 1 <= count < _SETS_APART:
        raise ValueError(f"count is {count}; it must lie between 1 and {_SETS_APART - 1}")
    if min(height, width) < 16:
        raise ValueError(f"size is {height}x{width}; scenes need at least 16x16 pixels")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative")
    for name, share in (("people_share", people_share), ("validation_share", validation_share)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; it must lie between 0 and 1")
    if people:
        require_people()
    with_people = people_available() if people is None else people
    share = float(people_share) if with_people else 0.0
    return Settings(VERSION, count, height, width, seed, share, float(validation_share))


def _scenes_there(target: Path, settings: Settings) -> int:
    """How many scenes of this set `target` holds; ValueError if it holds something else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return 0
    remedy = "choose another folder or delete this one"
    try:
        found = json.loads((target / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ValueError(f"{target} exists and is no rendered set of scenes; {remedy}") from None
    wanted = asdict(settings)
    count = found.get("count")
    if found == wanted or (
        {**found, "count": settings.count} == wanted
        and isinstance(count, int)
        and count < settings.count
        and (target / RECORDS).is_file()
    ):
        return int(count)
    differing = [
        f"{key} {found.get(key)} there, {wanted[key]} wanted"
        for key in wanted
        if found.get(key) != wanted[key]
    ]
    raise ValueError(f"{target} holds another set ({'; '.join(differing)}); {remedy}")


def _render_all(
    settings: Settings, folder: Path, done: Collection[str], workers: int
) -> Iterator[list[Record]]:
    missing = [index for index in range(settings.count) if _name(index) not in done]
    chunks = [missing[start : start + _CHUNK] for start in range(0, len(missing), _CHUNK)]
    if workers <= 1 or len(chunks) <= 1:
        for chunk in chunks:
            yield _render_chunk(settings, folder, chunk)
        return
    # The body model is loaded here once and handed to the workers as arrays.
    body = bodies() if settings.people_share > 0 else None
    pool = ProcessPoolExecutor(
        min(workers, len(chunks)), get_context("spawn"), initializer=_begin, initargs=(body,)
    )
    try:
        jobs = [pool.submit(_render_chunk, settings, folder, chunk) for chunk in chunks]
        for job in as_completed(jobs):
            yield job.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(body: Bodies | None) -> None:
    if body is not None:
        hold(body)


def _render_chunk(settings: Settings, folder: Path, indices: list[int]) -> list[Record]:
    return [_render_one(settings, folder, index) for index in indices]


def _name(index: int) -> str:
    return f"{index:06d}"


def _render_one(settings: Settings, folder: Path, index: int) -> Record:
    name = _name(index)
    seed = settings.seed * _SETS_APART + index
    with_people = np.random.default_rng((seed, 4)).random() < settings.people_share
    picture = render(
        sample_scene(seed, people=bool(with_people)), (settings.height, settings.width)
    )
    Image.fromarray(picture.image).save(folder / "images" / f"{name}.png")
    Image.fromarray(picture.labels).save(folder / "labels" / f"{name}.png")
    Image.fromarray(depth_steps(picture.depth)).save(folder / "depth" / f"{name}.png")
    return Record(name, picture.biome, picture.captions, picture.keypoints, picture.boxes)


def _line(record: Record) -> str:
    arrays = {"keypoints": record.keypoints.tolist(), "boxes": record.boxes.tolist()}
    return json.dumps({**record._asdict(), **arrays}, ensure_ascii=False) + "\n"


def _record(line: str) -> Record:
    found = json.loads(line)
    keypoints = np.array(found.pop("keypoints"), dtype=np.float64).reshape(-1, len(JOINTS), 3)
    boxes = np.array(found.pop("boxes"), dtype=np.float64).reshape(-1, 4)
    return Record(**found, keypoints=keypoints, boxes=boxes)


def _write_annotations(folder: Path, settings: Settings, records: list[Record]) -> None:
    names = [record.name for record in records]
    _write(folder / "label_names.json", label_table())
    _write(folder / "depth.json", DEPTH_TABLE)
    _write(
        folder / "class_labels.json",
        {
            "names": {str(i): biome for i, biome in enumerate(BIOMES)},
            "images": {record.name: BIOMES.index(record.biome) for record in records},
        },
    )
    _write(folder / "captions.json", {record.name: record.captions for record in records})
    if settings.people_share > 0:
        seen = [(f"{record.name}.png", record.keypoints, record.boxes) for record in records]
        _write(folder / "keypoints.json", coco(seen, settings.height, settings.width))
    held_out = _held_out(settings)
    _write(
        folder / "split.json",
        {
            "train": [name for i, name in enumerate(names) if i not in held_out],
            "validation": [name for i, name in enumerate(names) if i in held_out],
        },
    )
    (folder / RECORDS).write_text("".join(map(_line, records)), encoding="utf-8")
    (folder / "SOURCE.md").write_text(_source(settings), encoding="utf-8")
    _write(folder / SETTINGS, asdict(settings))


def _held_out(settings: Settings) -> set[int]:
    """Spread evenly from the first scene on, so that a set that grows keeps apart what it kept."""
    share = settings.validation_share
    chosen = {i for i in range(settings.count) if math.ceil((i + 1) * share) > math.ceil(i * share)}
    return chosen if len(chosen) < settings.count else chosen - {settings.count - 1}


def depth_steps(depth: np.ndarray) -> np.ndarray:
    """Metres as they are stored, uint16."""
    return np.round(depth / DEPTH_SCALE).astype(np.uint16)


def label_table() -> dict[str, str]:
    """What label_names.json says."""
    return {str(i): label for i, label in enumerate(LABELS)}


def coco(
    pictures: Sequence[tuple[str, np.ndarray, np.ndarray]],  # file, keypoints, boxes
    height: int,
    width: int,
) -> dict[str, Any]:
    """What keypoints.json says: everybody in these pictures, which are of one size."""
    images, annotations = [], []
    for i, (file, keypoints, boxes) in enumerate(pictures):
        images.append({"id": i, "file_name": file, "width": width, "height": height})
        places = keypoints.astype(np.float64)
        places[..., :2] -= 0.5 * (places[..., 2:] > 0)  # pixel centres at integers, no more at .5
        joints = np.round(places, 2).reshape(-1, 51).tolist()
        for numbers, box in zip(
            joints, np.round(boxes.astype(np.float64), 2).tolist(), strict=True
        ):
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": i,
                    "category_id": 1,
                    "keypoints": numbers,
                    "num_keypoints": sum(v > 0 for v in numbers[2::3]),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    person = {"id": 1, "name": "person", "keypoints": list(JOINTS), "skeleton": SKELETON}
    return {"images": images, "annotations": annotations, "categories": [person]}


def _source(settings: Settings) -> str:
    s = settings
    share = f"{s.people_share:.0%} of them with people" if s.people_share else "without people"
    return f"""# Rendered scenes

| | |
| --- | --- |
| origin | rendered by `taming.worlds`, version {s.version} |
| licence | free for any use |
| images | {s.count}, {share} |
| resolution | {s.width}x{s.height} |
| seed | {s.seed} |
| depth | metres = value * {DEPTH_SCALE}, along the view axis; sky and beyond: {FAR:g} m |
| labels | {", ".join(f"{i} {name}" for i, name in enumerate(LABELS))} |
| keypoints | COCO's 17; visibility 2 seen, 1 hidden, 0 outside the picture |
"""


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
