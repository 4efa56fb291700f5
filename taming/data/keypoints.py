"""People and their joints from COCO keypoint files, in whatever order a file lists the joints.

Joints are mapped by name to `batch.JOINTS`; those a file does not have stay invisible.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taming.data.annotations import check_proportions, read_json
from taming.data.batch import JOINTS
from taming.data.coco_entries import PICTURE, entries_of, is_id, is_number
from taming.data.matching import bare

logger = logging.getLogger(__name__)

PERSON = '{"image_id": 1, "category_id": 1, "keypoints": [x, y, visibility, ...]}'
CATEGORY = '{"id": 1, "keypoints": ["nose", ...]}'
_CAMELS = r"(?<=[a-z])(?=[A-Z])|(?<=^[LR])(?=[A-Z][a-z])"  # where leftWrist and LWrist part
_SYNONYMS = {
    "top_head": "head_top", "top_of_head": "head_top", "headtop": "head_top",
    "upper_neck": "neck", "neck_base": "neck", "throat": "neck",
}  # fmt: skip


def joint_index(name: str) -> int | None:
    """Position in JOINTS of a joint under any usual spelling, None for a joint we do not have."""
    words = re.sub(_CAMELS, "_", str(name))
    words = re.sub(r"[\s\-.]+", "_", words.strip()).casefold()
    words = re.sub(r"^(l|r)_", lambda m: {"l": "left_", "r": "right_"}[m[1]], words)
    words = re.sub(r"^(\w+?)_(left|right|l|r)$", _side_first, words)
    words = _SYNONYMS.get(words, words)
    return JOINTS.index(words) if words in JOINTS else None


def _side_first(match: re.Match[str]) -> str:
    return {"l": "left", "r": "right"}.get(match[2], match[2]) + "_" + match[1]


class People:
    """All people of a keypoints.json, by picture name."""

    def __init__(self, path: Path):
        self.path = path
        entries = read_json(path)
        if not isinstance(entries, Mapping) or not {"images", "annotations"} <= set(entries):
            raise ValueError(f"{path}: a COCO file has 'images' and 'annotations'")
        categories = entries_of(
            entries.get("categories", []), "categories", path, CATEGORY, _is_category
        )
        orders = {category["id"]: category.get("keypoints") for category in categories}
        columns = {key: self._columns(names) for key, names in orders.items() if names}
        self.sizes: dict[str, tuple[int, int] | None] = {}
        by_id: dict[Any, str] = {}
        for image in entries_of(entries["images"], "images", path, PICTURE, _is_picture):
            name = bare(image["file_name"])
            by_id[image["id"]] = name
            known = image.get("width") and image.get("height")
            self.sizes[name] = (int(image["height"]), int(image["width"])) if known else None
        self.people: dict[str, NDArray[np.float32]] = {}
        found: dict[str, list[NDArray[np.float32]]] = {}
        annotations = entries_of(
            entries["annotations"], "annotations", path, PERSON, _is_annotation
        )
        for annotation in filter(_is_person, annotations):
            if annotation["image_id"] not in by_id:
                raise ValueError(f"{path}: no picture has id {annotation['image_id']!r}")
            order = columns.get(annotation.get("category_id"), list(range(17)))
            person = self._person(annotation, order)
            if person[:, 2].any():
                found.setdefault(by_id[annotation["image_id"]], []).append(person)
        for name, people in found.items():
            self.people[name] = np.stack(sorted(people, key=_extent, reverse=True))

    def _columns(self, names: Sequence[str]) -> list[int | None]:
        columns = [joint_index(name) for name in names]
        if not any(column is not None for column in columns):
            raise ValueError(f"{self.path}: none of the joints {list(names)} is one of {JOINTS}")
        unknown = [name for name, column in zip(names, columns, strict=True) if column is None]
        if unknown:
            logger.info("%s: joints %s are not among ours and are left out", self.path, unknown)
        return columns

    def _person(self, annotation: Mapping[str, Any], order: Sequence[int | None]) -> NDArray:
        where = f"{self.path}: annotation {annotation.get('id')}"
        try:
            values = np.asarray(annotation["keypoints"], dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where} has words for keypoints ({error}); give {PERSON}") from error
        if values.size != 3 * len(order):
            raise ValueError(
                f"{where} has {values.size} numbers for {len(order)} joints; list the joints' "
                "names in categories[].keypoints"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{where} holds NaN or infinite coordinates; write 0, 0, 0 there")
        person = np.zeros((len(JOINTS), 3), dtype=np.float32)
        for column, (x, y, visibility) in zip(order, values.reshape(-1, 3), strict=True):
            if column is not None and visibility > 0:
                person[column] = x, y, 1.0
        return person

    def of(self, name: str, height: int, width: int) -> NDArray[np.float32] | None:
        """(N, 19, 3) of one picture of this size, largest person first; None where nobody is.

        Joints a little outside the picture become invisible; far outside, the file is wrong.
        """
        if name not in self.people:
            return None
        people = self.people[name].copy()
        stated = self.sizes[name] or (height, width)
        check_proportions(self.path, name, stated, (height, width))
        people[..., 0] *= width / stated[1]
        people[..., 1] *= height / stated[0]
        x, y, visible = people[..., 0], people[..., 1], people[..., 2] > 0
        margin = 0.25 * max(height, width)
        lost = (x < -margin) | (y < -margin) | (x > width + margin) | (y > height + margin)
        if (lost & visible).any():
            person, joint = np.argwhere(lost & visible)[0]
            raise ValueError(
                f"{self.path}: {JOINTS[joint]} of '{name}' is at x {x[person, joint]:.0f}, "
                f"y {y[person, joint]:.0f}, the picture is {height}x{width} (height x width); "
                "write visibility 0 for joints outside"
            )
        hide_outside(people, height, width)
        return people


def _is_category(entry: Mapping[str, Any]) -> bool:
    return is_id(entry.get("id")) and isinstance(entry.get("keypoints") or [], list | tuple)


def _is_picture(entry: Mapping[str, Any]) -> bool:
    """A size may be missing."""
    sides = [entry.get(side) or 1 for side in ("width", "height")]
    is_named = is_id(entry.get("id")) and isinstance(entry.get("file_name"), str)
    return is_named and all(is_number(side) and side >= 1 for side in sides)


def _is_annotation(entry: Mapping[str, Any]) -> bool:
    """Of a person, or of something that is left out."""
    category = entry.get("category_id")
    return not _is_person(entry) or (
        is_id(entry.get("image_id"))
        and (category is None or is_id(category))
        and isinstance(entry["keypoints"], list | tuple)
    )


def _is_person(entry: Mapping[str, Any]) -> bool:
    return not entry.get("iscrowd") and bool(entry.get("keypoints"))


def hide_outside(keypoints: NDArray[np.float32], height: int, width: int) -> None:
    """Makes joints outside the picture invisible, in place; pixel centres are at integers."""
    x, y = keypoints[..., 0], keypoints[..., 1]
    outside = (x < -0.5) | (y < -0.5) | (x > width - 0.5) | (y > height - 0.5)
    keypoints[..., 2][outside] = 0.0


def _extent(person: NDArray[np.float32]) -> float:
    seen = person[person[:, 2] > 0, :2]
    return float(np.prod(np.ptp(seen, axis=0) + 1.0))
