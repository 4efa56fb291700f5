"""Ablations from end to end with a second for each training, and what their report promises."""

import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from benchmarks.ablations import Ablations, Plan
from benchmarks.ablations_figure import WIDTH
from benchmarks.ablations_meter import held_out
from benchmarks.ablations_training import (
    Snapshot,
    StoppedEarly,
    model_at,
    snapshots,
    train_for,
)
from benchmarks.ablations_variants import FIRST, NAMED, config_of
from taming.checkpoint import read_state_dict, save_weights
from taming.config import load_config, plain
from taming.training.callbacks import TimeLimit

PLAN = Plan(
    minutes=0.01,
    first_stage_minutes=0.01,
    scenes=20,
    size=32,
    people=False,
    pictures=6,
    judge_draws=16,
    judge_steps=2,
    rounds=1,
    tokenizer=(
        "data.params.num_workers=0",
        "data.params.batch_size=2",
        "model.params.n_embed=32",
        "model.params.ddconfig.ch=32",
        "model.params.lossconfig.params.perceptual_weight=0",
    ),
    painter=(
        "data.params.num_workers=0",
        "data.params.batch_size=2",
        "data.params.codes.draws=1",
        "model.params.transformer_config.params.codebook_size=32",
        "model.params.transformer_config.params.width=32",
        "model.params.transformer_config.params.heads=2",
        "model.params.transformer_config.params.layers=2",
    ),
    workers=1,
)
ONLY = ("plain_256", "base", "prefix", "labels_only")
QUIET = Console(quiet=True)


class Made(NamedTuple):
    folder: Path
    report: dict[str, Any]
    text: str


def weights(folder: Path) -> dict[str, float]:
    """Run -> when its weights were written."""
    return {
        file.parent.name: file.stat().st_mtime
        for file in (folder / "runs").glob("*/weights.safetensors")
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("ablations")
    page = Ablations(folder, PLAN, QUIET).run(ONLY)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    return Made(folder, report, page.read_text("utf-8"))


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, int | float):
        yield float(value)


def test_what_was_asked_for_is_trained_and_the_rest_is_named(made: Made) -> None:
    assert set(made.report["variants"]) == {FIRST, *ONLY}
    assert set(made.report["not trained"]) == set(NAMED) - {FIRST, *ONLY}
    assert weights(made.folder).keys() == {FIRST, *ONLY}


def test_questions_have_all_their_tables(made: Made) -> None:
    """`order` has two entries that are trained, since its base is sampled in two ways."""
    found = {question["name"]: question for question in made.report["questions"]}
    assert set(found) == {"control", "order", "tasks", "codebook"}
    for name, question in found.items():
        table = question["tables"][0]
        parts = {"kept"} if name == "codebook" else {"nats", "obedience"}
        assert parts <= set(table)
        assert all(table[part] for part in parts)
        assert question["curves"]


def test_all_numbers_are_finite(made: Made) -> None:
    found = list(numbers(made.report["questions"]))
    assert len(found) > 100
    assert all(map(math.isfinite, found))


def test_differences_are_from_the_first_line(made: Made) -> None:
    (control,) = (q for q in made.report["questions"] if q["name"] == "control")
    for rows in (control["tables"][0]["nats"], control["tables"][0]["obedience"]):
        for row in rows:
            assert (row["difference"] is None) == (row["variant"] == "base")
    nats = {(r["variant"], r["given"], r["kind"]): r for r in control["tables"][0]["nats"]}
    own, base = (nats[name, "labels", "raster"] for name in ("prefix", "base"))
    assert own["difference"] == pytest.approx(own["mean"] - base["mean"])


def test_a_model_of_one_task_is_asked_that_task_only(made: Made) -> None:
    (tasks,) = (q for q in made.report["questions"] if q["name"] == "tasks")
    table = tasks["tables"][0]
    own = [row for row in table["obedience"] if row["variant"] == "labels_only"]
    assert {row["task"] for row in own} == {"labels"}
    given = {row["given"] for row in table["nats"] if row["variant"] == "labels_only"}
    assert given == {"nothing", "labels"}
    kinds = {row["kind"] for row in table["nats"] if row["variant"] == "labels_only"}
    assert "known" not in kinds


def test_models_of_one_task_are_also_given_one_budget_together(made: Made) -> None:
    (tasks,) = (q for q in made.report["questions"] if q["name"] == "tasks")
    whole, shared = tasks["tables"][:2]
    assert "no more minutes together" in shared["moment"]
    assert shared["examples"]["base"] == whole["examples"]["base"]
    assert shared["examples"]["labels_only"] <= whole["examples"]["labels_only"]
    run = made.folder / "runs"
    half = snapshots(run / "base")[-1].seconds / 2
    own = snapshots(run / "labels_only")
    within = [each for each in own if each.seconds <= half] or own[:1]
    assert shared["examples"]["labels_only"] == 2 * within[-1].step  # pictures in a batch
    assert {(row["given"], row["kind"]) for row in shared["nats"]} == {
        ("labels", "random"), ("depth", "random"),
    }  # fmt: skip


