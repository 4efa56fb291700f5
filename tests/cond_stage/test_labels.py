"""Label maps in every form people have them."""

import json

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from taming.cond_stage import Labels

NAMES = ["sky", "sea", "sand", "rock"]
IDS = np.array([[0, 1, 2], [3, 255, 1]], dtype=np.uint8).repeat(8, 0).repeat(8, 1)
SIZE = (16, 24)


@pytest.fixture
def labels():
    return Labels(8, 4, NAMES)


def test_grey_file_holds_ids(labels, tmp_path):
    Image.fromarray(IDS).save(tmp_path / "map.png")
    assert np.array_equal(labels.read(tmp_path / "map.png", SIZE), IDS)


def test_palette_file_holds_ids(labels, tmp_path):
    picture = Image.fromarray(IDS, mode="P")
    picture.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
    picture.save(tmp_path / "map.png")
    assert np.array_equal(labels.read(tmp_path / "map.png", SIZE), IDS)


@pytest.mark.parametrize("form", ["file", "picture", "array"])
def test_what_is_shown_reads_back(labels, tmp_path, form):
    shown = labels.show(torch.from_numpy(IDS.astype(np.int64)))
    source = {"array": shown, "picture": Image.fromarray(shown), "file": tmp_path / "painted.png"}
    Image.fromarray(shown).save(tmp_path / "painted.png")
    assert np.array_equal(labels.read(source[form], SIZE), IDS)


def test_a_blurred_brush_finds_the_nearest_colour(labels):
    shown = labels.show(torch.from_numpy(IDS.astype(np.int64))).astype(int)
    noisy = (shown + np.random.default_rng(0).integers(-6, 7, shown.shape)).clip(0, 255)
    assert np.array_equal(labels.read(noisy.astype(np.uint8), SIZE), IDS)


def test_a_map_in_the_palettes_black_and_white_is_painted_wherever_it_is(tmp_path):
    """In memory its colours were ids, of which 255 says nothing."""
    masks = Labels(8, 4, ["thing", "ground"], palette=[[255, 255, 255], [0, 0, 0]])
    shown = masks.show(torch.from_numpy((IDS == 0).astype(np.int64)))
    Image.fromarray(shown).save(tmp_path / "painted.png")
    for source in (tmp_path / "painted.png", Image.fromarray(shown), shown):
        assert np.array_equal(masks.read(source, SIZE), IDS == 0)


def test_a_map_lies_as_its_exif_says(labels, tmp_path):
    """Its size was that of the upright map, its labels lay as stored."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.rot90(IDS)).save(tmp_path / "map.png", exif=exif)
    for source in (tmp_path / "map.png", Image.open(tmp_path / "map.png")):
        assert np.array_equal(labels.read(source, SIZE), IDS)


def test_a_photograph_is_no_label_map(labels):
    photo = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match=r"% of the pixels .* unlike every colour"):
        labels.read(photo, SIZE)


def test_file_beside_names_is_translated_by_name(labels, tmp_path):
    (tmp_path / "label_names.json").write_text(json.dumps({"0": "Rock", "1": "sky", "2": "lava"}))
    Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).save(tmp_path / "map.png")
    assert labels.read(tmp_path / "map.png", (1, 3)).tolist() == [[3, 0, 255]]


@pytest.mark.parametrize("as_file", [True, False])
def test_label_beyond_the_vocabulary_names_id_and_size(labels, tmp_path, as_file):
    ids = np.full((4, 4), 9, dtype=np.uint8)
    Image.fromarray(ids).save(tmp_path / "map.png")
    with pytest.raises(ValueError, match=r"holds label 9.*vocabulary.* 4 names"):
        labels.read(tmp_path / "map.png" if as_file else ids, SIZE)


def test_resizing_invents_no_label(labels):
    value = labels.read(np.kron([[0, 3], [3, 0]], np.ones((9, 7), dtype=np.int64)), (32, 12))
    assert value.shape == (32, 12)
    assert set(value.unique().tolist()) == {0, 3}


def test_floats_are_no_labels(labels):
    with pytest.raises(ValueError, match="is no label map; give ids"):
        labels.read(np.zeros((4, 4)), SIZE)


def test_unlabelled_map_derives_to_none(labels, rng):
    assert labels.derive({"labels": torch.full(SIZE, 255)}, rng) is None


def test_void_has_features_of_its_own(labels):
    values = torch.stack([torch.full(SIZE, 255), torch.full(SIZE, 0)])
    features = labels.embed(values)
    assert not torch.allclose(features[0], features[1])


def test_a_long_vocabulary_leaves_255_to_void():
    labels = Labels(8, 4, [f"thing {i}" for i in range(255)] + ["void"] + ["last"])
    assert labels.embed(torch.full((1, *SIZE), 256)).shape == (1, 8, 4, 6)
    assert (labels.palette[255] == 0).all()


def test_given_palette_is_used():
    labels = Labels(8, 4, ["a", "b"], palette=[[1, 2, 3], [250, 0, 9]])
    assert labels.show(torch.tensor([[1]])).tolist() == [[[250, 0, 9]]]


def test_palette_of_another_length_is_an_error():
    with pytest.raises(ValueError, match=r"palette of shape \(1, 3\) for 2 names"):
        Labels(8, 4, ["a", "b"], palette=[[1, 2, 3]])


def test_an_opened_map_is_translated_as_its_file_is(labels, tmp_path):
    """In memory, the ids of another set were taken for those of the model."""
    (tmp_path / "label_names.json").write_text(json.dumps({"0": "rock", "1": "sea", "2": "sky"}))
    Image.fromarray(np.array([[0, 1], [2, 0]], dtype=np.uint8)).save(tmp_path / "map.png")
    for source in (tmp_path / "map.png", Image.open(tmp_path / "map.png")):
        assert labels.read(source, (2, 2)).tolist() == [[3, 1], [0, 3]]
    changed = Image.open(tmp_path / "map.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert labels.read(changed, (2, 2)).tolist() == [[1, 0], [0, 2]]


def test_sixteen_bits_say_nothing_by_their_last_number_too(labels, tmp_path):
    ids = np.array([[0, 65535], [3, 255]], dtype=np.uint16)
    Image.fromarray(ids).save(tmp_path / "map.png")
    for source in (tmp_path / "map.png", ids, ids.astype(np.int64)):
        assert labels.read(source, (2, 2)).tolist() == [[0, 255], [3, 255]]
