"""The published COCO sets."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from taming.data.coco import CocoImagesAndCaptionsTrain, CocoImagesAndCaptionsValidation
from taming.data.formats.coco import read_boxes


def test_samples_have_the_published_keys(disk) -> None:
    disk.coco()
    sample = CocoImagesAndCaptionsValidation(16)[1]
    assert set(sample) == {
        "image", "caption", "segmentation", "img_path", "seg_path", "filename_",
    }  # fmt: skip
    assert sample["image"].shape == sample["segmentation"].shape == (16, 16, 3)
    assert sample["filename_"] == "000000000011.jpg"
    assert "pixelmaps" in sample["seg_path"]


def test_a_caption_is_drawn_with_the_epoch(disk) -> None:
    disk.coco("train2017")
    data = CocoImagesAndCaptionsTrain(16)
    drawn = {data[(0, epoch)]["caption"][0] for epoch in range(12)}
    assert drawn == {"picture 0, red", "picture 0, blue"}


def test_one_hot_labels_move_up_and_unlabelled_is_zero(disk) -> None:
    disk.coco()
    data = CocoImagesAndCaptionsValidation(17, onehot_segmentation=True, use_stuffthing=True)
    segmentation = data[0]["segmentation"]
    assert segmentation.shape == (17, 17, 183)
    assert set(np.unique(segmentation.argmax(axis=-1))) <= {1, 18, 182, 0}


def test_no_crop_keeps_all_of_the_picture(disk) -> None:
    disk.coco()
    options = {"onehot_segmentation": True, "use_stuffthing": True}
    whole = CocoImagesAndCaptionsValidation(16, force_no_crop=True, **options)[0]
    assert set(np.unique(whole["segmentation"].argmax(axis=-1))) == {1, 18, 182, 0}


def test_only_given_files_are_used(disk) -> None:
    disk.coco()
    data = CocoImagesAndCaptionsValidation(16, given_files=["000000000012.png"])
    assert [sample["filename_"] for sample in data] == ["000000000012.jpg"]


def test_one_hot_needs_things_and_stuff(disk) -> None:
    disk.coco()
    with pytest.raises(ValueError, match="use_stuffthing=True"):
        CocoImagesAndCaptionsValidation(16, onehot_segmentation=True)


def test_missing_annotations_name_their_origin(disk) -> None:
    with pytest.raises(ValueError, match=r"captions_val2017.json.*cocodataset.org"):
        CocoImagesAndCaptionsValidation(16)


@pytest.mark.parametrize(
    ("kind", "entries", "message"),
    [
        ("categories", 5, r"boxes\.json: categories is 5; give a list"),
        ("categories", [{"id": "a", "name": "tree"}], "is none of categories; give"),
        ("categories", [{"id": 1}], "is none of categories; give"),
        ("images", ["a.png"], "'a.png' is none of images; give"),
        ("annotations", [[1, 2, 3, 4]], r"\[1, 2, 3, 4\] is none of annotations; give"),
        ("annotations", [{"image_id": 1, "category_id": 1, "bbox": [0, "x", 1, 1]}], "4 numbers"),
    ],
)
def test_boxes_of_another_form_are_shown(
    tmp_path: Path, kind: str, entries: Any, message: str
) -> None:
    """They ended in errors of Python that named no file."""
    told: dict[str, Any] = {
        "categories": [{"id": 1, "name": "tree"}],
        "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 4}],
        "annotations": [],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(told | {kind: entries}))
    with pytest.raises(ValueError, match=message):
        read_boxes(tmp_path / "boxes.json")
