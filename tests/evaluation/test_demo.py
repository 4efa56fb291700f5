"""The demos from end to end with a budget of seconds, and what their pages promise."""

import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from PIL import Image
from rich.console import Console

import taming
from taming.evaluation.demo import paint_page
from taming.evaluation.demo_page import write_sheet
from taming.evaluation.demo_tasks import TASKS, Painted, Scenes
from taming.evaluation.demo_training import JOURNAL, Demo, Plan
from taming.evaluation.journal import Journal, clock

PLAN = Plan(
    scenes=24,
    size=32,
    people=False,
    tokenizer=(
        "data.params.size=32",
        "data.params.epoch_size=32",
        "data.params.num_workers=0",
        "model.params.n_embed=32",
        "model.params.ddconfig.ch=32",
        "model.params.lossconfig.params.perceptual_weight=0",
    ),
    painter=(
        "data.params.size=32",
        "data.params.epoch_size=64",
        "data.params.num_workers=0",
        "data.params.codes.draws=1",
        "model.params.transformer_config.params.codebook_size=32",
        "model.params.transformer_config.params.width=32",
        "model.params.transformer_config.params.heads=2",
        "model.params.transformer_config.params.layers=2",
        "model.params.transformer_config.params.trunk_layers=1",
    ),
    leave_out=("text",),
    examples=1,
    samples=2,
    workers=1,
)
QUIET = Console(quiet=True)


class Made(NamedTuple):
    folder: Path
    page: str
    written: dict[str, float]  # run -> when its weights were written


def weights(folder: Path) -> dict[str, float]:
    return {
        file.parent.name: os.stat(file).st_mtime
        for file in (folder / "runs").glob("*/weights.safetensors")
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("demo")
    page = Demo(folder, PLAN, QUIET).run()
    return Made(folder, page.read_text(encoding="utf-8"), weights(folder))


def test_both_stages_are_trained(made: Made) -> None:
    assert set(made.written) == {"demo", "demo_tokenizer"}


def test_every_task_that_needs_no_extra_is_on_the_page(made: Made) -> None:
    shown = set(re.findall(r'<section id="(\w+)">', made.page)) - {"codes"}
    assert shown == {task.name for task in TASKS} - {"pose", "text", "two", "three"}


def missing_pictures(page: str, folder: Path) -> list[str]:
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    return [name for name in sources if not (folder / name).is_file()]


def test_every_picture_of_the_page_exists(made: Made) -> None:
    assert missing_pictures(made.page, made.folder) == []


def test_a_model_that_is_there_paints_scenes_of_its_own(made: Made, tmp_path: Path) -> None:
    run = str(made.folder / "runs" / "demo")
    page = paint_page(run, tmp_path, QUIET, scenes=12, people=False).read_text("utf-8")
    assert {"depth", "vary", "panorama"} <= set(re.findall(r'<section id="(\w+)">', page))
    assert f'taming.load("{run}")' in page
    assert missing_pictures(page, tmp_path) == []
    with Image.open(tmp_path / "images" / "panorama_0_seed0.png") as panorama:
        assert panorama.size == (4 * 32, 32)


def test_a_first_stage_cannot_paint_the_page(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model of several conditions"):
        paint_page(str(made.folder / "runs" / "demo_tokenizer"), tmp_path, QUIET)
    assert list(tmp_path.iterdir()) == []


def test_the_page_needs_no_network(made: Made) -> None:
    assert "://" not in made.page
    assert "<script" not in made.page


def test_a_sample_of_the_page_repaints_itself(made: Made) -> None:
    path = made.folder / "images" / "depth_0_seed1.png"
    again = taming.load(made.folder / "runs" / "demo").repaint(path)
    with Image.open(path) as kept:
        assert kept.convert("RGB").tobytes() == again.tobytes()


def test_a_second_run_keeps_what_is_finished(made: Made) -> None:
    time.sleep(0.01)
    Demo(made.folder, PLAN, QUIET).run()
    assert weights(made.folder) == made.written


def test_only_held_out_scenes_are_shown(made: Made) -> None:
    scenes = Scenes(made.folder / "worlds", PLAN.size)
    told = json.loads((made.folder / "worlds" / "split.json").read_text())
    assert set(scenes.names) == set(told["validation"])
    assert not set(scenes.names) & set(told["train"])
    truths = [scenes.image(name).tobytes() for name in scenes.names]
    for task in TASKS:
        for example in task.examples(scenes):
            seen = example.varied if example.truth is None else example.truth
            assert seen is None or seen.tobytes() in truths


def test_scenes_that_are_added_take_their_time_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def render(scenes: int, size: int, folder: Path, **options: Any) -> None:
        time.sleep(0.2)
        folder.mkdir(exist_ok=True)
        (folder / "worlds.json").write_text(str(scenes))

    monkeypatch.setattr("taming.evaluation.demo_training.render_set", render)
    taken = []
    for scenes in (24, 30, 30):
        demo = Demo(tmp_path, replace(PLAN, scenes=scenes), QUIET)
        demo._render()
        taken.append(demo.seconds["scenes"])
    assert 0.2 <= taken[0] < taken[1] == taken[2]


@pytest.mark.parametrize("before", [None, "other settings"])
def test_a_training_that_was_stopped_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    """What little it had learned was kept for good, also in the place of what had been finished."""
    monkeypatch.setattr("taming.training.run.train", lambda config, runs: runs)
    monkeypatch.setattr("taming.training.callbacks.was_stopped", lambda run: True)
    demo = Demo(tmp_path, PLAN, QUIET)
    if before is not None:
        demo.journal.finish("painter", before, 12.0)
    with pytest.raises(KeyboardInterrupt):
        demo._train("painter", "Second stage", {"name": "demo"}, "before")
    assert Journal(tmp_path / JOURNAL).entries == {}


def test_other_settings_are_not_what_was_finished(tmp_path: Path) -> None:
    Journal(tmp_path / JOURNAL).finish("painter", "these", 12.0)
    journal = Journal(tmp_path / JOURNAL)
    assert journal.seconds("painter", "these") == 12.0
    assert journal.seconds("painter", "those") is None
    assert journal.seconds("tokenizer", "these") is None


def test_a_set_of_other_settings_is_refused(made: Made) -> None:
    with pytest.raises(ValueError, match="another set"):
        Demo(made.folder, Plan(scenes=24, size=40, people=False, workers=1), QUIET).run()


def test_the_sheet_takes_examples_of_any_number(tmp_path: Path) -> None:
    tile = Image.new("RGB", (8, 8))
    one = Painted([tile], "", [tile, tile], tile)
    two = Painted([tile, tile], "words", [tile, tile], None)
    wide = Painted([tile], "", [Image.new("RGB", (16, 8))], None)
    painted = {TASKS[0]: [one], TASKS[1]: [two, one], TASKS[-1]: [wide]}
    sheet = Image.open(write_sheet(painted, tmp_path / "a.png"))
    assert sheet.width > sheet.height


def test_clock() -> None:
    assert clock(192.3) == "3:12"
