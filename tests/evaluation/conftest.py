"""A set of pictures that even a tiny judge understands."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIZE = (32, 48)


@pytest.fixture(scope="session")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set so easy that a tiny judge learns it: a bright block on dark ground, which is near,
    labelled, and has the person's joints at its corners."""
    root = tmp_path_factory.mktemp("sets") / "blocks"
    for folder in ("images", "labels", "depth"):
        (root / folder).mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations, names = [], [], [f"{n:02d}" for n in range(24)]
    for number, name in enumerate(names):
        top, left = int(rng.integers(2, 12)), int(rng.integers(2, 24))
        pixels = rng.integers(0, 60, (*SIZE, 3)).astype(np.uint8)
        labels = np.zeros(SIZE, np.uint8)
        place = (slice(top, top + 16), slice(left, left + 20))
        pixels[place] += 150
        labels[place] = 1
        depth = np.where(labels, 2.0, 8.0) * np.linspace(1.0, 0.8, SIZE[0])[:, None]
        Image.fromarray(pixels).save(root / "images" / f"{name}.png")
        Image.fromarray(labels).save(root / "labels" / f"{name}.png")
        np.save(root / "depth" / f"{name}.npy", depth.astype(np.float32))
        corners = [left, top, 2, left + 19, top, 2, left, top + 15, 2, left + 19, top + 15, 2]
        images.append({"id": number, "file_name": f"{name}.png", "height": 32, "width": 48})
        annotations.append({"image_id": number, "category_id": 1, "keypoints": corners})
    # Not eyes or shoulders: mirroring would exchange their names, which corners do not tell.
    joints = ["nose", "neck", "head_top", "left_ear"]
    coco = {"images": images, "annotations": annotations}
    coco["categories"] = [{"id": 1, "name": "person", "keypoints": joints}]
    (root / "keypoints.json").write_text(json.dumps(coco))
    (root / "label_names.json").write_text(json.dumps({"0": "ground", "1": "block"}))
    (root / "depth.json").write_text(json.dumps({"kind": "metric"}))
    (root / "split.json").write_text(json.dumps({"train": names[:16], "validation": names[16:]}))
    return root
