"""Small sets on disk, made by the tests themselves."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COCO_BODY = ("left_shoulder", "right_shoulder", "left_hip", "right_hip")


def draw_picture(number: int, height: int, width: int) -> Image.Image:
    """Smooth and different for each number; red grows to the right, green downwards."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:height, :width]
    red = columns * 255 // max(width - 1, 1)
    green = rows * 255 // max(height - 1, 1)
    blue = np.full((height, width), rng.integers(256))
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8))


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    """Writes a paired folder: pictures, labels, depth, joints, classes and captions."""

    def make(
        name: str = "rooms",
        count: int = 6,
        size: tuple[int, int] = (24, 32),
        label_names: tuple[str, ...] = ("sky", "ground", "unlabelled"),
        split: dict[str, list[str]] | None = None,
    ) -> Path:
        root = tmp_path / name
        height, width = size
        for folder in ("images", "labels", "depth"):
            (root / folder).mkdir(parents=True)
        stems = [f"{number:03}" for number in range(count)]
        _, columns = np.mgrid[:height, :width]
        for number, stem in enumerate(stems):
            draw_picture(number, height, width).save(root / "images" / f"{stem}.png")
            labels = (columns * len(label_names) // width).astype(np.uint8)
            Image.fromarray(labels).save(root / "labels" / f"{stem}.png")
            depth = (1000 + 100 * columns).astype(np.uint16)
            Image.fromarray(depth).save(root / "depth" / f"{stem}.png")
        write = {
            "label_names.json": {str(i): label for i, label in enumerate(label_names)},
            "depth.json": {"kind": "metric", "scale": 0.001, "invalid": 0},
            "keypoints.json": coco(stems, size),
            "boxes.json": boxes(stems, size),
            "class_labels.json": {
                "names": {"0": "summer", "1": "winter"},
                "images": {stem: i % 2 for i, stem in enumerate(stems)},
            },
            "captions.json": {stem: [f"picture {stem}", f"again {stem}"] for stem in stems},
        }
        if split is not None:
            write["split.json"] = split
        for file, content in write.items():
            (root / file).write_text(json.dumps(content), encoding="utf-8")
        return root

    return make


def coco(stems: list[str], size: tuple[int, int]) -> dict:
    """One person a picture, whose left side is on the picture's right, as seen from the front."""
    height, width = size
    left, right = 0.75 * width, 0.25 * width
    joints = [left, 0.25 * height, 2, right, 0.25 * height, 2]
    joints += [left, 0.75 * height, 2, right, 0.75 * height, 2]
    return {
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_BODY)}],
        "images": [
            {"id": i, "file_name": f"{stem}.png", "height": height, "width": width}
            for i, stem in enumerate(stems)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "keypoints": joints}
            for i in range(len(stems))
        ],
    }


def boxes(stems: list[str], size: tuple[int, int]) -> dict:
    """One box a picture: the middle of its left half."""
    height, width = size
    box = [0.0, 0.25 * height, 0.5 * width, 0.5 * height]
    return {
        "categories": [{"id": 7, "name": "chair", "supercategory": "furniture"}],
        "images": [
            {"id": i, "file_name": f"{stem}.png", "height": height, "width": width}
            for i, stem in enumerate(stems)
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 7, "iscrowd": 0, "bbox": box}
            for i in range(len(stems))
        ],
    }
