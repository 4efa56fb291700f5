"""Commands that paint take what they can use, and say the rest before anything is painted."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import taming
from taming import cli
from tests.command_line import FakePipeline, run, spoken


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setitem(taming.__dict__, "load", lambda model, **options: fake)
    return fake


@pytest.fixture
def opaque(tmp_path: Path) -> Path:
    Image.new("RGB", (4, 6), (9, 9, 9)).save(tmp_path / "opaque.png")
    return tmp_path / "opaque.png"


@pytest.fixture
def transparent(tmp_path: Path) -> Path:
    pixels = np.full((6, 4, 4), 255, np.uint8)
    pixels[:2, :, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "transparent.png")
    return tmp_path / "transparent.png"


# --- conditions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "absent"),
    [
        ("paint", []),
        ("repaint", []),
        ("complete", ["known"]),
        ("upscale", ["known", "mask", "lowres"]),
        ("vary", ["known", "mask"]),
    ],
)
def test_each_command_offers_the_conditions_that_it_takes(
    command: str, absent: list[str], pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    """`upscale --lowres` ended in a traceback, and `vary --mask` was offered but not taken."""
    shown = CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).output
    for name in ("depth", "known", "mask", "lowres"):
        assert (f"--{name} " in shown) == (name not in absent)
    for name in absent:
        assert run(command, "a.png", f"--{name}", "b.png") == 2
        assert f"--{name} b.png: this command takes its picture as IMAGE" in spoken(capsys)
    assert pipeline.calls == []


@pytest.mark.parametrize("words", [["paint"], ["repaint", "done.png"]])
def test_a_picture_and_its_mask_are_one_condition(
    words: list[str], pipeline: FakePipeline, tmp_path: Path
) -> None:
    """`repaint` handed the mask on as a condition of its own, which no model knows."""
    words = [*words, "--known", "big.png", "--mask", "keep.png", "--out", str(tmp_path)]
    assert run(*words) == 0
    assert pipeline.calls[0][2]["known"] == (Path("big.png"), Path("keep.png"))
    assert "mask" not in pipeline.calls[0][2]


def test_a_transparent_picture_needs_no_mask(
    pipeline: FakePipeline, transparent: Path, tmp_path: Path
) -> None:
    out = ["--out", str(tmp_path / "out")]
    assert run("complete", str(transparent), *out) == 0
    assert "mask" not in pipeline.calls[0][2]
    assert run("paint", "--known", str(transparent), *out) == 0
    assert pipeline.calls[1][2]["known"] == transparent


def test_half_is_the_upper_half_of_a_transparent_picture_too(
    pipeline: FakePipeline, transparent: Path, tmp_path: Path
) -> None:
    assert run("complete", str(transparent), "--half", "--out", str(tmp_path / "out")) == 0
    assert pipeline.calls[0][2]["mask"].all(axis=1).tolist() == [True] * 3 + [False] * 3


def test_a_picture_without_a_hole_is_not_completed(
    pipeline: FakePipeline, opaque: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("complete", str(opaque)) == 2
    assert "opaque.png has no transparent part to be filled; give --mask" in spoken(capsys)
    assert run("complete", str(opaque), "--half", "--mask", "m.png") == 2
    assert "give one of them" in spoken(capsys)
    assert run("complete", "absent.png") == 2
    assert "absent.png does not exist" in spoken(capsys)
    assert pipeline.calls == []


# --- names and places of results -----------------------------------------------------------------


def test_pictures_of_one_name_are_not_written_over_each_other(
    pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last of them replaced the others without a word."""
    out = ["--out", str(tmp_path / "out")]
    assert run("reconstruct", "a/photo.png", "b/photo.jpg", *out) == 2
    assert "a/photo.png and b/photo.jpg would be saved under one name, photo" in spoken(capsys)
    for name in ("maps/a.png", "maps/a.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert run("paint", "--depth", str(tmp_path / "maps"), *out) == 2
    assert "a.npy and" in spoken(capsys)
    assert run("paint", "--seeds", "3,0-3", *out) == 2
    assert "seeds '3,0-3': 3 stands there twice" in spoken(capsys)
    assert pipeline.calls == []
    assert run("reconstruct", "a/photo.png", "b/photo.jpg", "--grid", *out) == 0


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".TIFF", ".gif", ".webp", ".jpg"])
def test_every_format_but_png_is_refused(
    suffix: str, pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Some were taken for names of folders."""
    assert run("paint", "--out", str(tmp_path / f"x{suffix}")) == 2
    assert "name it .png" in spoken(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", [["paint"], ["upscale", "a.png"], ["reconstruct", "a.png"]])
def test_a_place_that_cannot_be_is_told_before_the_model_is_loaded(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything was painted, and then could not be saved."""
    (tmp_path / "text").touch()
    (tmp_path / "folder.png").mkdir()
    for out, told in (
        ("text", "text cannot be made"),
        ("text/x.png", "text cannot be made"),
        ("text/deeper/x.png", "deeper cannot be made"),
        ("folder.png", "folder.png is a folder"),
    ):
        assert run(*command, "--model", "absent", "--out", str(tmp_path / out)) == 2
        assert told in spoken(capsys)


def test_a_folder_in_which_nothing_came_to_lie_is_taken_away_again(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    assert run("paint", "--model", "absent", "--out", str(tmp_path / "there/new/newer")) == 2
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_contact_sheet_is_one_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder was found to be none when all scenes had been rendered."""
    rendered: list[int] = []
    monkeypatch.setattr("taming.worlds.render_set", lambda *_, **options: rendered.append(1))
    (tmp_path / "text").touch()
    words = ["worlds", "--count", "1", "--out", str(tmp_path / "set"), "--sheet"]
    assert run(*words, str(tmp_path / "sheets")) == 2
    assert "name it .png" in spoken(capsys)
    assert run(*words, str(tmp_path / "text" / "sheet.png")) == 2
    assert "text cannot be made" in spoken(capsys)
    assert not rendered


def test_folders_of_maps_hold_any_format_and_hidden_files(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    """Only some formats were found, and `._a.png` was taken for a map."""
    (tmp_path / "maps").mkdir()
    for name in ("a.tif", "b.BMP", "c.npy", "._a.png", ".b.bmp", "label_names.json"):
        (tmp_path / "maps" / name).touch()
    assert run("paint", "--labels", str(tmp_path / "maps"), "--out", str(tmp_path / "out")) == 0
    assert [call[2]["labels"].name for call in pipeline.calls] == ["a.tif", "b.BMP", "c.npy"]
