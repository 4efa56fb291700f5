"""Laws of a rendered set on disk."""

import json
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from taming.worlds import FAR, LABELS, annotations, contact_sheet, render_set
from taming.worlds import dataset as dataset_module


def _read(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("worlds") / "set"
    return render_set(6, (24, 32), target, people=False, workers=1, validation_share=1 / 3)


def test_every_picture_has_every_annotation(folder: Path):
    names = [f"{i:06d}" for i in range(6)]
    for kind in ("images", "labels", "depth"):
        assert sorted(p.stem for p in (folder / kind).iterdir()) == names
        assert all(Image.open(folder / kind / f"{n}.png").size == (32, 24) for n in names)
    assert sorted(_read(folder / "captions.json")) == names
    assert sorted(_read(folder / "class_labels.json")["images"]) == names
    split = _read(folder / "split.json")
    assert sorted(split["train"] + split["validation"]) == names
    assert len(split["validation"]) == 2
    assert (folder / "SOURCE.md").is_file()


def test_labels_are_named(folder: Path):
    names = _read(folder / "label_names.json")
    assert [names[str(i)] for i in range(len(LABELS))] == list(LABELS)
    labels = np.asarray(Image.open(folder / "labels" / "000000.png"))
    assert labels.dtype == np.uint8
    assert labels.max() < len(LABELS)


def test_depth_is_metric_and_far_where_there_is_sky(folder: Path):
    about = _read(folder / "depth.json")
    assert about["kind"] == "metric"
    steps = np.asarray(Image.open(folder / "depth" / "000000.png"))
    assert steps.dtype == np.uint16
    labels = np.asarray(Image.open(folder / "labels" / "000000.png"))
    assert np.allclose(steps[labels == 0] * about["scale"], FAR)


def test_the_same_settings_find_the_set_again(folder: Path):
    stamp = (folder / "images" / "000000.png").stat().st_mtime_ns
    render_set(6, (24, 32), folder, people=False, workers=1, validation_share=1 / 3)
    assert (folder / "images" / "000000.png").stat().st_mtime_ns == stamp


def test_another_set_in_the_way_is_an_error_that_names_it(folder: Path):
    with pytest.raises(ValueError, match=r"set.*count 6 there, 5 wanted"):
        render_set(5, (24, 32), folder, people=False, validation_share=1 / 3)


def test_a_folder_that_is_no_set_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="no rendered set"):
        render_set(1, 16, tmp_path, people=False)
    assert (tmp_path / "mine.txt").read_text() == "mine"


def _same(one: Path, other: Path) -> bool:
    files = [sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in (one, other)]
    return files[0] == files[1] and all(
        (one / path).read_bytes() == (other / path).read_bytes() for path in files[0]
    )


