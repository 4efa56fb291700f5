"""The command line calls the library with the words given, and errors are one sentence."""

import errno
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import taming
from taming import cli
from taming.cli_options import parse_guidance, parse_seeds, parse_size
from taming.loading import usable_device
from tests.command_line import FakePipeline, run, spoken

COMMANDS = ["train", "encode", "paint", "complete", "upscale", "reconstruct", "worlds", "convert"]
COMMANDS += ["scenes", "annotate", "evaluate", "vary", "repaint"]


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> FakePipeline:
    fake = FakePipeline()
    monkeypatch.setitem(taming.__dict__, "load", lambda model, **options: fake)
    return fake


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_a_worked_example(command: str) -> None:
    shown = CliRunner().invoke(cli.app, [command, "--help"])
    assert shown.exit_code == 0
    assert f"taming {command} " in shown.output.split("Example", 1)[1]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_parse(command: str) -> None:
    group = typer.main.get_command(cli.app)
    subcommand = vars(group)["commands"][command]
    text = re.sub(r"\\\n\s*", " ", subcommand.help)
    examples = re.findall(rf"^ *taming {command} (.+)$", text, re.MULTILINE)
    assert examples
    for example in examples:
        subcommand.make_context(command, example.split())


def test_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == taming.__version__


def test_an_unknown_option_ends_with_code_two() -> None:
    assert run("paint", "--dpeth", "d.png") == 2


@pytest.mark.parametrize(
    ("text", "size"), [("128", (128, 128)), ("192x128", (192, 128)), ("64X96", (64, 96))]
)
def test_sizes_are_height_by_width(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "0", "12x", "1x2x3", "-4", "a"])
def test_a_size_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seeds"), [("7", [7]), ("0-3", [0, 1, 2, 3]), ("5,0,8-9", [5, 0, 8, 9])]
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "3-1", "a", "1,,2", "-1"])
def test_seeds_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="seeds"):
        parse_seeds(text)


def test_guidance_is_one_number_or_one_for_each_condition() -> None:
    assert parse_guidance("3") == 3.0
    assert parse_guidance("depth=2, text=4.5") == {"depth": 2.0, "text": 4.5}
    with pytest.raises(ValueError, match="guidance"):
        parse_guidance("depth=")


def test_paint_passes_on_what_is_given(pipeline: FakePipeline, tmp_path: Path) -> None:
    words = ["--labels", "l.png", "--class", "street", "--seeds", "0,3", "--size", "64x96"]
    assert run("paint", *words, "--guidance", "3", "--out", str(tmp_path / "out")) == 0
    ((name, values, settings),) = pipeline.calls
    assert (name, values) == ("paint", ())
    assert settings["labels"] == Path("l.png")
    assert settings["class_label"] == "street"
    assert settings["size"] == (64, 96)
    assert settings["seeds"] == [0, 3]
    assert settings["guidance"] == 3.0
    assert not {"depth", "steps", "top_k"} & set(settings)  # the pipeline's own defaults hold
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0000.png", "0003.png"]


def test_a_file_as_output_is_that_file(pipeline: FakePipeline, tmp_path: Path) -> None:
    assert run("upscale", "small.png", "--factor", "2", "--out", str(tmp_path / "big.png")) == 0
    assert pipeline.calls[0][:2] == ("upscale", (Path("small.png"), 2))
    assert [p.name for p in tmp_path.iterdir()] == ["big.png"]


