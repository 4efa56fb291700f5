"""What the measures of completions say of pictures made for them."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks import image_gpt_measures as measures
from benchmarks.image_gpt_measures import OTHER, TRUTH, Labels
from taming.data.batch import VOID
from taming.evaluation.measures import score_labels

SIDE = 16


def picture(seed: int, side: int = SIDE) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def flat(value: int) -> Image.Image:
    return Image.new("RGB", (SIDE, SIDE), (value, value, value))


def difference(one: Tensor, other: Tensor) -> Tensor:
    """A loss that is easy to foretell: the mean of what is apart."""
    return (one - other).abs().mean(dim=(1, 2, 3), keepdim=True)


def columns() -> dict[str, measures.Draws]:
    truth = [picture(n) for n in range(4)]
    drawn = [[picture(10 * draw + n) for n in range(4)] for draw in (1, 2)]
    return measures.columns_of(truth, {"ours": drawn})


def test_every_column_has_the_true_upper_half() -> None:
    found = columns()
    assert list(found) == [TRUTH, "ours", OTHER]
    truth = [np.asarray(each) for each in found[TRUTH][0]]
    for draws in (found["ours"], found[OTHER]):
        for pictures in draws:
            for true, other in zip(truth, map(np.asarray, pictures), strict=True):
                assert np.array_equal(true[: SIDE // 2], other[: SIDE // 2])
                assert not np.array_equal(true[SIDE // 2 :], other[SIDE // 2 :])


def test_distances_are_those_of_the_lower_half() -> None:
    black, white = flat(0), flat(255)
    found = measures.columns_of([black, white], {"ours": [[white, white]]})
    line = measures.distances("distance", found, difference)
    assert line.values == pytest.approx({"ours": 1.0, OTHER: 2.0})  # one of two wrong; both
    assert line.errors["ours"] == pytest.approx(1.0)  # of 2 and 0
    assert line.errors[OTHER] == 0.0


def test_variety_is_the_distance_of_two_draws() -> None:
    black, white = flat(0), flat(255)
    found = measures.columns_of(
        [black, black], {"same": [[white, white]] * 2, "one": [[white, white]]}
    )
    line = measures.variety(found, difference)
    assert line.values == {"same": 0.0, TRUTH: 0.0}


def test_steepness_is_the_slope_of_a_ramp() -> None:
    rows, columns_ = np.mgrid[:8, :10].astype(np.float64)
    assert measures.steepness(3.0 * rows + 4.0 * columns_) == pytest.approx(5.0)


@pytest.mark.parametrize(("cycles", "expected"), [(0.1, 0.0), (0.4, 1.0)])
def test_fine_detail_is_what_is_above_a_quarter_cycle(cycles: float, expected: float) -> None:
    wave = np.sin(2 * np.pi * cycles * np.arange(64))[None].repeat(32, axis=0)
    assert measures.fine_share(wave + 100.0) == pytest.approx(expected, abs=0.01)


def test_a_flat_picture_has_no_detail() -> None:
    assert measures.fine_share(np.full((8, 8), 7.0)) == pytest.approx(0.0, abs=1e-6)


def test_blurred_halves_are_less_sharp_and_noisy_ones_sharper() -> None:
    rows, columns_ = np.mgrid[:SIDE, :SIDE]
    smooth = Image.fromarray(np.repeat((rows * 8 + columns_ * 4)[..., None], 3, 2).astype(np.uint8))
    truth = [smooth, smooth]
    found = measures.columns_of(
        truth, {"flat": [[flat(9), flat(9)]], "noise": [[picture(0), picture(1)]]}
    )
    for line in measures.sharpness(found):
        assert line.values[TRUTH] == 1.0
        assert line.values["flat"] < 0.9
        assert line.values["noise"] > 1.5


class Judge:
    """Reads whether a pixel is bright."""

    def read(self, images: Tensor) -> Tensor:
        return (images.mean(dim=1) > 0).long()

    def target(self, asked: Any, names: Any = ()) -> Tensor:
        return asked

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> dict[str, float]:
        return score_labels(readings, targets, others, 2)

    def each(self, readings: Tensor, targets: Tensor) -> Tensor:
        stated = targets != VOID
        return ((readings == targets) & stated).sum((1, 2)) / stated.sum((1, 2))


def test_agreement_counts_the_lower_half_alone() -> None:
    black, white = flat(0), flat(255)
    targets = torch.stack([torch.zeros(SIDE, SIDE), torch.ones(SIDE, SIDE)]).long()
    targets[:, : SIDE // 2] = VOID
    labels = Labels(Judge(), targets, targets.flip(0))
    found = measures.columns_of([black, white], {"ours": [[black, black]]})
    share, iou, contested = measures.agreements(found, labels)
    assert share.values == {TRUTH: 1.0, "ours": 0.5, OTHER: 0.0}
    assert iou.values == pytest.approx({TRUTH: 1.0, "ours": 0.25, OTHER: 0.0})
    assert contested.values == {TRUTH: 1.0, "ours": 0.5, OTHER: 0.0}


def test_shrinking_is_by_area() -> None:
    small = measures.shrunk([picture(0)], 4)[0]
    pixels: NDArray[np.float64] = np.asarray(picture(0), np.float64)
    means = pixels.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(small) - means).max() <= 1.0
