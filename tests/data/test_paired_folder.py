"""A folder of pictures and whatever lies beside them."""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from taming.data.batch import ANNOTATIONS, JOINTS, VOID
from taming.data.image_list import ImageList
from taming.data.mix import Mix
from taming.data.paired_folder import PairedFolder, open_set


def same(one: dict, two: dict) -> bool:
    if one.keys() != two.keys():
        return False
    return all(
        torch.equal(one[k], two[k]) if isinstance(one[k], torch.Tensor) else one[k] == two[k]
        for k in one
    )


def test_a_sample_has_every_annotation_there_is(make_set) -> None:
    sample = PairedFolder(make_set(), "all", (16, 20))[1]
    assert set(ANNOTATIONS) | {"image", "name", "set"} == set(sample)
    assert sample["name"] == "001"
    assert sample["set"] == "rooms"
    assert sample["caption"] in ("picture 001", "again 001")
    assert sample["class_label"].item() == 1
    assert set(sample["labels"].unique().tolist()) <= {0, 1, VOID}
    assert sample["keypoints"].shape == (1, 19, 3)


def test_raw_gives_the_files_as_they_are(make_set) -> None:
    raw = PairedFolder(make_set(), "all").raw(0)
    assert raw["image"].shape == (24, 32, 3)
    assert raw["image"].dtype == np.uint8
    assert raw["labels"].shape == raw["depth"].shape == (24, 32)
    assert raw["keypoints"][0, JOINTS.index("left_hip")].tolist() == [24, 18, 1]


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("labels", "labels"),
        ("depth", "depth"),
        ("keypoints.json", "keypoints"),
        ("class_labels.json", "class_label"),
        ("captions.json", "caption"),
    ],
)
def test_any_annotation_may_be_missing(make_set, tmp_path, file: str, key: str) -> None:
    root = make_set()
    (root / file).rename(tmp_path / "elsewhere")
    sample = PairedFolder(root, "all", 16)[0]
    assert set(ANNOTATIONS) - set(sample) == {key}


def test_single_pictures_may_lack_annotations(make_set) -> None:
    root = make_set()
    (root / "labels" / "001.png").unlink()
    (root / "depth" / "002.png").unlink()
    (root / "captions.json").write_text(json.dumps({"000": "here"}))
    present = [set(ANNOTATIONS) & set(sample) for sample in PairedFolder(root, "all", 16)]
    assert ["labels" in keys for keys in present[:3]] == [True, False, True]
    assert ["depth" in keys for keys in present[:3]] == [True, True, False]
    assert ["caption" in keys for keys in present[:3]] == [True, False, False]


def test_only_the_annotations_asked_for_are_read(make_set) -> None:
    root = make_set()
    (root / "depth.json").unlink()  # would be an error, were depth read
    sample = PairedFolder(root, "all", 16, annotations=["labels"])[0]
    assert set(ANNOTATIONS) & set(sample) == {"labels"}
    with pytest.raises(ValueError, match=r"depth\.json is missing"):
        PairedFolder(root, "all", 16)
    with pytest.raises(ValueError, match="normals"):
        PairedFolder(root, "all", 16, annotations=["normals"])


def test_samples_are_pure_functions_of_seed_epoch_and_index(make_set) -> None:
    root = make_set()
    options = {"scale": (1.0, 1.5), "jitter": 0.2, "seed": 3}
    one, two = (PairedFolder(root, "train", 16, **options) for _ in range(2))
    two.sample(4, 7)
    assert same(one.sample(2, 5), two.sample(2, 5))
    assert not same(one.sample(2, 5), one.sample(2, 6))
    assert not same(one.sample(2, 5), PairedFolder(root, "train", 16, seed=4).sample(2, 5))


def test_set_epoch_is_the_epoch_of_plain_indices(make_set) -> None:
    rooms = PairedFolder(make_set(), "train", 16)
    rooms.set_epoch(9)
    assert same(rooms[2], rooms.sample(2, 9))
    assert same(rooms[(2, 4)], rooms.sample(2, 4))


