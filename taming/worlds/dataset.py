"""Renders a set of scenes to disk, in the folder layout that training reads.

    images/<name>.png   labels/<name>.png + label_names.json   depth/<name>.png + depth.json
    keypoints.json (COCO)   class_labels.json   captions.json   split.json   SOURCE.md   worlds.json

A set is complete or absent: everything is written to a hidden folder beside the target, which is
renamed at the end. Rendering that was stopped goes on there, and a set grows when more scenes of it
are wanted: scene number i is the same whatever the count. `worlds.json` holds the settings; the
same settings find the set and keep it. `.records.jsonl` says of each finished scene what the other
files say of all. A set that grows waits beside itself, as `.<name>.old`, while its successor takes
its place.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from PIL import Image

from taming.worlds.annotations import (
    RECORDS,
    SETTINGS,
    Record,
    Settings,
    depth_steps,
    line,
    read_records,
    write_annotations,
    write_json,
    write_records,
)
from taming.worlds.bodies import Bodies, bodies, hold, people_available, require_people
from taming.worlds.render import render
from taming.worlds.sample import sample_scene

logger = logging.getLogger(__name__)

# Raise when the pictures of a seed, what is told of them, or those held out, change.
VERSION = 6  # 6: captions said "a orange shirt"
PICTURES = ("images", "labels", "depth")
_CHUNK = 8
_SETS_APART = 1_000_000  # scenes of two sets with different seeds never coincide


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
    else in the way is an error, as is a stopped rendering of another set. A link is followed.
    """
    settings = _settings(count, size, seed, people, people_share, validation_share)
    target = Path(out).resolve()
    if _found(target) == asdict(settings) and not _old(target).exists():
        logger.info("%s holds this set already; nothing to render", target)
        return target
    if os.path.ismount(target):
        raise ValueError(
            f"{target} is where a disk is mounted, and a set is put in its place whole; choose a "
            f"folder in it, such as {target / 'worlds'}"
        )
    partial = target.with_name(f".{target.name}.partial")
    with _alone(target):
        _recover(target)
        there = _scenes_there(target, settings)
        if there == count:
            return target
        partial.mkdir(exist_ok=True)
        records = _begun(partial, settings, target if there else None)
        if records and progress is not None:
            progress(len(records), count)
        with open(partial / RECORDS, "a", encoding="utf-8") as log:
            for chunk in _render_all(settings, partial, records.keys(), workers):
                log.writelines(map(line, chunk))
                log.flush()
                records.update({record.name: record for record in chunk})
                if progress is not None:
                    progress(len(records), count)
        write_annotations(partial, settings, [records[name] for name in sorted(records)])
        _put(partial, target)
    return target


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """ValueError where another process renders this set; the end of a process lets go of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(f"another process renders {target}; wait, then begin again") from error
    try:
        yield
    finally:
        # While it is held, where that can be done: nobody is left with a file that has no name
        with suppress(OSError):
            os.unlink(lock.lock_file)
        lock.release()


def _begun(partial: Path, settings: Settings, smaller: Path | None) -> dict[str, Record]:
    """Makes `partial` ready, and returns what it holds: of an earlier attempt, or `smaller`'s."""
    wanted = _scene_settings(settings)
    if not (partial / SETTINGS).exists():
        # Stopped before anything was rendered there
        (partial / RECORDS).unlink(missing_ok=True)
        for folder in PICTURES:
            shutil.rmtree(partial / folder, ignore_errors=True)
            (partial / folder).mkdir()
        if smaller is not None:
            for folder in PICTURES:
                for path in (smaller / folder).iterdir():
                    _link(path, partial / folder / path.name)
            shutil.copyfile(smaller / RECORDS, partial / RECORDS)
        write_json(partial / SETTINGS, wanted)
    elif differing := _differing(_found(partial), wanted):
        raise ValueError(
            f"{partial} holds {len(read_records(partial))} scenes of another set, whose rendering "
            f"was stopped ({differing}); finish that set, choose another folder or delete this one"
        )
    else:
        logger.info("going on in %s", partial)
    names = {_name(index) for index in range(settings.count)}  # more may have been wanted then
    records = {record.name: record for record in read_records(partial) if record.name in names}
    write_records(partial, records.values())
    for folder in PICTURES:
        for path in (partial / folder).iterdir():
            if path.stem not in records:
                path.unlink()
    return records


def _scene_settings(settings: Settings) -> dict[str, Any]:
    """What decides a scene of a set, and not how many there are."""
    return {key: value for key, value in asdict(settings).items() if key != "count"}


def _found(folder: Path) -> dict[str, Any]:
    """The settings of the set in a folder; empty where they cannot be read."""
    try:
        found = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _differing(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In which of the wanted settings a set differs, in words; empty if in none."""
    return "; ".join(
        f"{key} {found.get(key)} there, {value} wanted"
        for key, value in wanted.items()
        if found.get(key) != value
    )


def _link(path: Path, other: Path) -> None:
    """The same file under a second name, or a copy where the disk has no such thing."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)


def _put(partial: Path, target: Path) -> None:
    """`partial` becomes `target`; a smaller set there goes, and what else lay in it stays."""
    old = _old(target)
    _clear(old)
    if target.is_dir():
        target.replace(old)
    partial.replace(target)
    _carry_over(old, target)
    _clear(old)


def _carry_over(old: Path, target: Path) -> None:
    """Files that the successor of a set does not have: reports, notes, further annotations."""
    for path in [path for path in old.rglob("*") if not path.is_dir()]:
        place = target / path.relative_to(old)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)


def _recover(target: Path) -> None:
    """Ends what a stopped `_put` left: a set without its place, or one that has a successor."""
    old = _old(target)
    if (target / SETTINGS).is_file():
        if (old / SETTINGS).is_file():
            _carry_over(old, target)
        _clear(old)
    elif (old / SETTINGS).is_file() and _is_free(target):
        if target.is_dir():
            target.rmdir()
        old.replace(target)
        logger.info("%s was in %s, and is back", target, old)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _clear(old: Path) -> None:
    """Removes a set that has a successor, settings first: half removed, it must not come back."""
    (old / SETTINGS).unlink(missing_ok=True)
    shutil.rmtree(old, ignore_errors=True)


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
    if _is_free(target):
        return 0
    remedy = "choose another folder or delete this one"
    found = _found(target)
    if not found:
        raise ValueError(f"{target} exists and is no rendered set of scenes; {remedy}")
    wanted, count = asdict(settings), found.get("count")
    if found == wanted or (
        {**found, "count": settings.count} == wanted
        and isinstance(count, int)
        and count < settings.count
        and (target / RECORDS).is_file()
    ):
        return found["count"]
    differing = _differing(found, wanted)
    raise ValueError(f"{target} holds another set ({differing}); {remedy}")


def _is_free(target: Path) -> bool:
    return not target.exists() or (target.is_dir() and not any(target.iterdir()))


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
