"""A set of pictures that even a tiny judge understands, and a run that was never trained on it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taming.checkpoint import save_weights
from taming.config import instantiate_from_config, to_yaml
from taming.evaluation.records import open_sets

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


@pytest.fixture
def never_both(blocks: Path, tmp_path: Path) -> Path:
    """The set, in which two asked pictures have depth and the other two have labels."""
    data = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    held = open_sets([{"path": str(blocks), "size": SIZE}], {})[0]
    names = [held.part.names[index] for index in held.asked]
    for name in names[:2]:
        (data / "labels" / f"{name}.png").unlink()
    for name in names[2:]:
        (data / "depth" / f"{name}.npy").unlink()
    return data


@pytest.fixture(scope="session")
def tiny_run(
    tmp_path_factory: pytest.TempPathFactory, blocks: Path, second_stage: Callable[..., Any]
) -> Path:
    """The directory of a second-stage run that nobody has trained, on `blocks`."""
    names = ("labels", "depth", "lowres", "known")
    model = second_stage(names, sizes=((32, 48),), width=16, layers=2)
    model["params"]["cond_stage_config"]["labels"]["params"]["names"] = ["block", "ground"]
    sets = [{"path": str(blocks), "size": [32, 48], "scale": [1.0, 1.5]}]
    params = {"sets": sets, "batch_size": 2, "codes": {"draws": 1}}
    data = {"target": "taming.training.codes_data.CodesData", "params": params}
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    save_weights(folder / "weights.safetensors", instantiate_from_config(model).state_dict())
    (folder / "config.yaml").write_text(to_yaml({"model": model, "data": data}))
    return folder
