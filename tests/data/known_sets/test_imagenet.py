"""ImageNet from its archives, its tables and its depth maps."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taming.data import imagenet
from taming.data.formats import imagenet as layout


def tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def jpeg() -> bytes:
    target = io.BytesIO()
    Image.new("RGB", (20, 16)).save(target, "JPEG")
    return target.getvalue()


def test_samples_have_the_published_keys(disk) -> None:
    disk.imagenet("validation")
    sample = imagenet.ImageNetValidation({"size": 16})[2]
    assert sample["image"].shape == (16, 16, 3)
    assert sample["image"].dtype == np.float32
    assert sample["synsets"] == "n02012849"
    assert sample["human_label"] == "crane"
    assert sample["class_label"] == 1
    assert sample["relpath"] == "n02012849/n02012849_0.JPEG"
    assert Path(sample["file_path_"]).is_file()


def test_all_splits_number_and_name_their_classes_alike(tmp_path: Path) -> None:
    """The third class of one split was the second of the other, and took its name."""
    for split, synsets in {"train": "ACD", "val": "ABD"}.items():
        for letter in synsets:
            picture = tmp_path / split / f"n0000000{letter}" / f"{split}_{letter}.JPEG"
            picture.parent.mkdir(parents=True)
            picture.write_bytes(jpeg())
    records = layout.read(tmp_path, "all")
    for record in records.entries:
        assert record.class_label is not None
        assert records.class_table[record.class_label] == record.name.partition("/")[0]
    assert len(set(records.class_table.values())) == len(records.class_table) == 4


def test_size_zero_leaves_pictures_whole(disk) -> None:
    disk.imagenet("train")
    assert imagenet.ImageNetTrain()[0]["image"].shape == (24, 32, 3)


def test_chosen_classes_are_numbered_anew(disk) -> None:
    disk.imagenet("train")
    chosen = imagenet.ImageNetTrain({"sub_indices": "1-3"})
    assert sorted(set(chosen.synsets)) == ["n02012849", "n03126707"]
    assert sorted(set(chosen.class_labels)) == [0, 1]


def test_the_broken_picture_is_left_out(disk) -> None:
    assert layout.without_broken(["n06596364/n06596364_9591.JPEG", "a/b.JPEG"]) == ["a/b.JPEG"]


def test_the_end_of_a_span_is_left_out() -> None:
    assert imagenet.str_to_indices("7-9, 3, 11") == [3, 7, 8, 11]
    with pytest.raises(ValueError, match="not of the form"):
        imagenet.str_to_indices("1, 2,")


def test_training_archives_are_unpacked_once(disk) -> None:
    folder = disk.root / "ILSVRC2012_train"
    inner = tar(disk.root / "inner.tar", {"n01440764_1.JPEG": jpeg(), "n01440764_2.JPEG": jpeg()})
    tar(folder / "ILSVRC2012_img_train.tar", {"n01440764.tar": inner.read_bytes()})
    disk.lines("ILSVRC2012_train/synset_human.txt", ["n01440764 tench"])
    assert len(imagenet.ImageNetTrain()) == 2
    assert sorted(p.name for p in (folder / "data").rglob("*")) == [
        "n01440764", "n01440764_1.JPEG", "n01440764_2.JPEG",
    ]  # fmt: skip
    (folder / "ILSVRC2012_img_train.tar").unlink()
    assert len(imagenet.ImageNetTrain()) == 2  # prepared: the archive is not needed again


def test_validation_pictures_go_to_their_synsets(disk) -> None:
    folder = disk.root / "ILSVRC2012_validation"
    tar(folder / "ILSVRC2012_img_val.tar", {"val_1.JPEG": jpeg(), "val_2.JPEG": jpeg()})
    disk.lines(f"{folder.name}/validation_synset.txt", ["val_1.JPEG n02", "val_2.JPEG n01"])
    disk.lines(f"{folder.name}/synset_human.txt", ["n01 one", "n02 two"])
    relpaths = imagenet.ImageNetValidation().relpaths
    assert relpaths == ["n01/val_2.JPEG", "n02/val_1.JPEG"]


def test_a_broken_archive_leaves_nothing(disk) -> None:
    folder = disk.root / "ILSVRC2012_train"
    archive = tar(folder / "ILSVRC2012_img_train.tar", {"n01.tar": b"no archive"})
    with pytest.raises(ValueError, match="broken"):
        imagenet.ImageNetTrain()
    assert list(folder.iterdir()) == [archive]


def test_the_error_says_where_to_get_the_archive(disk) -> None:
    with pytest.raises(ValueError, match=r"ILSVRC2012_img_train.tar.*image-net.org"):
        imagenet.ImageNetTrain()


def test_depth_is_the_float_whose_bytes_were_saved(disk) -> None:
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    path = disk.write("depth.png", values.view(np.uint8).reshape(5, 7, 4))
    assert np.array_equal(layout.read_midas(str(path)), values)


def test_depth_goes_with_its_picture(disk) -> None:
    disk.imagenet("validation")
    sample = imagenet.ImageNetValidationWithDepth(size=16)[0]
    assert sample["depth"].shape == sample["image"].shape[:2] == (16, 16)
    whole = imagenet.ImageNetValidationWithDepth()[0]["depth"]
    assert (whole.min(), whole.max()) == (-1.0, 1.0)


def test_depth_of_another_size_is_an_error(disk) -> None:
    disk.imagenet("validation")
    wrong = np.zeros((3, 4), np.float32)
    for path in (disk.root / "imagenet_depth").rglob("*.png"):
        path.unlink()
        np.save(path.with_suffix(".npy"), wrong)
    with pytest.raises(ValueError, match="3x4"):
        imagenet.ImageNetValidationWithDepth()[0]


def test_the_small_picture_is_the_large_one_with_less_detail(disk) -> None:
    disk.imagenet("validation")
    sample = imagenet.ImageNetScaleValidation(size=24, up_factor=4)[0]
    assert sample["lr"].shape == sample["image"].shape
    steepness = [np.abs(np.diff(sample[key], axis=0)).mean() for key in ("lr", "image")]
    assert steepness[0] < steepness[1]


def test_edges_are_zero_or_one(disk) -> None:
    disk.imagenet("validation")
    sample = imagenet.ImageNetEdgesValidation(crop_size=24)[0]
    assert set(np.unique(sample["lr"])) <= {0.0, 1.0}
    assert sample["lr"].shape == (24, 24, 3)


def test_names_that_two_synsets_share_are_told_apart(disk) -> None:
    disk.imagenet("train")
    names = layout.read(disk.root, "train").class_table
    assert list(names.values()) == ["tench, Tinca tinca", "crane (n02012849)", "crane (n03126707)"]


def test_classes_keep_their_place_where_some_are_absent(disk) -> None:
    folder = disk.imagenet("train")
    for path in (folder / "data/n01440764").iterdir():
        path.unlink()
    records = layout.read(disk.root, "train")
    assert {record.class_label for record in records.entries} == {1, 2}
    assert len(records.class_table) == 3
