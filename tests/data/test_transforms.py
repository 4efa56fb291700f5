"""One draw moves everything together: what is at a place in the picture is there in every map."""

import numpy as np
import pytest
import torch

from taming.data.batch import JOINTS
from taming.data.transforms import Draw, to_image, transformed

HEIGHT, WIDTH = 48, 64


def scene(height: int = HEIGHT, width: int = WIDTH) -> dict:
    """A picture that tells its own coordinates, maps with a step, and a joint on a red spot."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([columns * 2, rows * 2, 0 * rows], axis=2).astype(np.uint8)
    keypoints = np.zeros((1, 19, 3), dtype=np.float32)
    keypoints[0, JOINTS.index("left_hip")] = width * 0.5, height * 0.5, 1
    return {
        "image": image,
        "labels": (columns * 8 // width).astype(np.int16),
        "depth": columns.astype(np.float32),
        "keypoints": keypoints,
    }


def pixels(sample: dict) -> np.ndarray:
    return ((sample["image"].permute(1, 2, 0).numpy() + 1) * 127.5).round()  # (H, W, 3)


RANDOM = Draw((24, 24), scale=(1.0, 1.8))


def test_the_same_seed_gives_the_same_sample_and_others_differ() -> None:
    draw = Draw((24, 24), scale=(1.0, 1.8), jitter=0.3)
    one, same, other = (transformed(scene(), draw, seed) for seed in (5, 5, 6))
    for key in one:
        assert torch.equal(one[key], same[key])
    assert not torch.equal(one["image"], other["image"])


def test_a_draw_does_not_depend_on_draws_before_it() -> None:
    transformed(scene(), RANDOM, 1)
    later = transformed(scene(), RANDOM, 2)
    transformed(scene(), RANDOM, 3)
    assert torch.equal(transformed(scene(), RANDOM, 2)["image"], later["image"])


def test_types_ranges_and_shapes() -> None:
    sample = transformed(scene(), Draw((16, 24)), 0)
    assert sample["image"].shape == (3, 16, 24)
    assert sample["image"].dtype == sample["depth"].dtype == torch.float32
    assert sample["labels"].shape == (16, 24)
    assert sample["labels"].dtype == torch.int64
    assert sample["depth"].shape == (1, 16, 24)
    assert sample["depth"].abs().max() == 1
    assert sample["keypoints"].shape == (1, 19, 3)


@pytest.mark.parametrize("seed", range(12))
def test_picture_labels_depth_and_joints_move_together(seed: int) -> None:
    sample = transformed(scene(), RANDOM, seed)
    column = pixels(sample)[..., 0] / 2  # where each pixel came from
    edges = np.abs(column * 8 / WIDTH - np.round(column * 8 / WIDTH)) < 0.3
    labels = sample["labels"].numpy()
    np.testing.assert_array_equal(labels[~edges], (column * 8 // WIDTH)[~edges])
    depth = sample["depth"][0].numpy()
    order = np.corrcoef(depth.ravel(), column.ravel())[0, 1]
    assert order > 0.98
    x, y, visible = sample["keypoints"][0].max(dim=0).values.tolist()
    if visible:
        found = pixels(sample)[round(y), round(x)] / 2
        np.testing.assert_allclose(found[:2], [WIDTH * 0.5, HEIGHT * 0.5], atol=2)


def test_mirroring_exchanges_left_and_right_joints() -> None:
    seen = set()
    for seed in range(20):
        sample = transformed(scene(), Draw((24, 24)), seed)
        column = pixels(sample)[..., 0]
        mirrored = column[0, 0] > column[0, -1]
        visible = [JOINTS[i] for i in torch.nonzero(sample["keypoints"][0, :, 2]).ravel()]
        assert visible == (["right_hip"] if mirrored else ["left_hip"])
        seen.add(bool(mirrored))
    assert seen == {True, False}


def test_without_flip_nothing_is_mirrored() -> None:
    for seed in range(20):
        column = pixels(transformed(scene(), Draw((24, 24), flip=False), seed))[..., 0]
        assert column[0, 0] < column[0, -1]


def test_zoom_is_independent_of_mirroring() -> None:
    """One seed for all transforms made mirrored pictures zoom in one half of the range."""
    spans: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(80):
        column = pixels(transformed(scene(48, 48), Draw((24, 24), (1.0, 2.0)), seed))[0, :, 0] / 2
        spans[bool(column[0] > column[-1])].append(abs(column[0] - column[-1]))
    for values in spans.values():
        assert min(values) < 28
        assert max(values) > 40


def test_joints_outside_the_crop_are_invisible_not_dropped() -> None:
    raw = scene()
    raw["keypoints"][0, 0] = 1, 1, 1  # the nose, in the corner
    raw["keypoints"] = np.repeat(raw["keypoints"], 2, axis=0)
    keypoints = transformed(raw, Draw((24, 24), (2.0, 2.0)), None)["keypoints"]
    assert keypoints.shape == (2, 19, 3)
    assert keypoints[0, 0].tolist() == [0, 0, 0]
    assert keypoints[0, JOINTS.index("left_hip"), 2] == 1


def test_evaluation_takes_the_centre() -> None:
    sample = transformed(scene(), Draw((24, 24), flip=True), None)
    column, row = pixels(sample)[..., 0] / 2, pixels(sample)[..., 1] / 2
    assert abs(column.mean() - (WIDTH - 1) / 2) < 0.6
    assert abs(row.mean() - (HEIGHT - 1) / 2) < 0.6
    assert column[0, 0] < column[0, -1]


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (40, 16), (100, 130)])
def test_any_height_and_width_without_distortion(size: tuple[int, int]) -> None:
    rows, columns = np.mgrid[:200, :120]
    image = np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8)
    sample = transformed({"image": image}, Draw(size), None)
    assert sample["image"].shape[1:] == size
    column, row = pixels(sample)[..., 0], pixels(sample)[..., 1]
    across = (column[0, -1] - column[0, 0]) / (size[1] - 1)
    down = (row[-1, 0] - row[0, 0]) / (size[0] - 1)
    assert across == pytest.approx(down, rel=0.05)


def test_the_crop_is_as_large_as_the_picture_allows() -> None:
    column = pixels(transformed(scene(), Draw((24, 32), flip=False), 3))[0, :, 0] / 2
    assert column[0] < 1.5
    assert column[-1] > WIDTH - 2.5


def test_depth_is_normalised_after_the_crop() -> None:
    sample = transformed(scene(), Draw((24, 24), (2.0, 2.0), flip=False), None)
    assert sample["depth"].min() == -1
    assert sample["depth"].max() == 1


def test_jitter_changes_colours_and_nothing_else() -> None:
    plain = transformed(scene(), Draw((24, 24)), 4)
    coloured = transformed(scene(), Draw((24, 24), jitter=0.4), 4)
    assert not torch.equal(plain["image"], coloured["image"])
    for key in ("labels", "depth", "keypoints"):
        assert torch.equal(plain[key], coloured[key])


def test_bytes_and_floats_correspond() -> None:
    ends = to_image(np.array([[[0, 255, 0]]], dtype=np.uint8))
    assert ends.flatten().tolist() == [-1, 1, -1]


@pytest.mark.parametrize(
    "options", [{"size": (0, 8)}, {"scale": (0.5, 1.0)}, {"scale": (2.0, 1.0)}, {"jitter": 1.5}]
)
def test_impossible_draws_are_errors(options: dict) -> None:
    with pytest.raises(ValueError, match=r"size|scale|jitter"):
        Draw(**({"size": (8, 8)} | options))


@pytest.mark.parametrize("seed", [None, *range(11)])
def test_boxes_follow_what_they_frame(seed: int | None) -> None:
    """The picture tells its own coordinates: a box's sides are where its colours are."""
    raw = scene()
    raw["boxes"] = np.array([[0.4, 0.375, 0.6, 0.625, 7.0]], dtype=np.float32)
    raw["image"][18:30, 26:38] = (0, 0, 255)  # the same box, in pixels
    sample = transformed(raw, Draw((48, 48), scale=(1.0, 1.4)), seed)
    ((left, top, right, bottom, category),) = sample["boxes"].tolist()
    rows, columns = np.nonzero(pixels(sample)[..., 2] > 127)
    found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert (left, top, right, bottom) == pytest.approx(found, abs=1.5)
    assert category == 7


def test_boxes_outside_the_crop_are_dropped_and_others_cut() -> None:
    raw = scene(24, 48)
    raw["boxes"] = np.array([[0.0, 0.0, 0.2, 1.0, 1], [0.2, 0.0, 0.5, 1.0, 2]], dtype=np.float32)
    sample = transformed(raw, Draw((24, 24)), None)  # the middle: columns 12 to 36
    assert sample["boxes"].tolist() == [[0, 0, 12, 24, 2]]
    raw["boxes"] = np.zeros((0, 5), dtype=np.float32)
    assert transformed(raw, Draw((24, 24)), None)["boxes"].shape == (0, 5)