def test_captions_change_with_the_epoch_but_not_in_validation(make_set) -> None:
    root = make_set(split={"train": ["000"], "validation": ["001"]})
    train = {PairedFolder(root, "train", 8).sample(0, e)["caption"] for e in range(20)}
    held = {PairedFolder(root, "validation", 8).sample(0, e)["caption"] for e in range(20)}
    assert train == {"picture 000", "again 000"}
    assert held == {"picture 001"}


def test_pictures_below_subfolders_keep_their_path_as_name(make_set) -> None:
    root = make_set(count=2)
    for folder in ("images", "labels"):
        (root / folder / "inner").mkdir()
        (root / folder / "001.png").rename(root / folder / "inner" / "001.png")
    rooms = PairedFolder(root, "all", 16)
    assert rooms.names == ["000", "inner/001"]
    assert "labels" in rooms[1]


# --- splits ------------------------------------------------------------------------------------


def test_split_json_decides(make_set, caplog) -> None:
    root = make_set(split={"train": ["000", "004", "gone"], "test": ["002"], "seed": 0})
    assert PairedFolder(root, "train").names == ["000", "004"]
    assert "gone" in caplog.text
    assert PairedFolder(root, "train+test").names == ["000", "002", "004"]
    assert len(PairedFolder(root, "all")) == 6
    with pytest.raises(ValueError, match=r"no pictures in split 'validation'.*'train': 3"):
        PairedFolder(root, "validation")
    with pytest.raises(ValueError, match="split 'trian' is unknown"):
        PairedFolder(root, "trian")


def test_a_picture_both_in_train_and_in_validation_is_an_error(make_set) -> None:
    root = make_set(split={"train": ["000", "001"], "validation": ["001", "002"]})
    with pytest.raises(ValueError, match=r"split\.json has 1 pictures both.*'001'"):
        PairedFolder(root, "train")


@pytest.mark.parametrize("held", ["validation", "test"])
def test_two_spellings_of_a_picture_are_one_picture(make_set, held: str) -> None:
    """They were compared as text, and a picture was in both."""
    root = make_set(split={"train": ["000.jpg", "001"], held: ["000"]})
    with pytest.raises(ValueError, match=rf"1 pictures both in train and in {held}.*'000'"):
        PairedFolder(root, "train")


def test_without_split_json_a_twentieth_is_held_out(make_set) -> None:
    root = make_set(count=40, size=(4, 4))
    train, held = (PairedFolder(root, part).names for part in ("train", "validation"))
    assert len(held) == 2
    assert sorted(train + held) == PairedFolder(root, "all").names
    assert len(PairedFolder(make_set("few"), "train")) == 6


# --- bad input ----------------------------------------------------------------------------------


def test_unreadable_pictures_are_replaced_counted_and_named(make_set, caplog) -> None:
    root = make_set()
    broken = root / "images" / "002.png"
    broken.write_bytes(broken.read_bytes()[:60])
    rooms = PairedFolder(root, "train", 16)
    index = rooms.names.index("002")
    with caplog.at_level(logging.WARNING):
        first, again = rooms.sample(index, 0), rooms.sample(index, 0)
    assert same(first, again)
    assert first["name"] != "002"
    assert rooms.skipped == {"002"}
    assert len(caplog.records) == 1
    assert str(broken) in caplog.text


def test_a_set_of_broken_pictures_gives_up(make_set) -> None:
    root = make_set()
    for path in (root / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="in a row are unreadable"):
        PairedFolder(root, "all", 16)[0]


@pytest.mark.parametrize("folder", ["labels", "depth"])
def test_maps_of_another_size_are_errors(make_set, folder: str) -> None:
    root = make_set()
    Image.fromarray(np.ones((24, 30), dtype=np.uint8)).save(root / folder / "000.png")
    with pytest.raises(ValueError, match=rf"{folder}/000\.png is 24x30.*24x32"):
        PairedFolder(root, "all", 16)[0]


