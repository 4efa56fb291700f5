"""Measures against values worked out by hand."""

import math

import pytest
import torch

from taming.data.batch import VOID
from taming.evaluation.measures import (
    box_side,
    confusion,
    correlation,
    derangement,
    mean_iou,
    ranks,
    score_depth,
    score_labels,
    score_pose,
    spearman,
)


@pytest.mark.parametrize("count", [2, 3, 12, 97])
def test_derangement_keeps_nobody_in_place_and_everybody_once(count: int) -> None:
    order = derangement(count)
    assert sorted(order) == list(range(count))
    assert all(place != other for place, other in enumerate(order))
    assert order == derangement(count)


def test_derangement_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        derangement(1)


def test_mean_iou_by_hand_over_classes_that_were_asked_for() -> None:
    targets = torch.tensor([[[0, 0, 1, 1, VOID]]])
    readings = torch.tensor([[[0, 1, 1, 2, 2]]])
    table = confusion(readings, targets, 4)
    assert table.sum() == 4
    # class 0: 1 of {0, 0}; class 1: 1 of {1, 1} and one stray; class 2 was not asked for
    assert mean_iou(table) == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_contested_pixels_are_those_where_two_maps_disagree() -> None:
    targets = torch.tensor([[[0, 0, 1, 1, VOID]]])
    others = torch.tensor([[[0, 1, 0, VOID, 0]]])
    readings = torch.tensor([[[0, 0, 0, 1, 0]]])
    own = score_labels(readings, targets, others, 2)
    assert own["accuracy"] == pytest.approx(3 / 4)
    assert own["contested accuracy"] == pytest.approx(1 / 2)
    exchanged = score_labels(readings, others, targets, 2)
    assert exchanged["contested accuracy"] == pytest.approx(1 / 2)


def test_equal_values_share_the_average_rank() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [2.5, 0.0, 2.5, 1.0]


def test_spearman_by_hand() -> None:
    one, other = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([5.0, 6.0, 7.0, 8.0, 7.0])
    # ranks 0 1 2.5 4 2.5 against 0..4: covariance 8, norms sqrt(10) and sqrt(9.5)
    assert spearman(one, other) == pytest.approx(8 / math.sqrt(95))
    assert spearman(one, one.exp()) == pytest.approx(1.0)
    assert spearman(one, -one) == pytest.approx(-1.0)
    assert correlation(one, torch.ones(5)) == 0.0


def test_centring_takes_away_what_all_rooms_share() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.linspace(-1, 1, 24)[:, None].expand(24, 32)[None]
    rooms = mean + 0.2 * torch.randn(6, 1, 24, 32, generator=generator)
    shuffled = score_depth(rooms, rooms[derangement(6)], rooms, mean)
    assert shuffled["Spearman"] > 0.8
    assert abs(shuffled["centred correlation"]) < 0.1
    own = score_depth(rooms, rooms, rooms, mean)
    assert own["centred correlation"] == pytest.approx(1.0)
    assert own["RMSE"] == 0.0


def person(points: list[tuple[float, float]]) -> torch.Tensor:
    """The first joints of one person shown at these points, the others hidden: (1, 19, 3)."""
    joints = torch.zeros(1, 19, 3)
    for number, (x, y) in enumerate(points):
        joints[0, number] = torch.tensor([x, y, 1.0])
    return joints


def test_pck_by_hand() -> None:
    target = person([(10, 10), (30, 10), (10, 110), (30, 110)])  # box of 20 x 100
    assert box_side(target).tolist() == [100.0]
    readings = target[..., :2].clone()
    readings[0, :4, 0] += torch.tensor([0.0, 4.0, 9.0, 11.0])
    scores = score_pose(readings, target, target, torch.zeros(19, 2))
    assert scores["PCK@0.1"] == pytest.approx(3 / 4)
    assert scores["PCK@0.05"] == pytest.approx(2 / 4)
    assert scores["PCK@0.025"] == pytest.approx(1 / 4)
    assert math.isnan(scores["contested PCK@0.05"])  # nothing is contested


def test_no_reading_pleases_both_sides_of_a_contested_joint() -> None:
    target, other = person([(0, 0), (0, 100), (50, 50)]), person([(0, 0), (0, 100), (61, 50)])
    scores = [score_pose(target[..., :2], *pair, torch.zeros(19, 2)) for pair in
              ((target, other), (other, target))]  # fmt: skip
    assert [each["contested PCK@0.05"] for each in scores] == [1.0, 0.0]


def test_joints_at_their_usual_places_say_nothing_about_the_pose() -> None:
    mean = person([(0, 0), (20, 50), (0, 100)])[0, :, :2]
    asked = person([(5, 0), (10, 50), (0, 90)])
    assert score_pose(mean[None], asked, asked, mean)["centred correlation"] == 0.0
    own = score_pose(asked[..., :2], asked, asked, mean)
    assert own["centred correlation"] == pytest.approx(1.0)
    opposite = score_pose(2 * mean - asked[..., :2], asked, asked, mean)
    assert opposite["centred correlation"] == pytest.approx(-1.0)
