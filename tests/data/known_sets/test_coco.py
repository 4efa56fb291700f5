"""The published COCO sets."""

import numpy as np
import pytest

from taming.data.coco import CocoImagesAndCaptionsTrain, CocoImagesAndCaptionsValidation


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