def test_a_set_that_was_stopped_is_absent_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupt(done: int, count: int) -> None:
        raise KeyboardInterrupt

    def render(name: str, **more):
        return render_set(9, 16, tmp_path / name, people=False, workers=1, **more)

    with pytest.raises(KeyboardInterrupt):
        render("stopped", progress=interrupt)
    assert not (tmp_path / "stopped").exists()
    with open(tmp_path / ".stopped.partial" / ".records.jsonl", "a") as log:
        log.write('{"name": "000008", "biome"')  # cut off in the middle

    def full_disk(folder: Path, *_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(dataset_module, "write_annotations", full_disk)
    with pytest.raises(OSError, match="No space"):
        render("stopped")
    monkeypatch.undo()
    assert not (tmp_path / "stopped").exists()

    rendered: list[int] = []
    monkeypatch.setattr(dataset_module, "_render_one", lambda *args: rendered.append(args[-1]))
    render("stopped")
    assert rendered == []
    monkeypatch.undo()
    assert _same(tmp_path / "stopped", render("at_once"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["at_once", "stopped"]


def test_fewer_scenes_may_be_wanted_of_what_was_stopped(tmp_path: Path):
    def interrupt(done: int, count: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_set(16, 16, tmp_path / "set", people=False, workers=1, progress=interrupt)
    few = render_set(3, 16, tmp_path / "set", people=False, workers=1)
    assert _same(few, render_set(3, 16, tmp_path / "at_once", people=False, workers=1))


def test_a_set_grows(tmp_path: Path):
    small = render_set(3, 16, tmp_path / "set", people=False, workers=1, validation_share=0.25)
    held_out = _read(small / "split.json")["validation"]
    stamp = (small / "images" / "000001.png").stat().st_mtime_ns
    grown = render_set(9, 16, tmp_path / "set", people=False, workers=1, validation_share=0.25)
    assert (grown / "images" / "000001.png").stat().st_mtime_ns == stamp
    assert set(held_out) <= set(_read(grown / "split.json")["validation"])
    assert _same(
        grown,
        render_set(9, 16, tmp_path / "at_once", people=False, workers=1, validation_share=0.25),
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["at_once", "set"]


def test_what_lies_in_a_set_that_grows_stays_there(tmp_path: Path) -> None:
    """A report, and annotations that had been added, were removed with the smaller set."""
    folder = render_set(2, 16, tmp_path / "set", people=False, workers=1)
    mine = {folder / "report" / "index.html": "numbers", folder / "boxes.json": "{}"}
    for path, text in mine.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    render_set(3, 16, folder, people=False, workers=1)
    assert {path: path.read_text() for path in mine} == mine
    assert len(_read(folder / "captions.json")) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_a_scene_has_one_part_whatever_the_count(tmp_path: Path, share: float) -> None:
    def held_out(count: int) -> set[str]:
        settings = annotations.Settings(1, count, 16, 16, 0, 0.0, share)
        return {f"{i:06d}" for i in annotations._held_out(settings)}

    for small, large in ((2, 6), (3, 40), (40, 80)):
        names = {f"{i:06d}" for i in range(small)}
        assert held_out(small) == held_out(large) & names
        assert held_out(small) < names


def test_two_at_once_do_not_render_one_set(tmp_path: Path) -> None:
    """The second removed what the first was writing."""

    def second(done: int, count: int) -> None:
        with pytest.raises(ValueError, match=r"another process renders .*set; wait"):
            render_set(9, 16, tmp_path / "set", people=False, workers=1)

    render_set(9, 16, tmp_path / "set", people=False, workers=1, progress=second)
    assert len(list((tmp_path / "set" / "images").iterdir())) == 9


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _refuse(*_: object) -> NoReturn:
    raise AssertionError("a scene was rendered again")


def test_a_set_that_was_stopped_before_its_name_is_not_rendered_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings with a count were not known again, and all that was rendered was removed."""
    with monkeypatch.context() as patched:
        patched.setattr(dataset_module, "_put", _stop)
        with pytest.raises(KeyboardInterrupt):
            render_set(3, 16, tmp_path / "set", people=False, workers=1)
    monkeypatch.setattr(dataset_module, "_render_one", _refuse)
    render_set(3, 16, tmp_path / "set", people=False, workers=1)
    monkeypatch.undo()
    assert _same(tmp_path / "set", render_set(3, 16, tmp_path / "at_once", people=False, workers=1))


@pytest.mark.parametrize("made_again", [False, True])
def test_a_set_that_was_stopped_while_it_changed_places_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_again: bool
) -> None:
    """Between two renamings the set had a hidden name alone, and nothing looked there."""
    target = render_set(2, 16, tmp_path / "set", people=False, workers=1)
    replace = Path.replace

    def stop_at_the_second(path: Path, other: Path) -> Path:
        return _stop() if path.name == ".set.partial" else replace(path, other)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            render_set(3, 16, target, people=False, workers=1)
    assert not target.exists()
    if made_again:
        target.mkdir()
    monkeypatch.setattr(dataset_module, "_render_one", _refuse)
    render_set(2, 16, target, people=False, workers=1)
    render_set(3, 16, target, people=False, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_what_a_larger_set_has_replaced_is_cleared_away(tmp_path: Path) -> None:
    """A smaller set whose removal was stopped stayed for ever."""
    target = render_set(1, 16, tmp_path / "set", people=False, workers=1)
    (tmp_path / ".set.old").mkdir()
    (tmp_path / ".set.old" / "worlds.json").write_text("{}")
    render_set(1, 16, target, people=False, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_stopped_rendering_of_another_set_is_not_removed(tmp_path: Path) -> None:
    """It was, without a word, by the first call with other settings."""
    with pytest.raises(KeyboardInterrupt):
        render_set(9, 16, tmp_path / "set", people=False, workers=1, progress=_stop)
    with pytest.raises(
        ValueError,
        match=r"\.set\.partial holds 8 scenes of another set.*height 16 there, 24 wanted",
    ):
        render_set(1, 24, tmp_path / "set", people=False, workers=1)
    assert len(list((tmp_path / ".set.partial" / "images").iterdir())) == 8


def test_pictures_that_were_not_written_down_are_no_part_of_a_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures of an unfinished chunk stayed in a set that needed fewer."""
    render = dataset_module._render_one

    def stop_at_the_third(settings, folder: Path, index: int):
        return _stop() if index == 2 else render(settings, folder, index)

    with monkeypatch.context() as patched:
        patched.setattr(dataset_module, "_render_one", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            render_set(4, 16, tmp_path / "set", people=False, workers=1)
    few = render_set(1, 16, tmp_path / "set", people=False, workers=1)
    assert [p.name for p in (few / "images").iterdir()] == ["000000.png"]


def test_a_set_behind_a_link_grows_where_it_lies(tmp_path: Path) -> None:
    """The link was renamed instead, and could not be removed."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "set").symlink_to(tmp_path / "disk" / "set", target_is_directory=True)
    for count in (1, 2):
        render_set(count, 16, tmp_path / "set", people=False, workers=1)
        assert (tmp_path / "set").is_symlink()
        assert [p.name for p in (tmp_path / "disk").iterdir()] == ["set"]
        assert len(list((tmp_path / "disk" / "set" / "images").iterdir())) == count


def test_a_mounted_disk_is_refused_before_anything_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder could not be renamed when everything had been rendered."""
    monkeypatch.setattr("os.path.ismount", lambda path: path == tmp_path / "disk")
    (tmp_path / "disk").mkdir()
    with pytest.raises(ValueError, match=r"disk is where a disk is mounted.*choose a folder in it"):
        render_set(1, 16, tmp_path / "disk", people=False, workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["disk"]


def test_two_workers_write_what_one_writes(tmp_path: Path):
    seen: list[tuple[int, int]] = []
    one = render_set(10, 16, tmp_path / "one", people=False, workers=1)
    two = render_set(
        10, 16, tmp_path / "two", people=False, progress=lambda *done: seen.append(done)
    )
    assert seen[-1] == (10, 10)
    assert _same(one, two)


def test_sets_of_different_seeds_share_no_scene(folder: Path, tmp_path: Path):
    other = render_set(6, (24, 32), tmp_path / "b", seed=1, people=False, workers=1)
    pictures = [p.read_bytes() for f in (folder, other) for p in (f / "images").iterdir()]
    assert len(set(pictures)) == 12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"count": 0}, "count is 0"), ({"size": 8}, "8x8"), ({"people_share": 1.5}, "people_share")],
)
def test_impossible_settings_are_refused(wrong: dict, message: str, tmp_path: Path):
    settings = {"count": 1, "size": 16, "people": False, **wrong}
    with pytest.raises(ValueError, match=message):
        render_set(out=tmp_path / "set", **settings)


def test_a_contact_sheet_holds_every_picture():
    tiles = [np.full((10, 12, 3), 40 * i, np.uint8) for i in range(1, 6)]
    page = contact_sheet(tiles, columns=3)
    assert page.size == (3 * 14 + 2, 2 * 12 + 2)
    assert all(
        page.getpixel((4 + 14 * (i % 3), 4 + 12 * (i // 3))) == (40 * (i + 1),) * 3
        for i in range(5)
    )
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], columns=3)


def test_cores_that_a_process_may_not_use_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 5, 7}, raising=False)
    assert dataset_module.usable_cores() == 3
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert dataset_module.usable_cores() == 1