def test_the_page_says_what_the_numbers_cannot_tell(made: Made) -> None:
    assert all(text in made.text for text in made.report["cannot tell"])
    widths = {}
    for line in made.text.splitlines():
        if line.startswith("|"):
            widths.setdefault(line.count("|"), []).append(line)
    assert len(widths) == 4  # kinds of tables: variants, nats, obedience, first stages
    assert "nan" not in made.text


def test_the_figure_and_the_sheets_show_something(made: Made) -> None:
    for name in ("ablations", "labels", "depth"):
        with Image.open(made.folder / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10


def test_a_sheet_has_a_column_for_each_variant_that_knows_the_task(made: Made) -> None:
    def columns(name: str) -> float:
        with Image.open(made.folder / f"{name}.png") as picture:
            return (picture.width - 8) / (WIDTH + 4)

    # The condition, the true picture, its reconstruction; the base sampled twice, the prefix.
    assert columns("depth") == 6
    assert columns("labels") == 7


def test_a_second_run_keeps_what_is_finished(made: Made) -> None:
    before = weights(made.folder)
    time.sleep(0.01)
    Ablations(made.folder, PLAN, QUIET).run(("base",))
    assert weights(made.folder) == before
    assert json.loads((made.folder / "report.json").read_text("utf-8")) == made.report


def test_all_second_stages_have_one_first_stage_and_one_cache(made: Made) -> None:
    assert len(list((made.folder / "codes").iterdir())) == 1
    for name in ("base", "prefix"):
        assert not (made.folder / "runs" / name / "cache").exists()
    first = read_state_dict(made.folder / "runs" / FIRST / "weights.safetensors")
    own = read_state_dict(made.folder / "runs" / "prefix" / "weights.safetensors")
    assert all(torch.equal(own[f"first_stage_model.{name}"], first[name]) for name in first)


def test_the_last_snapshot_is_the_model_that_was_left(made: Made) -> None:
    run = made.folder / "runs" / "prefix"
    kept = snapshots(run)
    assert kept[-1].seconds >= 60 * PLAN.minutes
    model = model_at(run, kept[-1])
    left = read_state_dict(run / "weights.safetensors")
    own = model.state_dict()
    assert own.keys() == left.keys()
    assert all(torch.equal(own[name], left[name]) for name in left)


def test_data_that_cannot_be_judged_is_refused_before_anything_is_trained(made: Made) -> None:
    with pytest.raises(ValueError, match="4 are needed"):
        held_out(made.folder / "worlds", 32, pictures=3)


# --- stopping ------------------------------------------------------------------------------------


def first_stage(made: Made, minutes: float, *overrides: str) -> dict[str, Any]:
    config = config_of(
        NAMED[FIRST], data=made.folder / "worlds", size=PLAN.size, minutes=minutes,
        overrides=PLAN.tokenizer + overrides,
    )  # fmt: skip
    return config | {"name": "stopped"}


def stop_after_two_steps(made: Made, run: Path) -> Snapshot:
    with pytest.raises(StoppedEarly, match="goes on"):
        train_for(first_stage(made, 60.0, "trainer.max_steps=2"), run, go_on=False)
    (early,) = snapshots(run)
    return early


def go_on_for_a_moment(made: Made, run: Path, early: Snapshot) -> float:
    """Returns the minutes that it was to train in all."""
    minutes = early.seconds / 60 + 0.002
    train_for(first_stage(made, minutes, "trainer.max_steps=-1"), run, go_on=True)
    return minutes


def test_a_training_that_ends_where_weights_are_kept_is_complete(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were kept a moment before the time was over, and said so: it seemed to be stopped."""
    readings = itertools.count(1)
    monkeypatch.setattr(TimeLimit, "seconds", lambda clock: 0.05 * next(readings))
    monkeypatch.setattr("benchmarks.ablations_training.is_kept", lambda step: True)
    run = tmp_path / "stopped"
    train_for(first_stage(made, 0.1 / 60), run, go_on=False)
    assert [snapshot.step for snapshot in snapshots(run)] == [1]


def test_a_stopped_training_goes_on(made: Made, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    early = stop_after_two_steps(made, run)
    assert early.step == 2
    minutes = go_on_for_a_moment(made, run, early)
    kept = snapshots(run)
    assert kept[0] == early  # it was not begun anew
    assert kept[-1].step > 2
    assert kept[-1].seconds >= 60 * minutes


def test_a_training_of_other_settings_begins_anew(made: Made, tmp_path: Path) -> None:
    run = tmp_path / "stopped"
    for steps in (3, 2):
        with pytest.raises(StoppedEarly):
            train_for(first_stage(made, 60.0, f"trainer.max_steps={steps}"), run, go_on=False)
    assert [each.step for each in snapshots(run)] == [2]
    assert plain(load_config(run / "config.yaml"))["trainer"]["max_steps"] == 2


def test_snapshots_after_the_checkpoint_are_told_again(made: Made, tmp_path: Path) -> None:
    """Left by a training that was cut: they are of steps that a slower second try may not reach."""
    run = tmp_path / "stopped"
    early = stop_after_two_steps(made, run)
    stale = early.path.with_name("9000000.safetensors")
    save_weights(stale, read_state_dict(early.path), {"steps": "9000000", "seconds": "0.0"})
    go_on_for_a_moment(made, run, early)
    assert not stale.exists()
