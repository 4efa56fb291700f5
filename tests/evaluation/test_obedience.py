"""Obedience: painters that copy the truth, painters that ignore it, and the report between."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from taming.checkpoint import save_weights
from taming.cond_stage.depth import Depth
from taming.cond_stage.labels import Labels
from taming.config import instantiate_from_config, to_yaml
from taming.data.transforms import to_image
from taming.evaluation.figures import draw_curves, grouped, read_history, sample_sheet
from taming.evaluation.judges import DepthJudge, JudgeConfig, LabelJudge
from taming.evaluation.obedience import (
    Record,
    Task,
    checked,
    evaluate,
    judged,
    painted,
    parse_task,
    sheet_of,
    to_picture,
)

SIZE = (16, 24)


class BrightIsBlock(LabelJudge):
    """Reads labels as a picture of two tones shows them."""

    def read(self, images: Tensor) -> Tensor:
        return (images.mean(dim=1) > 0).long()


class BrightIsNear(DepthJudge):
    def read(self, images: Tensor) -> Tensor:
        return images.mean(dim=1, keepdim=True)


PANEL: dict[str, Any] = {
    "labels": BrightIsBlock(JudgeConfig("labels", "", SIZE, ("ground", "block"), widths=(8,))),
    "depth": BrightIsNear(JudgeConfig("depth", "", SIZE, widths=(8,))),
}
CONDITIONS: dict[str, Any] = {
    "labels": Labels(8, 4, ["ground", "block"]),
    "depth": Depth(8, 4),
}


def records() -> list[Record]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(8):
        labels = torch.from_numpy((rng.random((4, 6)) > 0.5).repeat(4, 0).repeat(4, 1)).long()
        depth = labels[None] * 2.0 - 1.0
        picture = to_picture(depth.expand(3, *SIZE) * 0.5)
        made.append(Record(f"{number}", picture, {"labels": labels, "depth": depth}))
    return made


def report_of(pictures: list[Image.Image]) -> dict[str, dict[str, dict[str, float | None]]]:
    made = records()
    return judged(PANEL, made, [r.picture for r in made], pictures, CONDITIONS)


def test_shuffled_scores_are_below_those_of_a_painter_that_copies_the_truth() -> None:
    report = report_of([record.picture for record in records()])
    for name, measure in (("labels", "mIoU"), ("labels", "accuracy"), ("depth", "Spearman")):
        row = report[name][measure]
        assert row["sampled"] == row["true"] == row["reconstructed"] == pytest.approx(1.0)
        assert row["shuffled"] == row["true, shuffled"]
        assert float(row["shuffled"] or 0) < 0.75
    assert report["labels"]["contested accuracy"]["shuffled"] == 0.0
    depth = report["depth"]["RMSE"]
    assert float(depth["sampled"] or 0) < float(depth["shuffled"] or 0)


def test_a_painter_that_ignores_its_conditions_is_no_better_than_shuffled() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (8, *SIZE, 1)).repeat(3, -1).astype(np.uint8)
    report = report_of([Image.fromarray(pixels) for pixels in noise])
    assert report["labels"]["accuracy"]["ratio"] == pytest.approx(1.0, abs=0.15)
    assert abs(report["depth"]["centred correlation"]["sampled"] or 0) < 0.15


def test_record_i_is_painted_with_seed_i_from_its_own_values() -> None:
    made, calls = records(), []

    def paint(values: dict[str, Tensor], size: tuple[int, int], seed: int) -> Image.Image:
        calls.append((values, size, seed))
        return made[seed].picture

    steps: list[tuple[int, int]] = []
    painted(made, SIZE, paint, lambda done, places: steps.append((done, places)))
    assert [seed for _, _, seed in calls] == list(range(8))
    assert all(values is record.values for (values, _, _), record in zip(calls, made, strict=True))
    assert steps[-1] == (8, 8)


def test_pictures_survive_the_way_to_eight_bits_and_back() -> None:
    pixels = torch.randint(0, 256, (3, *SIZE), generator=torch.Generator().manual_seed(0))
    image = pixels / 127.5 - 1.0
    assert torch.allclose(to_image(np.asarray(to_picture(image))), image, atol=1e-6)


def test_tasks_are_written_as_set_and_conditions() -> None:
    task = parse_task("rooms:depth+labels")
    assert task == Task("rooms", ("depth", "labels"))
    assert str(task) == "rooms:depth+labels"
    with pytest.raises(ValueError, match="SET:CONDITION"):
        parse_task("rooms")


def test_a_task_that_the_sets_cannot_judge_names_those_they_can() -> None:
    available = [Task("rooms", ("depth",)), Task("streets", ("labels",))]
    assert checked(available[0], available) is available[0]
    with pytest.raises(ValueError, match=r"rooms:pose.*rooms:depth, streets:labels"):
        checked(Task("rooms", ("pose",)), available)


def test_a_sheet_shows_every_record_once(tmp_path: Path) -> None:
    made = records()
    path = tmp_path / "new" / "sheet.png"
    sheet_of(made, [record.picture for record in made], CONDITIONS, path)
    with Image.open(path) as sheet:
        assert sheet.width > 3 * 4 * SIZE[1]
        assert sheet.height > 3 * SIZE[0]
    with pytest.raises(ValueError, match="titles"):
        sample_sheet([[np.zeros((4, 4, 3), np.uint8)]], ["one", "two"])


def test_curves_are_drawn_from_a_history(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = ["step,seconds,name,value", "1,0.1,train/loss,3.0", "2,0.2,train/loss,2.0"]
    lines += ["2,0.3,validation/loss,2.5", "1,0.1,learning_rate,1", "2,0.1,learning_rate,2"]
    (tmp_path / "history.csv").write_text("\n".join(lines) + "\n")
    panels = grouped(read_history(tmp_path / "history.csv"))
    assert panels == {"loss": {"train": [(1, 3.0), (2, 2.0)], "validation": [(2, 2.5)]}}
    draw_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width > 300


@pytest.fixture
def run(tmp_path: Path, blocks: Path, second_stage: Callable[..., dict[str, Any]]) -> Path:
    """The directory of a second-stage run that nobody has trained."""
    model = second_stage(("labels", "depth"), sizes=((32, 48),), width=16, layers=2)
    model["params"]["cond_stage_config"]["labels"]["params"]["names"] = ["block", "ground"]
    sets = [{"path": str(blocks), "size": [32, 48]}]
    params = {"sets": sets, "batch_size": 2, "codes": {"draws": 1}}
    data = {"target": "taming.training.codes_data.CodesData", "params": params}
    folder = tmp_path / "run"
    save_weights(folder / "weights.safetensors", instantiate_from_config(model).state_dict())
    (folder / "config.yaml").write_text(to_yaml({"model": model, "data": data}))
    return folder


def test_a_run_is_judged_from_its_directory_alone(run: Path, tmp_path: Path) -> None:
    tasks = [Task("blocks", ("depth", "labels"))]
    options: dict[str, Any] = {"count": 4, "steps": 2, "judge_steps": 2, "tasks": tasks}
    report = evaluate(run, tmp_path / "judges", tmp_path / "out", **options)
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == report
    assert report["records"] == {"blocks:depth+labels": 4}
    assert report["judges"]["blocks:depth"]["steps"] == 2
    scores = report["tasks"]["blocks:depth+labels"]
    columns = {"true", "true, shuffled", "reconstructed", "sampled", "shuffled", "ratio"}
    assert set(scores["labels"]["mIoU"]) == set(scores["depth"]["RMSE"]) == columns
    assert (tmp_path / "out" / "blocks_depth+labels.png").is_file()
    again = evaluate(run, tmp_path / "judges", tmp_path / "again", **options)
    assert again == report  # judges and seeds are the same


def test_a_task_of_another_set_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"blocks:depth, blocks:labels"):
        evaluate(run, tmp_path, tmp_path, tasks=[Task("rooms", ("depth",))])
