"""Sets with label maps: ADE20K, S-FLCKR and the examples of all three."""

import numpy as np
import pytest

from taming.data import ade20k, coco, sflckr


def ids(sample: dict) -> np.ndarray:
    assert (sample["segmentation"].sum(axis=-1) == 1).all()
    return sample["segmentation"].argmax(axis=-1)


def test_ade20k_keeps_unlabelled_as_label_zero(disk) -> None:
    disk.ade20k()
    sample = ade20k.ADE20kValidation(size=16)[1]
    assert sample["segmentation"].shape == (16, 16, 151)
    assert set(np.unique(ids(ade20k.ADE20kValidation()[1]))) == {0, 1, 13, 150}
    assert sample["scene_category"] == "kitchen"
    assert sample["relative_segmentation_path_"].endswith("_00000001.png")


def test_ade20k_needs_no_lists(disk) -> None:
    disk.ade20k(lists=False)
    assert len(ade20k.ADE20kTrain(size=16)) == 3


def test_a_crop_may_be_smaller_than_the_size(disk) -> None:
    disk.ade20k()
    assert ade20k.ADE20kTrain(size=20, crop_size=12)[0]["image"].shape == (12, 12, 3)


def test_labels_are_never_mixed_by_resizing(disk) -> None:
    disk.ade20k()
    assert set(np.unique(ids(ade20k.ADE20kValidation(size=13)[0]))) <= {0, 1, 13, 150}


@pytest.mark.parametrize(
    ("examples", "name", "labels", "expected"),
    [
        (ade20k.Examples, "ade20k", (0, 150), {0, 150}),
        (sflckr.Examples, "sflckr", (0, 181), {0, 181}),
        (coco.Examples, "coco", (0, 181, 255), {1, 182, 0}),  # 255, unlabelled, becomes 0
    ],
)
def test_examples_of_published_models(disk, examples, name, labels, expected) -> None:
    disk.examples(name, *labels)
    data = examples(size=24)
    assert len(data) == 2
    assert set(np.unique(ids(data[0]))) == expected


def test_a_label_beyond_the_last_is_named(disk) -> None:
    disk.examples("sflckr", 0, 200)
    with pytest.raises(ValueError, match=r"a.png holds label 200, the set has 182"):
        sflckr.Examples(size=24)[0]


def test_a_map_of_another_size_is_named(disk) -> None:
    disk.examples("sflckr", 0)
    disk.write("sflckr_segmentations/b.png", np.zeros((5, 6), np.uint8))
    with pytest.raises(ValueError, match=r"b.png is 5x6"):
        sflckr.Examples(size=24)[1]


def test_a_coloured_map_is_an_error(disk) -> None:
    disk.examples("sflckr", 0)
    disk.write("sflckr_segmentations/a.png", np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="mode RGB"):
        sflckr.Examples()[0]


def test_missing_examples_name_their_origin(disk) -> None:
    with pytest.raises(ValueError, match=r"sflckr_examples.txt.*CompVis"):
        sflckr.Examples()
