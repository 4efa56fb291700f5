"""Pictures sorted into a folder for each class."""

from pathlib import Path

import pytest
from PIL import Image

from taming.data.datamodule import ImageData
from taming.data.format_set import FormatSet
from taming.data.formats.class_folders import read


def test_a_folder_is_a_class(disk) -> None:
    found = read(disk.class_folders(), "all")
    assert found.class_table == {0: "daisy", 1: "tulip"}
    classes = {record.name: record.class_label for record in found.entries}
    assert classes == {
        "tulip/0.png": 1, "tulip/1.png": 1, "tulip/2.png": 1,
        "daisy/0.png": 0, "daisy/old/0.png": 0, "other.png": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("learnt", "held"),
    [("train", "validation"), ("train", "val"), ("Train", "Valid"), ("training", "validation")],
)
def test_splits_number_alike(disk, learnt: str, held: str) -> None:
    folder = disk.class_folders(learnt, held)
    (folder / learnt / "aster").mkdir()
    Image.new("RGB", (8, 8)).save(folder / learnt / "aster/0.png")
    train, validation = read(folder, "train"), read(folder, "validation")
    assert train.class_table == validation.class_table == {0: "aster", 1: "daisy", 2: "tulip"}
    assert {record.name.partition("/")[0] for record in train.entries} == {learnt}
    assert {record.name.partition("/")[0] for record in validation.entries} == {held}
    assert len(read(folder, "all").entries) == len(train.entries) + len(validation.entries) == 13
    assert not read(folder, "test").entries


def test_without_splits_one_in_twenty_is_held_out(disk) -> None:
    folder = disk.class_folders()
    for n in range(54):
        Image.new("RGB", (8, 8)).save(folder / f"tulip/more_{n}.png")
    parts = [{r.name for r in read(folder, part).entries} for part in ("train", "validation")]
    assert [len(part) for part in parts] == [57, 3]
    assert not parts[0] & parts[1]


def test_trains_may_be_a_class(tmp_path: Path) -> None:
    for name in ("car", "train", "train/.thumbnails"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "0.png")
    assert read(tmp_path, "train").class_table == {0: "car", 1: "train"}


def test_classes_beside_splits_are_an_error_that_names_them(disk) -> None:
    folder = disk.class_folders("train", "test")
    (folder / "notes").mkdir()  # without pictures
    assert len(read(folder, "train").entries) == 6
    (folder / "roses").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "roses/0.png")
    with pytest.raises(ValueError, match=r"pictures in roses/ beside it; keep nothing but splits"):
        read(folder, "train")


def test_splits_without_one_to_train_on_are_no_classes(disk) -> None:
    with pytest.raises(ValueError, match=r"has folders in test/, and none in train/"):
        read(disk.class_folders("val", "test"), "train")


def test_a_paired_set_is_told_from_classes(disk) -> None:
    with pytest.raises(ValueError, match=r"class_labels\.json, or give .*images as the path"):
        read(disk.class_folders("images"), "train")
    assert read(disk.class_folders("images") / "images", "all").class_table[1] == "tulip"


def test_pictures_without_folders_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"a folder of a class does not exist; sort pictures"):
        FormatSet(tmp_path, "train", format="class_folders")


def test_photographs_are_turned_upright(disk) -> None:
    path = disk.class_folders() / "tulip/0.png"
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6  # by a quarter
        picture.save(path, exif=exif)
    data = FormatSet(path.parents[1], "all", format="class_folders")
    assert data.raw(data.names.index("tulip/0.png"))["image"].shape == (32, 24, 3)


def test_sets_mix_by_the_names_of_their_classes(disk) -> None:
    entries = [
        {"path": str(disk.class_folders("train")), "format": "class_folders", "size": 16},
        {"path": str(disk.ade20k()), "format": "ade20k", "size": 16},
    ]
    assert ImageData(entries).class_names[:2] == ["daisy", "tulip"]
