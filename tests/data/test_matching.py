"""Every table finds its pictures however it names them, and what finds none is told."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from taming.data.batch import ANNOTATIONS
from taming.data.datamodule import ImageData
from taming.data.matching import matched
from taming.data.paired_folder import PairedFolder


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("a", "a"),
        ("a.jpg", "a"),
        ("a.JPG", "a"),
        ("sub/a.png", "sub/a"),
        ("two.v2", "two.v2"),
        ("two.v2.webp", "two.v2"),
        ("a.png", "a.png"),
        (unicodedata.normalize("NFC", "Häuser"), unicodedata.normalize("NFD", "Häuser")),
        (unicodedata.normalize("NFD", "Häuser.jpg"), unicodedata.normalize("NFC", "Häuser")),
        ("a", "sub/a"),
    ],
)
def test_a_picture_is_found_by_any_spelling_of_its_name(key: str, name: str, caplog) -> None:
    assert matched({key: 7}, [name, "b"], "captions.json") == {name: 7}
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("key", "names"), [("two.v2", ["two"]), ("a", ["x/a", "y/a"]), ("a", ["b"]), ("x/a", ["a"])]
)
def test_other_pictures_are_not_guessed(key: str, names: list[str]) -> None:
    assert matched({key: 7}, names, "captions.json") == {}


def test_the_exact_name_comes_first() -> None:
    assert matched({"a.jpg": 1, "a": 2}, ["a"], "captions.json") == {"a": 2}


def test_entries_without_a_picture_are_told_once(caplog) -> None:
    matched({"a": 1, "gone": 2, "lost": 3}, ["a", "b"], "captions.json")
    (record,) = caplog.records
    assert record.getMessage() == (
        "captions.json: 2 of 3 entries belong to no picture, such as 'gone'"
    )


def test_a_table_that_matches_nothing_is_told(caplog) -> None:
    matched({"IMG/1": 1}, ["b", "a"], "captions.json")
    (record,) = caplog.records
    assert record.getMessage() == (
        "captions.json: none of 1 entries belongs to a picture: an entry is 'IMG/1', a picture 'a'"
    )
    matched({}, ["a"], "captions.json")
    assert len(caplog.records) == 1


# --- in a set ------------------------------------------------------------------------------------


def test_tables_may_name_pictures_with_their_suffix(make_set, caplog) -> None:
    """Captions and classes of such tables were left out without a word."""
    root = make_set(split={"train": ["000.png"], "validation": ["001.png"]})
    captions = json.loads((root / "captions.json").read_text())
    (root / "captions.json").write_text(json.dumps({f"{k}.png": v for k, v in captions.items()}))
    classes = json.loads((root / "class_labels.json").read_text())
    classes["images"] = {f"{key}.png": value for key, value in classes["images"].items()}
    (root / "class_labels.json").write_text(json.dumps(classes))
    found = PairedFolder(root, "train", 16)
    assert found.names == ["000"]
    assert set(ANNOTATIONS) <= set(found[0])
    assert caplog.text == ""


def test_names_are_compared_whatever_the_file_system_made_of_them(make_set) -> None:
    root = make_set(count=1)
    (root / "images/000.png").rename(root / "images" / unicodedata.normalize("NFD", "é.png"))
    for folder in ("labels", "depth"):
        (root / folder / "000.png").rename(root / folder / unicodedata.normalize("NFC", "é.png"))
    (root / "captions.json").write_text(json.dumps({unicodedata.normalize("NFC", "é"): "a"}))
    assert {"labels", "depth", "caption"} <= set(PairedFolder(root, "all", 16)[0])


@pytest.mark.parametrize("folder", ["labels", "depth"])
def test_suffixes_of_maps_may_be_in_capitals(make_set, folder: str) -> None:
    root = make_set(count=2)
    (root / folder / "000.png").rename(root / folder / "000.PNG")
    np.save(root / folder / "001.npy", np.ones((24, 32), dtype=np.uint8))
    (root / folder / "001.npy").rename(root / folder / "001.NPY")
    (root / folder / "001.png").unlink()
    assert all(folder in sample for sample in PairedFolder(root, "all", 16))


def test_depth_finds_the_range_of_its_picture(make_set) -> None:
    root = make_set(count=1)
    per_image = {"000.png": {"min": 3.0, "max": 4.0}}
    table = {"kind": "inverse", "per_image": per_image}
    (root / "depth.json").write_text(json.dumps(table))
    assert 3.0 <= PairedFolder(root, "all").raw(0)["depth"].min() <= 4.0


def test_maps_and_entries_of_another_split_are_no_strangers(make_set, caplog) -> None:
    root = make_set(split={"train": ["000"], "validation": ["001"]})
    PairedFolder(root, "train")
    assert caplog.text == ""
    Image.new("L", (32, 24)).save(root / "labels" / "more.png")
    PairedFolder(root, "train")
    assert "labels: 1 of 7 entries belong to no picture, such as 'more'" in caplog.text


def test_a_set_tells_how_many_pictures_have_each_annotation(make_set, caplog) -> None:
    root = make_set(split={"train": ["000", "001", "002"], "validation": ["003"]})
    (root / "labels/001.png").unlink()
    (root / "captions.json").write_text(json.dumps({"000": "here"}))
    expected = {"labels": 2, "depth": 3, "keypoints": 3, "boxes": 3, "class_label": 3, "caption": 1}
    assert PairedFolder(root, "train").annotated() == expected
    with caplog.at_level("INFO"):
        ImageData([str(root)], size=16).train  # noqa: B018
    assert "3 pictures (" in caplog.text
    assert "2 with labels" in caplog.text
