"""What a rendered set says of its pictures: the files beside them.

    label_names.json   depth.json   keypoints.json (COCO)   class_labels.json   captions.json
    split.json   SOURCE.md   worlds.json (what decides the set)   .records.jsonl (scene by scene)

Knows nothing of rendering, and not where a set lies.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from taming.worlds.bodies import JOINTS, SKELETON
from taming.worlds.scene import BIOMES, FAR
from taming.worlds.surface import LABELS

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


def write_annotations(folder: Path, settings: Settings, records: list[Record]) -> None:
    names = [record.name for record in records]
    write_json(folder / "label_names.json", label_table())
    write_json(folder / "depth.json", DEPTH_TABLE)
    write_json(
        folder / "class_labels.json",
        {
            "names": {str(i): biome for i, biome in enumerate(BIOMES)},
            "images": {record.name: BIOMES.index(record.biome) for record in records},
        },
    )
    write_json(folder / "captions.json", {record.name: record.captions for record in records})
    if settings.people_share > 0:
        seen = [(f"{record.name}.png", record.keypoints, record.boxes) for record in records]
        write_json(folder / "keypoints.json", coco(seen, settings.height, settings.width))
    held_out = _held_out(settings)
    write_json(
        folder / "split.json",
        {
            "train": [name for i, name in enumerate(names) if i not in held_out],
            "validation": [name for i, name in enumerate(names) if i in held_out],
        },
    )
    write_records(folder, records)
    _write_text(folder / "SOURCE.md", _source(settings))
    write_json(folder / SETTINGS, asdict(settings))


def _held_out(settings: Settings) -> set[int]:
    """Spread evenly from the first scene on, but for the second, so that some are for training.

    Each number stands for itself, so that a set that grows keeps apart what it kept; only a set
    of one scene has nothing else, and trains with it.
    """
    share = settings.validation_share
    chosen = {i for i in range(settings.count) if math.ceil((i + 1) * share) > math.ceil(i * share)}
    return chosen - {1} if settings.count > 1 else set()


def read_records(folder: Path) -> list[Record]:
    """The finished scenes, without one whose line was cut off."""
    log = folder / RECORDS
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    return [_record(each) for each in text.splitlines(keepends=True) if each.endswith("\n")]


def write_records(folder: Path, records: Iterable[Record]) -> None:
    _write_text(folder / RECORDS, "".join(map(line, records)))


def line(record: Record) -> str:
    arrays = {"keypoints": record.keypoints.tolist(), "boxes": record.boxes.tolist()}
    return json.dumps({**record._asdict(), **arrays}, ensure_ascii=False) + "\n"


def _record(line: str) -> Record:
    found = json.loads(line)
    keypoints = np.array(found.pop("keypoints"), dtype=np.float64).reshape(-1, len(JOINTS), 3)
    boxes = np.array(found.pop("boxes"), dtype=np.float64).reshape(-1, 4)
    return Record(**found, keypoints=keypoints, boxes=boxes)


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


def write_json(path: Path, content: Any) -> None:
    _write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    """The whole file, or what was there."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