def test_broken_annotations_of_a_good_picture_are_errors(make_set) -> None:
    root = make_set()
    (root / "labels" / "000.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match=r"labels/000\.png cannot be read"):
        PairedFolder(root, "all", 16)[0]


def test_labels_without_names_are_an_error(make_set) -> None:
    root = make_set()
    (root / "label_names.json").unlink()
    with pytest.raises(ValueError, match=r"label_names\.json is missing"):
        PairedFolder(root)


def test_two_pictures_of_one_name_are_an_error(make_set) -> None:
    root = make_set()
    Image.new("RGB", (4, 4)).save(root / "images" / "000.jpg")
    with pytest.raises(ValueError, match="share one name"):
        PairedFolder(root)


def test_missing_folders_and_sizes_are_errors(tmp_path, make_set) -> None:
    with pytest.raises(ValueError, match=r"images does not exist"):
        PairedFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="size"):
        PairedFolder(make_set())[0]
    with pytest.raises(ValueError, match="environment variable"):
        open_set("$SURELY_NOT_SET_ANYWHERE/rooms")


def rewrite(root: Path, file: str, change: Callable[[dict], object]) -> None:
    content = json.loads((root / file).read_text())
    change(content)
    (root / file).write_text(json.dumps(content))


def test_boxes_need_no_more_than_a_category_and_a_place(make_set) -> None:
    """Files made by hand ended in a KeyError."""
    root = make_set()

    def bare(content: dict) -> None:
        content["categories"] = [{"id": 7, "name": "other"}]
        content["annotations"] = [
            {key: entry[key] for key in ("image_id", "category_id", "bbox")}
            for entry in content["annotations"]
        ]

    rewrite(root, "boxes.json", bare)
    found = PairedFolder(root, "all", (24, 32), random=False)
    assert found.box_names == ["other"]
    assert found[0]["boxes"].tolist() == [[0, 6, 16, 18, 0]]


@pytest.mark.parametrize(
    ("kind", "key", "message"),
    [
        ("images", "width", r"boxes\.json: picture .*'000\.png'.* has no width"),
        ("images", "id", r"boxes\.json: picture .* has no id"),
        ("annotations", "bbox", r"boxes\.json: annotation 0 of picture 0 needs .*bbox"),
        ("annotations", "category_id", r"boxes\.json: annotation 0 .* needs a category_id"),
        ("annotations", "image_id", r"boxes\.json: annotation 0 is of picture None"),
    ],
)
def test_boxes_that_lack_something_are_named(make_set, kind: str, key: str, message: str) -> None:
    root = make_set()
    rewrite(root, "boxes.json", lambda content: content[kind][0].pop(key))
    with pytest.raises(ValueError, match=message):
        PairedFolder(root, "all", 16)


def test_boxes_of_a_picture_that_was_turned_are_an_error(make_set) -> None:
    """They lay where nothing was, without a word."""
    root = make_set()
    rewrite(root, "boxes.json", lambda content: content["images"][0].update(width=24, height=32))
    with pytest.raises(ValueError, match=r"boxes\.json says '000' is 32x24.*picture is 24x32"):
        PairedFolder(root, "all", 16, annotations=["boxes"])[0]


# --- plain pictures ------------------------------------------------------------------------------


def plain(tmp_path: Path) -> Path:
    folder = tmp_path / "holiday"
    for name in ("a.png", "sea/b.jpg", "sea/deep/c.webp"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (200, 10, 10)).save(folder / name)
    return folder


def test_a_plain_folder_is_a_set(tmp_path) -> None:
    pictures = open_set(plain(tmp_path), "train", size=(8, 6), ignore=["sky"])
    assert type(pictures) is ImageList
    assert pictures.names == ["a.png", "sea/b.jpg", "sea/deep/c.webp"]
    sample = pictures[2]
    assert set(sample) == {"image", "name", "set"}
    assert sample["image"].shape == (3, 8, 6)


def test_a_text_file_of_paths_is_a_set(tmp_path) -> None:
    plain(tmp_path)
    file = tmp_path / "lists" / "few.txt"
    file.parent.mkdir()
    file.write_text("../holiday/a.png\n../holiday/sea/b.jpg\n")
    pictures = open_set(file, size=8)
    assert [path.name for path in pictures.paths] == ["a.png", "b.jpg"]
    assert pictures[1]["image"].shape == (3, 8, 8)
    assert pictures.name == "few"


