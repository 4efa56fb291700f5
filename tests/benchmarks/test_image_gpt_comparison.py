"""What both sides are asked, settings that a folder keeps, and the report."""

import inspect
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from benchmarks import image_gpt, image_gpt_pictures, image_gpt_report
from benchmarks.image_gpt_comparison import album_settings, fitting, planned
from benchmarks.image_gpt_measures import Line, Networks, Pictures
from benchmarks.image_gpt_model import SIDE, Shape, build
from benchmarks.image_gpt_options import Options, keep_settings
from benchmarks.image_gpt_pictures import Asked
from benchmarks.image_gpt_training import Learnt, Plan
from taming.config import instantiate_from_config
from taming.evaluation.judge_training import judge_config
from taming.evaluation.report import silent
from taming.pipeline import Pipeline


def picture(seed: int, side: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of 64x64 with label maps, eight of them held out."""
    root = tmp_path_factory.mktemp("sets") / "noise"
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    names = [f"{n:02d}" for n in range(10)]
    for number, name in enumerate(names):
        picture(number, 64).save(root / "images" / f"{name}.png")
        labels = np.full((64, 64), number % 2, np.uint8)
        Image.fromarray(labels).save(root / "labels" / f"{name}.png")
    (root / "label_names.json").write_text(json.dumps({"0": "sky", "1": "sea"}))
    split = {"train": names[:2], "validation": names[2:]}
    (root / "split.json").write_text(json.dumps(split))
    return root


@pytest.fixture(scope="module")
def pipeline(second_stage: Callable[..., dict[str, Any]]) -> Pipeline:
    return Pipeline(instantiate_from_config(second_stage(sizes=((64, 64),))).eval(), "tiny")


# --- asking --------------------------------------------------------------------------------------


def test_pictures_are_asked_or_referred_to_never_both(folder: Path) -> None:
    asked = image_gpt_pictures.ask(folder, 64, count=3, seed=0)
    bytes_of = [{each.tobytes() for each in some} for some in (asked.truth, asked.reference)]
    assert [len(each) for each in bytes_of] == [3, 4]
    assert not bytes_of[0] & bytes_of[1]
    again = image_gpt_pictures.ask(folder, 64, count=2, seed=0)
    assert [p.tobytes() for p in again.truth] == [p.tobytes() for p in asked.truth[:2]]


def test_both_sides_are_given_the_same_pixels(folder: Path) -> None:
    asked = image_gpt_pictures.ask(folder, 64, count=2, seed=0)
    for large, small in zip(asked.truth, asked.small, strict=True):
        assert small.size == (SIDE, SIDE)
        means = np.asarray(large, float).reshape(SIDE, 2, SIDE, 2, 3).mean(axis=(1, 3))
        assert np.abs(np.asarray(small) - means).max() <= 1.0
    assert asked.labels is not None
    assert asked.labels.shape == (2, 64, 64)
    assert asked.label_names == ("sky", "sea")


def test_too_few_pictures_are_an_error(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "few"
    (root / "images").mkdir(parents=True)
    for name in ("00", "01", "02"):
        picture(0, 64).save(root / "images" / f"{name}.png")
    split = {"train": ["00"], "validation": ["01", "02"]}
    (root / "split.json").write_text(json.dumps(split))
    with pytest.raises(ValueError, match="holds out 2 pictures, at least 5"):
        image_gpt_pictures.ask(root, 64, count=2, seed=0)


def test_draws_have_seeds_of_their_own() -> None:
    assert image_gpt_pictures.seeds_of(1, [0, 5]) == [10_000, 10_005]


# --- ours ----------------------------------------------------------------------------------------


def test_our_completions_keep_the_upper_half_and_follow_their_seeds(pipeline: Pipeline) -> None:
    complete = image_gpt_pictures.ours(pipeline, steps=4, guidance=1.0)
    pictures = [picture(n, 64) for n in range(2)]

    def draw(some: Pictures, seeds: list[int]) -> list[np.ndarray]:
        return [np.asarray(each) for each in complete(some, seeds, lambda done, total: None)]

    one, other = draw(pictures, [3, 4])
    assert np.array_equal(one[:32], np.asarray(pictures[0])[:32])
    assert np.array_equal(other, draw([pictures[1]], [4])[0])
    assert not np.array_equal(one, draw([pictures[0]], [5])[0])


def test_a_model_that_does_not_complete_is_refused(
    second_stage: Callable[..., dict[str, Any]],
) -> None:
    section = second_stage(("depth",), sizes=((64, 64),))
    without = Pipeline(instantiate_from_config(section).eval(), "tiny")
    with pytest.raises(ValueError, match=r"--run runs/x: this model does not complete"):
        image_gpt_pictures.checked(without, "runs/x")


def test_the_size_is_that_of_the_run(second_stage: Callable[..., dict[str, Any]]) -> None:
    section = second_stage(("known",), sizes=((96, 96),))
    assert fitting(None, Pipeline(instantiate_from_config(section).eval(), "tiny")) == 96
    assert fitting(None, None) == 64
    with pytest.raises(ValueError, match="--size 72 is no multiple"):
        fitting(72, None)


# --- settings ------------------------------------------------------------------------------------


def test_a_folder_of_other_settings_is_refused(tmp_path: Path) -> None:
    keep_settings(tmp_path, {"minutes": 60.0, "shape": (1, 2)})
    keep_settings(tmp_path, {"minutes": 60.0, "shape": (1, 2)})
    with pytest.raises(ValueError, match=r"was trained with minutes = 60\.0, not 30\.0"):
        keep_settings(tmp_path, {"minutes": 30.0, "shape": (1, 2)})


def test_sets_of_one_name_do_not_share_a_training(folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "noise"))
    same, another = Options(data=folder), Options(data=other)
    assert same.of_both == another.of_both
    (other / "label_names.json").write_text(json.dumps({"0": "sky", "1": "ice"}))
    keep_settings(tmp_path, same.of_both)
    with pytest.raises(ValueError, match="mark of the set"):
        keep_settings(tmp_path, another.of_both)


def test_what_is_held_out_and_who_looks_decide_an_album(folder: Path, pipeline: Pipeline) -> None:
    """A network that was installed later, or another split, gave the numbers of before."""
    asked = image_gpt_pictures.ask(folder, 64, count=2, seed=0)
    model = build(Shape(width=8, layers=1, heads=1, colours=4), 0)
    learnt, eyes = Learnt(model, torch.zeros(4, 3), {}), cast(Any, None)

    def told(asked: Asked, vgg: Any = None) -> str:
        options = Options(data=folder)
        return json.dumps(album_settings(options, asked, Networks(eyes, vgg), pipeline, learnt))

    plain = told(asked)
    assert told(asked) == plain
    assert told(asked, vgg=torch.nn.Identity()) != plain
    asked.held.part.names[0] = "another"
    assert told(asked) != plain


def test_the_judge_is_one_of_its_set(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was known by the name of its set alone."""
    configs = []

    def judge_of(home: Path, config: Any, lessons: Any, progress: Any) -> Any:
        configs.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(image_gpt_pictures, "judge_of", judge_of)
    asked = image_gpt_pictures.ask(folder, 64, count=2, seed=0)
    with pytest.raises(KeyboardInterrupt):
        image_gpt_pictures.labels_of(asked, tmp_path, 4, 1, 0, silent)
    expected = judge_config("labels", folder, (64, 64), draws=4, steps=1, coarsest=4.0, seed=0)
    assert configs == [expected]
    assert expected.annotated


def test_options_of_image_gpt_go_where_they_belong() -> None:
    plan = planned(Options(seed=3, image_gpt={"width": 96, "colours": 16, "batch_size": 4}))
    assert (plan.shape.width, plan.shape.colours, plan.shape.layers) == (96, 16, 6)
    assert (plan.batch_size, plan.seed) == (4, 3)


def test_the_command_asks_for_what_the_plan_has() -> None:
    parameters = inspect.signature(image_gpt.make).parameters
    plan = {**asdict(Plan()), **asdict(Plan().shape)}
    for name in ("width", "layers", "heads", "colours", "batch_size", "learning_rate"):
        assert parameters[name].default == plan[name], name


def test_help_says_what_equal_means() -> None:
    app = image_gpt.typer.Typer(rich_markup_mode=None)
    app.command(help=image_gpt.paragraphs(image_gpt.__doc__ or ""))(image_gpt.make)
    shown = " ".join(CliRunner().invoke(app, ["--help"]).output.split())
    assert "is paid from their own minutes" in shown
    assert "--second-stage" in shown


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    app = image_gpt.typer.Typer()
    app.command()(image_gpt.make)
    words = ["--data", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "absent" in result.stderr
    assert not (tmp_path / "out").exists()


# --- report --------------------------------------------------------------------------------------


def test_small_pictures_are_enlarged_by_nearest_neighbour() -> None:
    small, large = picture(0, SIDE), picture(1, 128)
    blocks = [((), [("small", [small])]), ((), [("large", [large])])]
    sheet = np.asarray(image_gpt_report.figure(blocks, ["a fact"]))
    gap, cell = image_gpt_report.GAP, 128
    top = sheet.shape[0] - cell - gap
    found = sheet[top : top + cell, gap : gap + cell]
    assert np.array_equal(found, np.asarray(small).repeat(4, axis=0).repeat(4, axis=1))
    right = gap + cell + gap + image_gpt_report.BREAK
    assert np.array_equal(sheet[top : top + cell, right : right + cell], np.asarray(large))


def test_the_figure_says_what_is_enlarged_and_how() -> None:
    small, large = [picture(0, SIDE)], [picture(1, 128)]
    blocks = image_gpt_report.blocks_of(large, [small, small], [large, large], small, [small] * 2)
    titles = [[title for title, _ in columns] for _, columns in blocks]
    drawn = ["draw 1", "draw 2"]
    assert titles == [
        ["given"],
        [*(f"Image-GPT, {d}" for d in drawn), *(f"ours, {d}" for d in drawn), "truth"],
        [*(f"ours, {d}" for d in drawn), "truth"],
    ]
    assert "enlarged 4x by nearest neighbour" in blocks[1][0][0]


def test_what_is_given_is_the_upper_half_alone() -> None:
    one, other = picture(0, 64), picture(1, 64)
    other.paste(one.crop((0, 0, 64, 32)), (0, 0))
    shown = [np.asarray(image_gpt_report.given(each)) for each in (one, other)]
    assert np.array_equal(*shown)
    assert np.array_equal(shown[0][:32], np.asarray(one)[:32])


def test_tables_have_a_dash_where_nothing_is_meant() -> None:
    line = Line("distance", "lower", {"a": 0.12345, "b": 2.0}, {"a": 0.011})
    text = image_gpt_report.table(["a", "b", "c"], [line])
    assert text.splitlines()[-1] == "| distance | lower | 0.123 ± 0.01 | 2 | - |"


def told(options: Options, **seconds: float | None) -> str:
    sides = {
        "Image-GPT": {"seconds": seconds["theirs"]},
        "ours": {"seconds": seconds["ours"]},
    }
    return image_gpt_report.told_of(options, sides, 8, {"processor": "P", "cores": 2})[0]


def test_equal_minutes_are_told_as_equal() -> None:
    found = told(Options(minutes=60), theirs=3605.0, ours=3598.0)
    assert found == "Trained on worlds for 60 minutes each, on one machine."


@pytest.mark.parametrize(("theirs", "ours"), [(496.3, 24.2), (24.2, 496.3), (20.0, 24.0)])
def test_minutes_that_were_not_kept_are_not_told_as_equal(theirs: float, ours: float) -> None:
    """A busy machine stretched a step of one side to eight minutes of a training of 24 seconds."""
    found = told(Options(minutes=0.4), theirs=theirs, ours=ours)
    assert found.startswith("NOT EQUALLY LONG: of 0.4 minutes each")
    assert f"Image-GPT {theirs / 60:.3g}, ours {ours / 60:.3g}" in found


def test_a_trained_model_is_told_as_such() -> None:
    found = told(replace(Options(), run="bundled"), theirs=3600.0, ours=None)
    assert found.startswith("NOT EQUALLY LONG: Image-GPT trained on worlds for 60 minutes")
    assert "bundled, already trained" in found
