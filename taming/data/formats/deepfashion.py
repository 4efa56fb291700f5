"""DeepFashion (In-shop) with poses, as the pose-transfer benchmark distributes it.

    fasion-resize-annotation-train.csv          name:keypoints_y:keypoints_x   (its own spelling)
    fasion-resize-annotation-test.csv           "x.jpg": [63, 96, ...]: [88, 90, ...]
    train/<name>.jpg  test/<name>.jpg           or all in one folder

Eighteen joints in the order of OpenPose's COCO model, -1 where one is not seen, in pixels of the
pictures beside the list. Sources: Liu et al. 2016; Zhu et al. 2019 (progressive pose attention).
"""

import csv
import json
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taming.data.batch import JOINTS
from taming.data.formats.records import Record, Records, joined, no_pictures
from taming.data.roots import first_of

logger = logging.getLogger(__name__)

OPENPOSE = (
    "nose", "neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
PLACES = [JOINTS.index(name) for name in OPENPOSE]
FILES = {"train": "train", "validation": "test", "test": "test"}  # the benchmark has two parts
ORIGIN = (
    "the pose-transfer benchmark's lists of joints, linked from "
    "github.com/tengteng95/Pose-Transfer, belong there"
)


def read(root: Path, split: str) -> Records:
    """Records with the joints of one person; pictures where nobody was found have none."""
    if split == "all":
        return joined([read(root, part) for part in ("train", "test") if _list(root, part)])
    file = _list(root, split)
    if file is None:
        raise no_pictures(root, split, root / f"*annotation*{FILES.get(split, split)}.csv", ORIGIN)
    places = [root / FILES[split], root / "images", root / "img", root]
    entries, missing = [], []
    for name, joints in read_joints(file):
        found = first_of([folder / name for folder in places])
        if found is None:
            missing.append(name)
            continue
        people = joints[None] if joints[:, 2].any() else None
        entries.append(Record(Path(name).with_suffix("").as_posix(), str(found), keypoints=people))
    if missing and not entries:
        raise ValueError(
            f"{file} lists {missing[0]}, which is in none of {', '.join(map(str, places))}; put "
            "the pictures of DeepFashion there (mmlab.ie.cuhk.edu.hk, free for research)"
        )
    if missing:
        logger.warning("%s: %d of %d pictures listed are not there, such as %s", file,
                       len(missing), len(missing) + len(entries), missing[0])  # fmt: skip
    return Records(entries)


def _list(root: Path, split: str) -> Path | None:
    if split not in FILES:
        return None
    return next(iter(sorted(root.glob(f"*annotation*{FILES[split]}.csv"))), None)


def read_joints(file: Path) -> list[tuple[str, NDArray[np.float32]]]:
    """(picture name, (19, 3) x, y, visibility) of every line."""
    wanted = ["name", "keypoints_y", "keypoints_x"]
    with open(file, newline="", encoding="utf-8") as lines:
        rows = csv.DictReader(lines, delimiter=":", skipinitialspace=True)
        if not set(wanted) <= set(rows.fieldnames or ()):
            raise ValueError(f"{file} begins with {rows.fieldnames}; expected {':'.join(wanted)}")
        return [(row["name"], _person(row, file)) for row in rows]


def _person(row: dict[str, str], file: Path) -> NDArray[np.float32]:
    person = np.zeros((len(JOINTS), 3), dtype=np.float32)
    try:
        y, x = (
            np.asarray(json.loads(row[key]), dtype=np.float32)
            for key in ("keypoints_y", "keypoints_x")
        )
        if y.shape != (len(OPENPOSE),) or x.shape != y.shape:
            raise ValueError(f"{x.size} and {y.size} numbers for {len(OPENPOSE)} joints")
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: the joints of '{row['name']}' are no lists ({error})") from error
    seen = (x >= 0) & (y >= 0)
    person[PLACES] = np.stack([x, y, np.ones_like(x)], axis=1) * seen[:, None]
    return person
