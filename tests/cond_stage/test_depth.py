"""Depth from files and arrays, inverse and metric."""

import json

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from taming.cond_stage import Depth

SIZE = (24, 32)
SLOPE = np.broadcast_to(np.linspace(0, 1, SIZE[1]), SIZE)  # nearer to the right


@pytest.fixture
def depth():
    return Depth(8, 8)


def write(path, kind):
    if kind == "npy":
        np.save(path / "d.npy", SLOPE.astype(np.float32))
        return path / "d.npy"
    top = 65535 if kind == "16 bit" else 255
    array = (SLOPE * top).round().astype(np.uint16 if kind == "16 bit" else np.uint8)
    Image.fromarray(array).save(path / "d.png")
    return path / "d.png"


@pytest.mark.parametrize("kind", ["npy", "16 bit", "8 bit"])
def test_every_file_form_reads_alike(depth, tmp_path, kind):
    value = depth.read(write(tmp_path, kind), SIZE)
    torch.testing.assert_close(value, depth.read(SLOPE, SIZE), rtol=0, atol=0.01)


def test_range_is_minus_one_to_one(depth):
    value = depth.read(SLOPE * 7 + 3, SIZE)
    assert value.shape == (1, *SIZE)
    assert (value.min(), value.max()) == (-1.0, 1.0)


def test_scale_and_shift_do_not_matter(depth):
    torch.testing.assert_close(depth.read(SLOPE, SIZE), depth.read(SLOPE * 40 - 5, SIZE))


def test_reading_a_value_gives_that_value(depth):
    value = depth.read(SLOPE, SIZE)
    torch.testing.assert_close(depth.read(value, SIZE), value)


def test_metric_depth_is_turned_round(depth):
    metres = 1.0 / (SLOPE + 0.5)
    value = depth.read(metres, SIZE, kind="metric")
    torch.testing.assert_close(value, depth.read(SLOPE, SIZE))


def test_depth_json_beside_the_file_says_the_kind(depth, tmp_path):
    np.save(tmp_path / "d.npy", (1.0 / (SLOPE + 0.5)).astype(np.float32))
    (tmp_path / "depth.json").write_text(json.dumps({"kind": "metric"}))
    torch.testing.assert_close(depth.read(tmp_path / "d.npy", SIZE), depth.read(SLOPE, SIZE))


def test_an_opened_picture_reads_as_its_file_until_it_is_changed(depth, tmp_path):
    """What `depth.json` says was heard for the path alone, so that near and far were swapped."""
    metres = (1.0 / (SLOPE + 0.5) * 1000).round().astype(np.uint16)
    Image.fromarray(metres).save(tmp_path / "d.png")
    (tmp_path / "depth.json").write_text(json.dumps({"kind": "metric"}))
    with Image.open(tmp_path / "d.png") as picture:
        torch.testing.assert_close(
            depth.read(picture, SIZE), depth.read(tmp_path / "d.png", SIZE), rtol=0, atol=0
        )
        array = np.asarray(picture)
        assert torch.equal(depth.read(picture, SIZE, kind="inverse"), depth.read(array, SIZE))
        picture.putpixel((0, 0), 1500)
        assert torch.equal(depth.read(picture, SIZE), depth.read(np.asarray(picture), SIZE))


def test_a_map_lies_as_its_exif_says(depth, tmp_path):
    """Its size was that of the upright map, its distances lay as stored."""
    slope = (SLOPE * 255).round().astype(np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(np.rot90(slope)).save(tmp_path / "d.png", exif=exif)
    opened, changed = Image.open(tmp_path / "d.png"), Image.open(tmp_path / "d.png")
    changed.putpixel((0, 0), int(slope[0, -1]) - 1)
    for source in (tmp_path / "d.png", opened, changed):
        torch.testing.assert_close(
            depth.read(source, SIZE), depth.read(slope, SIZE), rtol=0, atol=0.01
        )


def test_half_precision_is_read(depth):
    halves = torch.from_numpy(SLOPE.copy()).bfloat16()
    assert torch.equal(depth.read(halves, SIZE), depth.read(halves.float(), SIZE))


def test_one_outlier_does_not_flatten_the_rest(depth):
    spiked = SLOPE.copy()
    spiked[0, 0] = 1000.0
    assert (depth.read(spiked, SIZE) - depth.read(SLOPE, SIZE))[:, 1:].abs().max() < 0.05


def test_a_flat_map_is_zero(depth):
    assert not depth.read(np.full(SIZE, 3.0), SIZE).any()


def test_grey_saved_as_colour_is_grey(depth):
    rgb = np.repeat((SLOPE * 255).astype(np.uint8)[..., None], 3, axis=-1)
    value = depth.read(Image.fromarray(rgb), SIZE)
    torch.testing.assert_close(value, depth.read(SLOPE, SIZE), rtol=0, atol=0.01)


def test_resized_to_the_picture(depth):
    assert depth.read(SLOPE, (48, 16)).shape == (1, 48, 16)


def test_nan_is_counted(depth):
    broken = SLOPE.copy()
    broken[0, :3] = np.nan
    with pytest.raises(ValueError, match="3 values that are NaN"):
        depth.read(broken, SIZE)


def test_metric_depth_of_zero_is_an_error(depth):
    with pytest.raises(ValueError, match="holds depth 0; metric depth is above 0"):
        depth.read(SLOPE, SIZE, kind="metric")


def test_a_photograph_is_no_depth_map(depth):
    photo = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    with pytest.raises(ValueError, match="is no depth map"):
        depth.read(Image.fromarray(photo), SIZE)


def test_unknown_kind_is_an_error(depth):
    with pytest.raises(ValueError, match="'disparity' is unknown; write 'inverse' or 'metric'"):
        depth.read(SLOPE, SIZE, kind="disparity")


def test_near_is_shown_light(depth):
    shown = depth.show(depth.read(SLOPE, SIZE)).astype(int).sum(axis=-1)
    assert (np.diff(shown[0]) >= 0).all()