def test_several_pictures_and_a_file_name_are_numbered(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    run("complete", "a.png", "--mask", "m.png", "--seeds", "1,2", "--out", str(tmp_path / "c.png"))
    assert pipeline.calls[0][2]["mask"] == Path("m.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c-0001.png", "c-0002.png"]


def test_a_grid_is_one_picture(pipeline: FakePipeline, tmp_path: Path) -> None:
    assert run("paint", "--seeds", "0-5", "--grid", "--out", str(tmp_path / "g.png")) == 0
    with Image.open(tmp_path / "g.png") as sheet:
        assert sheet.width > 4 * 4
        assert sheet.height > 2 * 6


def test_reconstructions_keep_their_names(pipeline: FakePipeline, tmp_path: Path) -> None:
    assert run("reconstruct", "a.jpg", "b.jpg", "--out", str(tmp_path)) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_a_mask_needs_its_picture(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("paint", "--mask", "m.png") == 2
    assert "--known" in spoken(capsys)


def test_other_formats_are_refused_before_anything_is_painted(
    pipeline: FakePipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["paint"], ["upscale", "a.png"], ["reconstruct", "a.png"]):
        assert run(*words, "--out", str(tmp_path / "x.jpg")) == 2
        assert "name it .png" in spoken(capsys)
    assert pipeline.calls == []


def test_a_folder_of_maps_may_hold_a_table_of_their_names(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    maps = tmp_path / "maps"
    maps.mkdir()
    for name in ("0001.png", "0002.npy", "label_names.json"):
        (maps / name).touch()
    assert run("paint", "--labels", str(maps), "--out", str(tmp_path / "out")) == 0
    assert [each["labels"].name for _, _, each in pipeline.calls] == ["0001.png", "0002.npy"]
    pipeline.calls.clear()
    assert run("paint", "--pose", str(maps), "--out", str(tmp_path / "out")) == 0
    assert [each["pose"].name for _, _, each in pipeline.calls] == ["label_names.json"]


def test_variations_pass_on_how_much_is_painted_anew(
    pipeline: FakePipeline, tmp_path: Path
) -> None:
    words = ["a.png", "--share", "0.3", "--seeds", "0,4", "--size", "64x96", "--depth", "d.png"]
    assert run("vary", *words, "--out", str(tmp_path)) == 0
    ((name, values, settings),) = pipeline.calls
    assert (name, values) == ("vary", (Path("a.png"), 0.3))
    assert settings["size"] == (64, 96)
    assert settings["depth"] == Path("d.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0000.png", "0004.png"]


def test_a_picture_is_painted_again_under_its_name(
    pipeline: FakePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []

    def repaint(source: Path, **given: Any) -> Image.Image:
        told.append((source, given))
        return Image.new("RGB", (4, 6))

    monkeypatch.setattr(pipeline, "repaint", repaint, raising=False)
    assert run("repaint", "old/0003.png", "--labels", "l.png", "--out", str(tmp_path)) == 0
    assert told == [(Path("old/0003.png"), {"labels": Path("l.png")})]
    assert [path.name for path in tmp_path.iterdir()] == ["0003.png"]


@pytest.mark.parametrize("has_card", [False, True])
def test_the_graphics_card_is_used_where_there_is_one(
    has_card: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: has_card)
    assert usable_device("auto") == ("cuda" if has_card else "cpu")


def test_a_device_that_is_not_there_is_one_sentence(
    pipeline: FakePipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("paint", "--device", "abacus") == 2
    assert "device 'abacus'" in spoken(capsys)


@pytest.mark.parametrize("lost", ["", "__version__"])
def test_what_other_packages_broke_is_one_sentence(
    lost: str,
    pipeline: FakePipeline,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A torchvision for another PyTorch; the published package, laid over this one."""

    def fail(**settings: Any) -> None:
        raise RuntimeError("no load" if lost else "operator torchvision::nms does not exist")

    monkeypatch.setattr(pipeline, "paint", fail, raising=False)
    if lost:
        monkeypatch.delattr(cli.taming, lost)
    assert run("paint") == 2
    assert spoken(capsys).count("taming doctor") == 1


def test_errors_of_ours_keep_their_traceback(
    pipeline: FakePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**settings: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(pipeline, "paint", fail, raising=False)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["paint"])


def test_a_missing_config_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "configs/there_is_none.yaml") == 2
    assert "there_is_none.yaml" in spoken(capsys)


def test_no_config_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "batch_size=2") == 2
    assert "name a YAML file" in spoken(capsys)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("labels street.png:\n  id 300"), "taming: labels street.png: id 300"),
        (OSError(errno.ENOSPC, "No space left on device", "out/0.png"), "taming: out/0.png: No "),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "x"), "taming: x: No such"),
        (ImportError('pip install "taming[train]"'), "taming[train]"),
    ],
)
def test_errors_of_the_library_are_one_sentence(
    error: Exception,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pipeline: FakePipeline,
) -> None:
    def fail(**settings: Any) -> None:
        raise error

    monkeypatch.delenv(cli.TRACEBACK_VARIABLE, raising=False)
    monkeypatch.setattr(pipeline, "paint", fail, raising=False)
    assert run("paint") == 2
    assert expected in spoken(capsys)
    monkeypatch.setenv(cli.TRACEBACK_VARIABLE, "1")
    with pytest.raises(type(error)):
        cli.main(["paint"])
