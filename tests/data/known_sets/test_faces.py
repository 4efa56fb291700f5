"""CelebA-HQ, FFHQ and both."""

import numpy as np
import pytest
from PIL import Image

from taming.data import faceshq


def test_arrays_and_pictures_are_read_alike(disk) -> None:
    disk.faces()
    planes = np.load(disk.root / "celebahq/imgHQ00001.npy")[0].transpose(1, 2, 0)
    picture = np.array(Image.open(disk.root / "ffhq/00000.png"))
    for data, index, pixels in (
        (faceshq.CelebAHQTrain(32), 1, planes),
        (faceshq.FFHQTrain(32), 0, picture),
    ):
        assert np.allclose((data[index]["image"] + 1) * 127.5, pixels, atol=1e-3)


def test_only_the_keys_asked_for_are_kept(disk) -> None:
    disk.faces()
    assert set(faceshq.FFHQTrain(16, keys=["image"])[0]) == {"image"}


def test_the_class_is_the_set(disk) -> None:
    disk.faces("validation")
    data = faceshq.FacesHQValidation(16)
    assert [data[i]["class"] for i in range(len(data))] == [0, 0, 1, 1, 1]


def test_coordinates_tell_where_the_crop_is(disk) -> None:
    disk.faces()
    data = faceshq.FacesHQTrain(24, crop_size=8, coord=True)
    whole = faceshq.FFHQTrain(24)[1]["image"]
    sample = data[(3, 5)]
    row, column = divmod(round(float(sample["coord"][0, 0, 0]) * 24 * 24), 24)
    assert np.array_equal(sample["image"], whole[row : row + 8, column : column + 8])
    assert (row, column) != (8, 8)  # not simply the middle


def test_a_missing_list_is_named(disk) -> None:
    with pytest.raises(ValueError, match=r"ffhqtrain.txt does not exist"):
        faceshq.FFHQTrain(16)


def test_an_array_of_another_shape_is_named(disk) -> None:
    disk.faces()
    disk.write("celebahq/imgHQ00000.npy", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"imgHQ00000.npy holds \(4, 4\)"):
        faceshq.CelebAHQTrain(16)[0]
