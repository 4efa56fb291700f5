"""Laws of a rendered scene: the same whenever, at any size, and all its maps about one picture."""

import dataclasses

import numpy as np
import pytest

from taming.worlds import BIOMES, FAR, LABELS, render, sample_scene

SEEDS = range(8)


def test_a_scene_is_plain_frozen_data_and_a_function_of_its_seed():
    scene = sample_scene(3)
    assert scene == sample_scene(3)
    assert scene != sample_scene(4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        scene.hour = 3.0  # pyright: ignore[reportAttributeAccessIssue]


def test_rendering_twice_gives_the_same_bytes():
    scene = sample_scene(5)
    first, second = render(scene, (32, 48)), render(scene, (32, 48))
    for a, b in zip(first[:5], second[:5], strict=True):
        assert np.array_equal(a, b)
    assert first.captions == second.captions


def test_rendering_does_not_touch_the_global_random_state():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    render(sample_scene(1), (32, 32))
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_scene_is_the_same_at_two_sizes(seed: int):
    scene = sample_scene(seed)
    large, small = render(scene, (128, 128)), render(scene, (64, 64))
    shrunk = large.image.reshape(64, 2, 64, 2, 3).mean((1, 3))
    assert np.abs(shrunk - small.image).mean() < 6.0
    assert (large.labels[::2, ::2] == small.labels).mean() > 0.9
    ratio = large.depth.reshape(64, 2, 64, 2).mean((1, 3)) / small.depth
    assert np.median(np.abs(ratio - 1)) < 0.02


@pytest.mark.parametrize("size", [(32, 64), (64, 32), (33, 47), (16, 16)])
def test_any_height_and_width(size: tuple[int, int]):
    picture = render(sample_scene(2), size)
    assert picture.image.shape == (*size, 3)
    assert picture.labels.shape == picture.depth.shape == size
    assert (picture.image.dtype, picture.labels.dtype) == (np.uint8, np.uint8)
    assert picture.depth.dtype == np.float32


def test_a_wider_picture_shows_the_same_middle():
    scene = sample_scene(9)
    square, wide = render(scene, (64, 64)), render(scene, (64, 128))
    assert (wide.labels[:, 32:96] == square.labels).mean() > 0.97


@pytest.mark.parametrize("seed", SEEDS)
def test_sky_is_far_and_ground_is_not_nearer_than_the_camera(seed: int):
    picture = render(sample_scene(seed), (48, 48))
    sky = picture.labels == LABELS.index("sky")
    assert sky.any()
    assert (picture.depth[sky] == FAR).all()
    assert picture.depth.min() > 0.5
    assert picture.depth.max() <= FAR
    assert np.isfinite(picture.depth).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_water_lies_on_one_plane(seed: int):
    """1 / depth of a horizontal plane is linear in the row, the same for all columns."""
    picture = render(sample_scene(seed), (48, 48))
    wet = (picture.labels == LABELS.index("water")) & (picture.depth < 200)
    for row in np.flatnonzero(wet.sum(1) > 3):
        depths = picture.depth[row, wet[row]]
        assert np.ptp(depths) / depths.mean() < 0.2


def test_every_biome_and_its_name_occur():
    biomes = {sample_scene(seed).biome for seed in range(60)}
    assert biomes == set(BIOMES)


def test_captions_name_the_place_and_are_sentences():
    picture = render(sample_scene(6), (32, 32))
    assert len(picture.captions) >= 3
    assert all(c[0].isupper() and c.endswith(".") and "{" not in c for c in picture.captions)
    assert len(set(picture.captions)) == len(picture.captions)
