"""Half-finished pictures, as users hand them in and as training draws them."""

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from taming.cond_stage import Known

SIZE = (32, 48)


@pytest.fixture
def known():
    return Known(8, 8)


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)


@pytest.fixture
def mask():
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[:, 20:] = 255
    return mask


def test_pair_and_transparency_are_one_input(known, picture, mask, tmp_path):
    Image.fromarray(picture).save(tmp_path / "picture.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    cut = Image.fromarray(np.concatenate([picture, mask[..., None]], axis=-1))
    cut.save(tmp_path / "cut.png")
    first = known.read((tmp_path / "picture.png", tmp_path / "mask.png"), SIZE)
    for source in (
        (picture, mask > 0),
        (Image.fromarray(picture), mask),
        cut,
        tmp_path / "cut.png",
    ):
        assert torch.equal(known.read(source, SIZE), first)


def test_a_hole_is_turned_with_its_picture(known, picture):
    """Of a picture that lies on its side the hole stood upright."""
    alpha = np.full((32, 32, 1), 255, dtype=np.uint8)
    alpha[:16] = 0  # the upper half as stored, the right one when it is upright
    cut = Image.fromarray(np.concatenate([picture[:, :32], alpha], axis=-1))
    cut.getexif()[ExifTags.Base.Orientation] = 6
    value = known.read(cut, (32, 32))
    assert not Known.mask(value)[:, 16:].any()
    assert Known.mask(value)[:, :16].all()


def test_a_value_reads_back(known, sample, rng):
    value = known.derive(sample, rng)
    assert torch.equal(known.read(value, SIZE), value)


def test_kept_pixels_are_exact_and_the_hole_is_grey(known, picture, mask):
    value = known.read((picture, mask), SIZE)
    assert torch.equal(Known.mask(value), torch.from_numpy(mask > 0))
    assert not value[:3, :, :20].any()
    pixels = ((value[:3] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(pixels[:, 20:], picture[:, 20:])


def test_shrinking_keeps_no_pixel_of_the_hole(known, picture):
    mask = np.full(SIZE, 255, dtype=np.uint8)
    mask[5, 7] = 0
    hole = ~Known.mask(known.read((picture, mask), (16, 24)))
    assert hole.nonzero().tolist() == [[2, 3]]


@pytest.mark.parametrize("size", [(16, 24), (64, 96)])
def test_resizing_takes_no_colour_from_the_hole(known, mask, size):
    """Kept pixels beside the rim took on what stood behind it, half of white in black."""
    white_hole = np.repeat(255 - mask[..., None], 3, axis=-1)
    for source in ((white_hole, mask), np.concatenate([white_hole, mask[..., None]], axis=-1)):
        value = known.read(source, size)
        assert value[:3, Known.mask(value)].max() < -1 + 1e-5


def test_soft_edges_keep_the_colour_that_they_have(known, mask):
    """Their transparency was laid on white, and then counted as kept."""
    soft = np.zeros((*SIZE, 4), dtype=np.uint8)
    soft[..., 3] = np.minimum(mask, 130)
    for source in (soft, Image.fromarray(soft)):
        value = known.read(source, SIZE)
        assert (value[:3, Known.mask(value)] == -1).all()


def test_numbers_of_any_kind_are_one_picture(known, picture, mask):
    """Of floats the transparency was not seen, and other tensors ended in a TypeError."""
    cut = np.concatenate([picture, mask[..., None]], axis=-1)
    tensor = torch.from_numpy(cut)
    for source in (cut / 255, cut.astype(np.int64), tensor, (tensor / 255).requires_grad_()):
        assert torch.equal(known.read(source, SIZE), known.read(cut, SIZE))
    coarse = torch.from_numpy(cut // 255).bfloat16()
    assert torch.equal(known.read(coarse, SIZE), known.read(coarse.float(), SIZE))


def test_a_mask_in_planes_may_hold_zero_to_one(known, picture, mask):
    """Its zeros were taken for the grey of a picture in [-1, 1], and all was kept."""
    plane = torch.from_numpy(mask / 255)[None]
    expected = known.read((picture, mask), SIZE)
    for stencil in (plane, plane.expand(3, -1, -1), plane.bfloat16(), plane * 2 - 1):
        assert torch.equal(known.read((picture, stencil), SIZE), expected)


@pytest.mark.parametrize(("level", "words"), [(255, "keeps the whole"), (0, "keeps nothing")])
def test_mask_of_everything_or_nothing_is_an_error(known, picture, level, words):
    with pytest.raises(ValueError, match=words):
        known.read((picture, np.full(SIZE, level, dtype=np.uint8)), SIZE)


def test_a_mask_of_zeros_and_ones_says_what_white_is(known, picture, mask):
    """It was told to keep nothing, and to be left out."""
    with pytest.raises(ValueError, match=r"holds 0 and 1; white, .* is 255: multiply it by 255"):
        known.read((picture, mask // 255), SIZE)


def test_a_mask_has_no_colours(known, picture, mask):
    """A photograph was taken for one by its green."""
    with pytest.raises(ValueError, match="has colours; a mask is white where the picture stays"):
        known.read((picture, picture), SIZE)
    faint = np.stack([mask, np.maximum(mask, 6), mask], axis=-1)  # as JPEG leaves it
    assert torch.equal(known.read((picture, faint), SIZE), known.read((picture, mask), SIZE))


def test_mask_of_another_frame_is_an_error(known, picture):
    with pytest.raises(ValueError, match="is 10x10, its picture 32x48"):
        known.read((picture, np.eye(10, dtype=bool)), SIZE)


def test_picture_without_hole_says_how_to_give_one(known, picture):
    with pytest.raises(ValueError, match="no transparent part; give a picture and a mask"):
        known.read(Image.fromarray(picture), SIZE)


def test_derive_keeps_the_picture_where_the_mask_says(known, sample, rng):
    value = known.derive(sample, rng)
    keep = Known.mask(value)
    assert torch.equal(value[:3, keep], sample["image"][:, keep])
    assert not value[:3, ~keep].any()


def test_only_the_kinds_asked_for_are_drawn(sample, rng):
    known = Known(8, 8, mask_kinds=["half"])
    for _ in range(20):
        keep = Known.mask(known.derive(sample, rng))
        assert (keep.all(dim=0) == keep.any(dim=0)).all() or (keep.all(1) == keep.any(1)).all()


def test_unknown_kind_lists_the_known_ones():
    with pytest.raises(ValueError, match="choose from half, box, border"):
        Known(8, 8, mask_kinds=["circle"])
