"""Laws of reading conditions in the form of published models."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from taming.cond_stage.published import (
    coordinates,
    read_class,
    read_depth,
    read_labels,
    read_picture,
)

SIZE = (4, 6)
IDS = np.arange(24, dtype=np.uint8).reshape(SIZE)


def test_labels_are_the_ids_of_the_file_whatever_names_lie_beside(tmp_path) -> None:
    (tmp_path / "label_names.json").write_text('{"0": "sky"}')
    Image.fromarray(IDS).save(tmp_path / "map.png")
    for source in (tmp_path / "map.png", IDS, Image.fromarray(IDS), torch.from_numpy(IDS)):
        assert np.array_equal(read_labels(source, SIZE, 24), IDS)


def test_unlabelled_is_no_plane_unless_labels_are_shifted(tmp_path) -> None:
    ids = IDS.copy()
    ids[0, 0] = 255
    assert read_labels(ids, SIZE, 30)[0, 0] == 255
    Image.fromarray(ids).save(tmp_path / "map.png")
    for source in (ids, tmp_path / "map.png"):
        shifted = read_labels(source, SIZE, 183)  # COCO-Stuff, by its number
        assert shifted[0, 0] == 0
        assert shifted[0, 1] == 2
    assert torch.equal(read_labels(ids, SIZE, 30, is_shifted=True), shifted)


def test_an_id_beyond_the_planes_is_told(tmp_path) -> None:
    Image.fromarray(IDS).save(tmp_path / "map.png")
    with pytest.raises(ValueError, match=r"map.png holds label 20, .* this model of 20 labels"):
        read_labels(tmp_path / "map.png", SIZE, 20)
    with pytest.raises(ValueError, match=r"holds label 23, .* 0 to 22"):
        read_labels(IDS, SIZE, 24, is_shifted=True)


def test_depth_goes_from_the_farthest_to_the_nearest() -> None:
    depth = read_depth(IDS.astype(np.float32) + 5, SIZE)
    assert depth.shape == (1, *SIZE)
    torch.testing.assert_close(depth[0], torch.linspace(-1, 1, 24).reshape(SIZE))
    assert torch.equal(read_depth(np.ones(SIZE), SIZE), torch.full((1, *SIZE), -1.0))


def test_floats_in_the_bytes_of_a_picture_are_depth(tmp_path) -> None:
    floats = np.linspace(3.0, 7000.0, 24, dtype="<f4").reshape(SIZE)
    Image.fromarray(floats.view(np.uint8).reshape(*SIZE, 4)).save(tmp_path / "packed.png")
    expected = read_depth(floats, SIZE)
    assert torch.equal(read_depth(tmp_path / "packed.png", SIZE), expected)
    assert torch.equal(read_depth(Image.open(tmp_path / "packed.png"), SIZE), expected)


def test_a_grey_picture_with_an_opaque_alpha_is_grey(tmp_path) -> None:
    grey = Image.fromarray(IDS).convert("RGBA")
    grey.save(tmp_path / "grey.png")
    assert torch.equal(read_depth(tmp_path / "grey.png", SIZE), read_depth(IDS, SIZE))


@pytest.mark.parametrize("source", [5, 5.0, "5", np.int64(5)])
def test_a_class_is_a_number(source) -> None:
    assert read_class(source, 6) == 5
    with pytest.raises(ValueError, match=r"class 5 does not exist; .* 0 to 4"):
        read_class(source, 5)


@pytest.mark.parametrize("source", [1.9, "dog", None])
def test_what_is_no_whole_number_is_no_class(source) -> None:
    """Of 1.9 the fraction was cut off."""
    with pytest.raises(ValueError, match=r"class_label is .*; published models .* whole numbers"):
        read_class(source, 5)


def test_a_picture_comes_in_as_many_planes_as_asked_for() -> None:
    picture = np.stack([IDS] * 3, axis=-1)
    assert read_picture(picture, SIZE, 3).shape == (3, *SIZE)
    assert torch.allclose(read_picture(picture, SIZE, 1)[0], read_picture(picture, SIZE, 3)[1])
    with pytest.raises(ValueError, match="has 4 planes"):
        read_picture(picture, SIZE, 4)


def test_coordinates_count_the_pixels_of_the_whole_picture() -> None:
    places = coordinates((20, 30))
    assert places[0, 0, 0] == 0
    assert float(places.max()) < 1
    assert torch.equal(places.flatten().argsort(), torch.arange(600))


def test_json_is_not_mistaken_for_a_map(tmp_path) -> None:
    (tmp_path / "map.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match=r"map.json cannot be read as a label map"):
        read_labels(tmp_path / "map.json", SIZE, 24)
