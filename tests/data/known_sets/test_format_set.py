"""Known sets as samples of the framework's own trainings."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from taming.data.batch import JOINTS, VOID
from taming.data.datamodule import ImageData
from taming.data.format_set import FormatSet
from taming.data.formats import FORMATS, reader_of
from taming.data.marks import mark_of
from taming.data.paired_folder import open_set


def folder_of(disk, format: str):
    """The folder that a config names for this format, with both splits written."""
    if format in ("ffhq", "celebahq", "faceshq"):
        disk.faces("train")
        return disk.faces("validation")
    if format == "imagenet":
        disk.imagenet("train")
        disk.imagenet("validation")
        return disk.root
    if format == "sflckr":
        disk.examples("sflckr", 0, 5, 181)
        disk.lines("sflckr_train.txt", ["a.jpg"])
        return disk.root
    if format == "coco":
        disk.coco("train2017")
    if format == "open_images":
        disk.open_images("train")
    if format == "class_folders":
        return disk.class_folders("train", "val")
    return getattr(disk, format)()


EXPECTED = {
    "ade20k": {"labels", "class_label"},
    "celebahq": {"class_label"},
    "class_folders": {"class_label"},
    "coco": {"labels", "caption", "keypoints", "boxes"},
    "deepfashion": {"keypoints"},
    "faceshq": {"class_label"},
    "ffhq": {"class_label"},
    "imagenet": {"class_label", "depth"},
    "open_images": {"boxes"},
    "sflckr": {"labels"},
}


def test_every_format_is_tested() -> None:
    assert set(EXPECTED) == set(FORMATS)


@pytest.mark.parametrize("format", FORMATS)
def test_a_sample_has_what_the_format_knows(disk, format: str) -> None:
    sample = FormatSet(folder_of(disk, format), "train", (16, 24), format=format)[0]
    assert set(sample) - {"image", "name", "set"} == EXPECTED[format]
    assert sample["image"].shape == (3, 16, 24)


@pytest.mark.parametrize("format", FORMATS)
def test_both_splits_train_and_validate(disk, format: str) -> None:
    entry = {"path": str(folder_of(disk, format)), "format": format, "size": 16}
    data = ImageData([entry], batch_size=1)
    assert len(next(iter(data.train_dataloader()))["image"]) == 1
    validation = data.validation
    assert validation is not None
    assert validation[0]["image"].shape == (3, 16, 16)


@pytest.mark.parametrize("format", FORMATS)
def test_sets_travel_to_workers_of_any_kind(disk, format: str) -> None:
    data = FormatSet(folder_of(disk, format), "train", 16, format=format)
    copy = pickle.loads(pickle.dumps(data))
    assert torch.equal(copy[0]["image"], data[0]["image"])


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder_without_the_files_is_an_error_that_says_so(disk, format: str) -> None:
    with pytest.raises(ValueError, match="has no pictures in split 'train'"):
        FormatSet(disk.root, "train", 16, format=format)


@pytest.mark.parametrize("format", FORMATS)
def test_all_of_nothing_is_an_error_that_says_so(disk, format: str) -> None:
    with pytest.raises(ValueError, match=r"has no pictures in split '(all|train)'"):
        FormatSet(disk.root, "all", 16, format=format)


def test_other_annotations_are_another_set(disk, tmp_path: Path) -> None:
    """Codes, judges and reports outlived maps and tables that lay elsewhere than in our folders."""
    root = folder_of(disk, "sflckr")
    mark = mark_of(FormatSet(root, "train", 16, format="sflckr"))
    assert mark_of(FormatSet(root, "train", 16, format="sflckr")) == mark
    disk.write("sflckr_segmentations/a.png", np.full((40, 60), 7, np.uint8))
    changed = mark_of(FormatSet(root, "train", 16, format="sflckr"))
    moved = FormatSet(shutil.copytree(root, tmp_path / "moved"), "train", 16, format="sflckr")
    assert mark_of(moved) == changed != mark
    people = FormatSet(folder_of(disk, "deepfashion"), "train", 16, format="deepfashion")
    mark = mark_of(people)
    joints = next(r.keypoints for r in people.known.entries if r.keypoints is not None)
    joints[0, 0, 0] += 1.0
    assert mark_of(people) != mark


def test_it_is_told_how_many_pictures_have_what(disk) -> None:
    found = FormatSet(disk.deepfashion(), "train", 16, format="deepfashion")
    assert (len(found), found.annotated()) == (3, {"keypoints": 2})


def test_a_set_without_a_held_out_part_is_not_validated(disk) -> None:
    entry = {"path": str(disk.coco("train2017").parent / "coco"), "format": "coco", "size": 16}
    assert ImageData([entry]).validation is None


def test_an_unknown_format_names_the_nearest(disk) -> None:
    with pytest.raises(ValueError, match="did you mean 'coco'"):
        open_set(disk.root, format="cocoa")


@pytest.mark.parametrize(
    ("format", "folder"),
    [("ade20k", "ade20k_root/annotations"), ("sflckr", "sflckr_segmentations")],
)
def test_absent_maps_are_absent(disk, format: str, folder: str) -> None:
    """The first sample ended the training, and the log had counted maps."""
    root = folder_of(disk, format)
    shutil.rmtree(disk.root / folder)
    data = FormatSet(root, "train", 16, format=format)
    assert "labels" not in data.annotated()
    assert "labels" not in data[0]


def test_boxes_of_pictures_that_are_not_there_are_left_out(disk, caplog) -> None:
    (disk.open_images("train") / "train/00000000000000aa.jpg").unlink()
    data = FormatSet(disk.root / "open_images", "train", 16, format="open_images")
    assert data.names == ["00000000000000ab"]
    assert "1 of 2 pictures with boxes are not in" in caplog.text


def test_splits_are_joined(disk) -> None:
    folder = folder_of(disk, "imagenet")
    each = [len(FormatSet(folder, split, format="imagenet")) for split in ("train", "all")]
    assert each[1] >= each[0]
    both = reader_of("imagenet")(folder, "all")
    assert len(both.entries) == 12


def test_sets_mix_by_the_names_of_their_labels(disk) -> None:
    folders = {name: str(folder_of(disk, name)) for name in ("coco", "ade20k")}
    entries = [{"path": path, "format": name, "size": 16} for name, path in folders.items()]
    data = ImageData(entries)
    coco, ade = data.train.sets
    names = data.label_names
    seen = {names[i] for i in coco[0]["labels"].unique() if i != VOID}
    assert seen <= {"person", "horse", "cat", "dog", "wood"}
    assert "person" in {names[i] for i in ade[0]["labels"].unique() if i != VOID}  # id 13 there
    assert len(set(names)) == len(names) < 150 + 171


def test_unlabelled_pixels_are_void(disk) -> None:
    for name, share in (("coco", 0.25), ("ade20k", 0.25)):  # one column of four
        data = FormatSet(folder_of(disk, name), "validation", (24, 32), format=name)
        assert (data[0]["labels"] == VOID).float().mean() == share


def test_boxes_lie_where_the_picture_shows_them(disk) -> None:
    data = FormatSet(disk.coco(), "validation", (24, 32), format="coco")
    boxes = {data.box_names[int(box[4])]: box[:4].tolist() for box in data[0]["boxes"]}
    assert boxes == {"dog": [8, 6, 24, 18], "sky-other": [0, 0, 32, 6]}


def test_openpose_joints_become_ours(disk) -> None:
    data = FormatSet(disk.deepfashion(), "train", (32, 22), format="deepfashion", random=False)
    person = data[0]["keypoints"][0]
    assert {JOINTS[i] for i in person[:, 2].nonzero()[:, 0]} == {
        "nose", "right_shoulder", "left_shoulder",
    }  # fmt: skip
    assert person[JOINTS.index("right_shoulder"), :2].tolist() == [6, 10]


def test_a_picture_where_nobody_was_found_has_no_joints(disk) -> None:
    data = FormatSet(disk.deepfashion(), "train", 16, format="deepfashion")
    assert "keypoints" not in data[2]


def test_only_annotations_asked_for_are_read(disk) -> None:
    data = FormatSet(disk.coco(), "validation", 16, format="coco", annotations=["caption"])
    assert set(data[0]) == {"image", "caption", "name", "set"}
    assert data.label_names == data.box_names == []


def test_depth_lies_between_its_percentiles(disk) -> None:
    disk.imagenet()
    depth = FormatSet(disk.root, "train", 16, format="imagenet")[0]["depth"]
    assert depth.shape == (1, 16, 16)
    assert (depth.min(), depth.max()) == (-1, 1)


def test_pictures_are_taken_as_stored(disk) -> None:
    """A turned picture would no longer fit the map that was made of its stored pixels."""
    from PIL import Image

    disk.ade20k()
    path = disk.root / "ade20k_root/images/training/ADE_train_00000000.jpg"
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6  # turn by a quarter
        picture.save(path, exif=exif)
    raw = FormatSet(disk.root / "ade20k_root", format="ade20k").raw(0)
    assert raw["image"].shape[:2] == np.shape(raw["labels"]) == (24, 32)
