"""Reports: rows there and back, tables, text, the album, the page."""

import json
import math
import re
from pathlib import Path

import pytest
from PIL import Image

from taming.evaluation.album import AT_ONCE, Album
from taming.evaluation.page import write_page
from taming.evaluation.report import Row, markdown, print_rows, rows_from

ROWS = [
    Row("rooms", "depth", "Spearman", 0.9, 0.8, 0.7, 0.1, ">= 0.5", True),
    Row("rooms", "depth", "RMSE", sampled=float("inf"), reach="<= 1", met=False),
    Row("rooms", "labels", "mIoU", true=0.5, reach="some", met=None),
]


def test_rows_survive_the_way_through_json() -> None:
    told = json.loads(json.dumps([row.as_json() for row in ROWS]))
    assert next(iter(told[0])) == "name"
    assert told[0]["name"] == "rooms, depth: Spearman"
    again = rows_from(told)
    assert again[0] == ROWS[0]
    assert again[1].sampled is None  # JSON has no infinity


def test_the_table_has_every_number_and_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows("numbers", ROWS)
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("Spearman", "0.9", "0.8", "0.7", "0.1", "yes", "NO"))


def test_the_text_has_every_row_and_what_was_left_out() -> None:
    text = markdown("A model", {"steps": 24}, ROWS, ["FID is left out"])
    assert "| rooms, depth: Spearman | 0.9 | 0.8 | 0.7 | 0.1 | >= 0.5: yes |" in text
    assert "- steps: 24" in text
    assert "- FID is left out" in text


def test_the_page_shows_pictures_and_escapes_names(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    shown = {"set": "<rooms>", "task": "depth", "word": "best", "name": "x", "pictures": []}
    shown["pictures"] = [["sample", "a.png"], ["true", "a.png"]]
    (tmp_path / "out").mkdir()
    page = write_page("A <model>", {}, ROWS, [shown], [], tmp_path, tmp_path / "out").read_text()
    assert "<rooms>" not in page
    assert "A <model>" not in page
    pictures = list((tmp_path / "out" / "report_images").glob("*.png"))
    assert len(pictures) == page.count("<img") == 2
    assert all(f'src="report_images/{picture.name}"' in page for picture in pictures)


def test_a_page_removes_what_an_earlier_one_wrote_and_nothing_else(tmp_path: Path) -> None:
    """Reports once emptied `images`, where a training keeps its grids and a set its pictures."""
    out = tmp_path / "out"
    kept = [out / "images" / "grid.png", out / "report_images" / "mine.png"]
    for path in [tmp_path / "a.png", *kept]:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    for task in ("depth", "labels"):
        shown = {"set": "rooms", "task": task, "word": "best", "name": "x"}
        write_page("A", {}, [], [shown | {"pictures": [["true", "a.png"]]}], [], tmp_path, out)
        assert len(list((out / "report_images").glob(f"rooms_{task}_*_best_0.png"))) == 1
        assert all(path.is_file() for path in kept)
        assert len(list((out / "report_images").glob("*.png"))) == 2


def test_sets_of_similar_names_keep_their_pictures_apart(tmp_path: Path) -> None:
    names = ("my-set", "my_set", "my set")
    shown = []
    for number, name in enumerate(names):
        Image.new("RGB", (2, 2), (number, 0, 0)).save(tmp_path / f"{number}.png")
        told = {"set": name, "task": "depth", "word": "best", "name": "x"}
        shown.append(told | {"pictures": [["true", f"{number}.png"]]})
    write_page("A", {}, [], shown, [], tmp_path, tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    found = [Image.open(tmp_path / "out" / path) for path in re.findall(r'src="([^"]+)"', page)]
    assert [picture.getpixel((0, 0)) for picture in found] == [(n, 0, 0) for n in range(3)]


def test_what_nothing_was_counted_for_is_a_dash() -> None:
    row = Row.of("rooms", "depth", "mIoU", {"true": 0.5, "sampled": math.nan})
    assert (row.true, row.sampled) == (0.5, None)


def test_pictures_are_made_once_in_handfuls_and_kept(tmp_path: Path) -> None:
    made: list[list[int]] = []

    def make(some: list[int]) -> list[Image.Image]:
        made.append(some)
        return [Image.new("RGB", (2, 2), (number, 0, 0)) for number in some]

    album = Album(tmp_path, {"seed": 0})
    numbers = list(range(AT_ONCE + 3))
    first = album.pictures("shelf", numbers, make)
    assert [picture.getpixel((0, 0)) for picture in first] == [(n, 0, 0) for n in numbers]
    assert [len(some) for some in made] == [AT_ONCE, 3]
    (album.folder / "shelf" / "000005.png").unlink()
    Album(tmp_path, {"seed": 0}).pictures("shelf", numbers, make)
    assert made[2:] == [[5]]


def test_other_settings_begin_anew_and_leave_nothing_behind(tmp_path: Path) -> None:
    first = Album(tmp_path, {"seed": 0})
    assert first.result("stage", lambda: {"value": 1}) == {"value": 1}
    assert first.result("stage", lambda: {"value": 2}) == {"value": 1}
    second = Album(tmp_path, {"seed": 1})
    assert second.result("stage", lambda: {"value": 3}) == {"value": 3}
    assert not first.folder.exists()


def test_folders_that_are_no_album_stay_in_the_folder_of_albums(tmp_path: Path) -> None:
    (tmp_path / "sketches").mkdir()
    Album(tmp_path, {"seed": 0})
    Album(tmp_path, {"seed": 1})
    assert (tmp_path / "sketches").is_dir()
    assert len(list(tmp_path.iterdir())) == 2