def test_a_text_file_may_hold_paths_from_the_root(tmp_path, monkeypatch) -> None:
    folder = plain(tmp_path)
    file = tmp_path / "lists" / "few.txt"
    file.parent.mkdir()
    file.write_text(f"{folder / 'a.png'}\n{folder / 'sea/b.jpg'}\n")
    pictures = open_set(file, size=8)
    assert pictures.names == ["../holiday/a.png", "../holiday/sea/b.jpg"]
    assert pictures[1]["image"].shape == (3, 8, 8)

    def no_way(*paths: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr("taming.data.image_list.os.path.relpath", no_way)
    assert open_set(file).names[0] == (folder / "a.png").as_posix()


@pytest.mark.skipif(sys.platform != "linux", reason="names are any bytes only there")
def test_names_that_are_no_utf8_are_names(tmp_path) -> None:
    for number in range(3):
        path = os.path.join(os.fsencode(tmp_path), b"caf\xe9%d.png" % number)
        with open(path, "wb") as file:
            Image.new("RGB", (4, 4)).save(file, "PNG")
    assert len(ImageList(tmp_path, "train", 4)) == 3


def test_indices_count_from_the_end_too(tmp_path) -> None:
    pictures = ImageList(plain(tmp_path), "train", 4)
    assert same(pictures[-1], pictures[2])
    with pytest.raises(IndexError):
        pictures[3]


def test_an_empty_folder_is_an_error(tmp_path) -> None:
    with pytest.raises(ValueError, match="no pictures"):
        ImageList(tmp_path)


# --- mixes ---------------------------------------------------------------------------------------


def test_a_mix_merges_clashing_ids_by_name(make_set) -> None:
    streets = PairedFolder(make_set("streets", label_names=("road", "sky")), "all", 16)
    rooms = PairedFolder(make_set("rooms", label_names=("sky", "wall", "unused")), "all", 16)
    mix = Mix([streets, rooms])
    assert mix.label_names == ["road", "sky", "wall"]
    assert set(mix[0]["labels"].unique().tolist()) == {0, 1}
    assert set(mix[6]["labels"].unique().tolist()) == {1, 2, VOID}
    assert mix.class_names == ["summer", "winter"]


def test_ignored_names_are_void_in_every_set_of_a_mix(make_set) -> None:
    streets = PairedFolder(make_set("streets", label_names=("road", "sky")), "all", 16)
    ignoring = PairedFolder(
        make_set("other", label_names=("sea", "sky")), "all", 16, ignore=["sea"]
    )
    assert Mix([streets, ignoring]).label_names == ["road", "sky"]
    assert set(Mix([streets, ignoring])[6]["labels"].unique().tolist()) == {1, VOID}


def test_indices_of_a_mix_run_through_its_sets(make_set) -> None:
    one, two = (PairedFolder(make_set(name), "all", 16) for name in ("one", "two"))
    mix = Mix([one, two])
    assert len(mix) == 12
    assert mix.lengths == [6, 6]
    assert mix.sizes == [(16, 16), (16, 16)]
    assert mix.locate(7) == (two, 1)
    assert same(mix.sample(7, 3), two.sample(1, 3))
    assert same(mix[(7, 3)], two.sample(1, 3))
    with pytest.raises(IndexError):
        mix.locate(12)


def test_mixes_that_cannot_be_are_errors(make_set) -> None:
    rooms = PairedFolder(make_set(), "all", 16)
    for sets, weights, message in (
        ([], None, "no sets"),
        ([rooms, rooms], None, "share a name"),
        ([rooms], [1.0, 2.0], "weights"),
        ([rooms], [0.0], "weights"),
    ):
        with pytest.raises(ValueError, match=message):
            Mix(sets, weights)


def test_names_outside_a_given_vocabulary_are_logged(make_set, caplog) -> None:
    rooms = PairedFolder(make_set(), "all", 16, label_names=["sky"], class_names=["summer"])
    assert "ground" in caplog.text
    assert "winter" in caplog.text
    assert set(rooms[1]["labels"].unique().tolist()) == {0, VOID}
    assert "class_label" not in rooms[1]
    assert "class_label" in rooms[0]
