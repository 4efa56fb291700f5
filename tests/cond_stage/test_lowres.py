"""Small pictures and how far they are enlarged."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from taming.cond_stage import LowRes
from taming.cond_stage.lowres import enlarge
from taming.cond_stage.sources import resize

SIZE = (32, 48)


@pytest.fixture
def lowres():
    return LowRes(8, 8)


def test_a_file_reads_as_it_was_derived(sample, tmp_path):
    lowres = LowRes(8, 8, min_factor=4, max_factor=4)
    value = lowres.derive(sample, np.random.default_rng(0))
    exact = resize(sample["image"], (8, 12))
    small = ((exact + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(small).save(tmp_path / "small.png")
    torch.testing.assert_close(lowres.read(tmp_path / "small.png", SIZE), value)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_the_plane_says_the_factor(lowres, factor):
    small = np.zeros((SIZE[0] // factor, SIZE[1] // factor, 3), dtype=np.uint8)
    plane = lowres.read(small, SIZE)[3]
    torch.testing.assert_close(plane, torch.full(SIZE, math.log2(factor) / 3))


def test_drawn_factors_fill_the_range(lowres, sample):
    rng = np.random.default_rng(0)
    drawn = [2 ** (3 * float(lowres.derive(sample, rng)[3, 0, 0])) for _ in range(200)]
    assert min(drawn) >= 1.9
    assert max(drawn) <= 8.5
    for usual in (2.0, 4.0, 8.0):
        assert sum(abs(f - usual) < 0.01 for f in drawn) > 20
    assert len({round(f, 3) for f in drawn}) > 10


def test_a_flat_picture_stays_flat():
    value = enlarge(torch.full((3, 4, 6), 0.25), SIZE)
    torch.testing.assert_close(value[:3], torch.full((3, *SIZE), 0.25))


def test_overshoot_is_cut_off(sample):
    assert enlarge(resize(sample["image"], (8, 12)), SIZE)[:3].abs().max() <= 1.0


def test_too_small_names_factor_and_range(lowres):
    with pytest.raises(ValueError, match=r"is 2x3, .* enlargement by 16.00; .* by 2 to 8"):
        lowres.read(np.zeros((2, 3, 3), dtype=np.uint8), SIZE)


def test_another_shape_names_one_that_fits(lowres):
    with pytest.raises(ValueError, match="is 8x8, of another shape than the 32x48"):
        lowres.read(np.zeros((8, 8, 3), dtype=np.uint8), SIZE)


def test_factors_out_of_range_are_an_error():
    with pytest.raises(ValueError, match="factors 2 to 16"):
        LowRes(8, 8, min_factor=2, max_factor=16)


@pytest.mark.parametrize("factor", [2.0, 3.0, 8.0])
def test_what_was_painted_shrinks_to_what_was_given(lowres, sample, factor):
    small_size = (round(SIZE[0] / factor), round(SIZE[1] / factor))
    small = resize(sample["image"], small_size) * 0.5
    painted = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    settled = lowres.settle(painted * 0.3, enlarge(small, SIZE))
    for before, image in zip(painted * 0.3, settled, strict=True):
        apart = (resize(image, small_size) - small).abs().mean()
        assert apart < 0.2 * (resize(before, small_size) - small).abs().mean()
    # Detail stays: the two differ from one another as they did before.
    detail = torch.stack([(pair[0] - pair[1]).flatten() for pair in (painted, settled)])
    assert torch.corrcoef(detail)[0, 1] > 0.5


def test_a_picture_that_agrees_already_stays(lowres, sample):
    image = resize(resize(sample["image"], (4, 6)), SIZE)  # smooth: enlarging loses nothing of it
    value = enlarge(resize(image, (16, 24)), SIZE)
    torch.testing.assert_close(lowres.settle(image[None], value)[0], image, atol=0.02, rtol=0)
