"""Commands that do the work of the original's scripts, on tiny published models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import taming
from taming import cli
from taming.config import instantiate_from_config
from taming.prefix_pipeline import PrefixPipeline
from taming.provenance import read_record

COCO = {
    "images": [
        {"id": 7, "file_name": "seven.jpg", "width": 40, "height": 20},
        {"id": 9, "file_name": "nine.jpg", "width": 20, "height": 20},
    ],
    "annotations": [
        {"image_id": 7, "category_id": 18, "bbox": [10, 0, 20, 20]},
        {"image_id": 9, "category_id": 1, "bbox": [0, 0, 10, 20]},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}],
}


@pytest.fixture
def painting(monkeypatch: pytest.MonkeyPatch, published_stage) -> Any:
    """`taming.load` gives a model of the kind named; pipelines remember what they were told."""
    calls: list[dict[str, Any]] = []
    paint = PrefixPipeline.paint

    def remember(self: PrefixPipeline, **options: Any) -> list[Image.Image]:
        calls.append(options)
        return paint(self, **options)

    def load(model: str, **options: Any) -> PrefixPipeline:
        return PrefixPipeline(instantiate_from_config(published_stage(model)), model)

    monkeypatch.setitem(taming.__dict__, "load", load)
    monkeypatch.setattr(PrefixPipeline, "paint", remember)
    return calls


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return int(ended.value.code or 0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_many_classes_in_one_call(painting, tmp_path: Path) -> None:
    words = ["--class", "5,2", "--seeds", "0-1", "--top-k", "9", "--out", str(tmp_path / "out")]
    assert run("paint", "--model", "class", *words) == 0
    assert names(tmp_path / "out") == [
        "0002-0000.png", "0002-0001.png", "0005-0000.png", "0005-0001.png",
    ]  # fmt: skip
    assert read_record(tmp_path / "out" / "0005-0001.png")["seed"] == 1
    assert [call["top_k"] for call in painting] == [9, 9]


def test_without_condition(painting, tmp_path: Path) -> None:
    assert run("paint", "--model", "none", "--seeds", "3-4", "--out", str(tmp_path / "out")) == 0
    assert names(tmp_path / "out") == ["0003.png", "0004.png"]


def test_a_folder_of_maps_paints_from_each(painting, tmp_path: Path) -> None:
    for name in ("a", "b"):
        path = tmp_path / "depth" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
    words = ["--depth", str(tmp_path / "depth"), "--out", str(tmp_path / "out")]
    assert run("paint", "--model", "depth", *words) == 0
    assert names(tmp_path / "out") == ["a-0000.png", "b-0000.png"]


def test_many_pictures_do_not_go_into_one_file(painting, tmp_path: Path, capsys) -> None:
    words = ["paint", "--model", "class", "--class", "1,2", "--out", str(tmp_path / "one.png")]
    assert run(*words) == 2
    assert "give a folder, or --grid" in capsys.readouterr().err
    assert run(*words, "--grid") == 0
    assert names(tmp_path) == ["one.png"]


def test_half_completion(painting, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    out = tmp_path / "half.png"
    words = ["complete", str(photo), "--model", "coord", "--out", str(out)]
    assert run(*words, "--half", "--window", "block") == 0
    assert np.array_equal(np.asarray(Image.open(out))[:8], pixels[:8])
    assert painting[0]["window"] == "block"
    assert run(*words) == 2
    assert run(*words, "--half", "--mask", str(photo)) == 2


def test_scenes_lie_beside_drawings_of_their_boxes(painting, tmp_path: Path) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(COCO))
    out = tmp_path / "out"
    assert run("scenes", str(file), "--model", "boxes", "--seeds", "0-1", "--out", str(out)) == 0
    assert names(out) == [
        "nine-0000.png", "nine-0001.png", "nine-boxes.png",
        "seven-0000.png", "seven-0001.png", "seven-boxes.png",
    ]  # fmt: skip
    drawing = np.asarray(Image.open(out / "nine-boxes.png"))
    assert drawing.shape == (16, 16, 3)
    assert (drawing != 255).any()
    assert run("scenes", str(file), "--model", "boxes", "--limit", "1", "--out", str(out)) == 0


def test_scenes_need_a_scene_model(painting, tmp_path: Path, capsys) -> None:
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(COCO))
    assert run("scenes", str(file), "--model", "class", "--out", str(tmp_path / "out")) == 2
    assert "does not paint from boxes" in capsys.readouterr().err


def test_annotate_hands_on_its_words(tmp_path: Path, monkeypatch, capsys) -> None:
    calls: list[tuple[Any, ...]] = []

    def annotate(*words: Any, progress: Any, **options: Any) -> int:
        calls.append((*words, options))
        return 3

    monkeypatch.setattr("taming.annotators.annotate", annotate)
    words = ["annotate", "pose", str(tmp_path), "--model", "some/pose", "--detector", "some/finder"]
    assert run(*words) == 0
    options = {"device": "cpu", "detector": "some/finder"}
    assert calls == [("pose", tmp_path, "some/pose", options)]
    assert "pose of 3 pictures" in capsys.readouterr().out
    assert run("annotate", "depth", *words[2:]) == 2
