"""Masks that are drawn, holes that are filled, cells that may be trusted."""

import numpy as np
import pytest
import torch

from taming.cond_stage import draw_mask, fill_hole, known_cells
from taming.cond_stage.holes import MASK_KINDS, extend_rim, meet_rim


@pytest.mark.parametrize("kind", list(MASK_KINDS))
@pytest.mark.parametrize("size", [(32, 48), (64, 24), (4, 4)])
def test_hole_covers_ten_to_ninety_percent(kind, size):
    rng = np.random.default_rng(0)
    for _ in range(30):
        mask = draw_mask(size, rng, kind)
        assert (tuple(mask.shape), mask.dtype) == (size, torch.bool)
        assert 0.1 <= 1 - mask.float().mean() <= 0.9


@pytest.mark.parametrize("kind", list(MASK_KINDS))
def test_masks_vary_and_repeat_with_their_seed(kind):
    drawn = [draw_mask((32, 48), np.random.default_rng(seed), kind) for seed in range(6)]
    assert len({tuple(mask.flatten().tolist()) for mask in drawn}) >= 3
    assert torch.equal(drawn[3], draw_mask((32, 48), np.random.default_rng(3), kind))


def test_border_keeps_one_box_and_box_is_its_opposite():
    rng = np.random.default_rng(0)
    for kind in ("border", "box"):
        mask = draw_mask((32, 48), rng, kind)
        box = mask if kind == "border" else ~mask
        assert torch.equal(box, box.any(dim=1)[:, None] & box.any(dim=0))


def test_unknown_mask_kind_is_an_error():
    with pytest.raises(ValueError, match="'circle' is unknown; known are half"):
        draw_mask((8, 8), np.random.default_rng(0), "circle")


@pytest.fixture
def hole():
    mask = torch.ones(40, 56, dtype=torch.bool)
    mask[6:30, 10:45] = False
    return mask


def ramp(height, width):
    yy, xx = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([yy / height, xx / width, (yy + xx) / (height + width)]) * 1.6 - 0.8


def test_a_slope_is_continued_through_the_hole(hole):
    """A plane is harmonic, so the fill of a plane is that plane."""
    image = ramp(40, 56)
    filled = fill_hole(torch.where(hole, image, torch.nan), hole)
    torch.testing.assert_close(filled, image, rtol=0, atol=0.02)


def test_fill_is_what_relaxation_converges_to():
    rng = np.random.default_rng(1)
    image = torch.sin(ramp(24, 40) * 9)[:1] + 0.1 * torch.from_numpy(rng.normal(size=(1, 24, 40)))
    image = image.float()
    mask = draw_mask((24, 40), rng, "blobs")
    exact = torch.where(mask, image, 0.0)
    for _ in range(4000):
        p = torch.nn.functional.pad(exact[None], (1, 1, 1, 1), mode="replicate")[0]
        mean = (p[:, :-2, 1:-1] + p[:, 2:, 1:-1] + p[:, 1:-1, :-2] + p[:, 1:-1, 2:]) / 4
        exact = torch.where(mask, image, mean)
    assert (fill_hole(image, mask) - exact).abs().mean() < 1 / 127.5


def test_kept_pixels_are_untouched_and_bound_the_fill(hole):
    image = torch.rand(3, 40, 56)
    filled = fill_hole(image, hole)
    assert torch.equal(filled[:, hole], image[:, hole])
    for channel in range(3):
        kept = image[channel, hole]
        assert kept.min() <= filled[channel].min()
        assert filled[channel].max() <= kept.max()


def test_what_stands_in_the_hole_does_not_matter(hole):
    image = torch.rand(3, 40, 56)
    assert torch.equal(fill_hole(image, hole), fill_hole(torch.where(hole, image, 9.0), hole))


def test_a_single_kept_pixel_fills_everything():
    mask = torch.zeros(9, 17, dtype=torch.bool)
    mask[3, 5] = True
    image = torch.full((3, 9, 17), 0.5)
    torch.testing.assert_close(fill_hole(image, mask), image)


def test_fills_of_a_batch_are_those_of_its_pictures(hole):
    images = torch.rand(2, 3, 40, 56)
    masks = torch.stack([hole, hole.flip(0)])
    together = fill_hole(images, masks)
    for image, mask, filled in zip(images, masks, together, strict=True):
        torch.testing.assert_close(fill_hole(image, mask), filled, rtol=0, atol=1e-6)


def test_a_rim_is_extended_by_the_nearest_kept_pixel(hole):
    image = ramp(40, 56)
    extended = extend_rim(torch.where(hole, image, torch.nan), hole)
    assert torch.equal(extended[:, hole], image[:, hole])
    assert torch.equal(extended[:, 6, 20], image[:, 5, 20])
    assert torch.equal(extended[:, 20, 13], image[:, 20, 9])


def test_what_was_painted_is_moved_to_the_rim_and_less_behind_it():
    generator = torch.Generator().manual_seed(0)
    painted = torch.rand(2, 3, 24, 32, generator=generator)
    image, mask = painted[0] + 0.4, torch.zeros(24, 32, dtype=torch.bool)
    mask[:, :8] = True
    met = meet_rim(painted, image, mask, reach=6.0)
    change = met - painted
    behind = torch.arange(1, 25) / 6.0  # pixels behind the rim
    torch.testing.assert_close(
        change[0, :, :, 8:], (0.4 * torch.exp(-behind)).expand(3, 24, -1), atol=2e-3, rtol=0
    )
    assert torch.equal(met[..., :8], image[..., :8].expand(2, -1, -1, -1))
    # Every picture of a batch by its own difference
    alone = meet_rim(painted[1:], image, mask, reach=6.0)
    torch.testing.assert_close(met[1:], alone)


def test_what_meets_the_rim_already_stays():
    painted = torch.rand(1, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    mask = draw_mask((24, 32), np.random.default_rng(0))
    torch.testing.assert_close(meet_rim(painted, painted[0], mask, reach=6.0), painted)


def test_nothing_kept_cannot_be_filled():
    with pytest.raises(ValueError, match="keeps nothing"):
        fill_hole(torch.zeros(3, 8, 8), torch.zeros(8, 8, dtype=torch.bool))


def naive_known_cells(mask, f):
    h, w = mask.shape[0] // f, mask.shape[1] // f
    whole = [[bool(mask[i * f : i * f + f, j * f : j * f + f].all()) for j in range(w)]
             for i in range(h)]  # fmt: skip
    around = [
        [
            all(
                whole[a][b]
                for a in range(max(0, i - 1), min(h, i + 2))
                for b in range(max(0, j - 1), min(w, j + 2))
            )
            for j in range(w)
        ]
        for i in range(h)
    ]
    return torch.tensor(around)


@pytest.mark.parametrize("kind", list(MASK_KINDS))
def test_known_cells_keep_one_cell_of_distance(kind):
    mask = draw_mask((32, 48), np.random.default_rng(2), kind)
    assert torch.equal(known_cells(mask, 4), naive_known_cells(mask, 4))


def test_known_cells_of_a_batch():
    masks = torch.stack([draw_mask((32, 48), np.random.default_rng(s)) for s in range(3)])
    assert torch.equal(known_cells(masks, 8), torch.stack([known_cells(m, 8) for m in masks]))


def test_known_cells_need_whole_cells():
    with pytest.raises(ValueError, match="30x48 does not divide into cells of 8x8"):
        known_cells(torch.ones(30, 48), 8)
