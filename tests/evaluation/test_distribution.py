"""Laws of distances between collections: of a collection to itself, under order, of Gaussians."""

import pytest
import torch
from torch import Tensor

from taming.evaluation.distribution import frechet_distance, kernel_distance, precision_recall


def gaussian(count: int, shift: float = 0.0, spread: float = 1.0, seed: int = 0) -> Tensor:
    drawn = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return drawn * spread + shift


DISTANCES = pytest.mark.parametrize("distance", [kernel_distance, frechet_distance])


def test_frechet_distance_of_a_collection_to_itself_is_zero() -> None:
    assert frechet_distance(gaussian(30), gaussian(30)) == pytest.approx(0.0, abs=1e-9)


def test_frechet_distance_of_known_gaussians() -> None:
    """|m - m'|^2 + D (s - s')^2 for round Gaussians: 4 x 9 + 4 x 1."""
    far = frechet_distance(gaussian(5_000), gaussian(5_000, shift=3.0, spread=2.0, seed=1))
    assert far == pytest.approx(40.0, rel=0.05)


def test_frechet_distance_agrees_with_the_root_of_a_matrix() -> None:
    one, other = gaussian(50), gaussian(60, 0.5, 1.5, seed=1) @ torch.randn(4, 4)
    product = torch.cov(one.T.double()) @ torch.cov(other.T.double())
    root = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    expected = (one.double().mean(0) - other.double().mean(0)).square().sum() - 2 * root
    expected += torch.cov(one.T.double()).trace() + torch.cov(other.T.double()).trace()
    assert frechet_distance(one, other) == pytest.approx(float(expected), rel=1e-6)


def test_kernel_distance_by_hand() -> None:
    one, other = torch.tensor([[0.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    # k(0,1) = 1; k(1,2) = 27; across: k(0,1) = k(0,2) = 1, k(1,1) = 8, k(1,2) = 27
    assert kernel_distance(one, other) == pytest.approx(1 + 27 - 2 * (1 + 1 + 8 + 27) / 4)


def test_kernel_distance_is_unbiased() -> None:
    """Of two draws of one distribution it is zero on average, though they differ."""
    draws = [kernel_distance(gaussian(8, seed=n), gaussian(8, seed=n + 500)) for n in range(300)]
    values = torch.tensor(draws)
    assert abs(float(values.mean())) < 3 * float(values.std()) / len(draws) ** 0.5
    assert (values < 0).any()


@DISTANCES
def test_order_does_not_matter(distance) -> None:
    one, other = gaussian(20), gaussian(24, 1.0, seed=1)
    shuffled = one[torch.randperm(20)]
    assert distance(one, other) == pytest.approx(distance(shuffled, other.flip(0)), rel=1e-9)
    assert distance(one, other) == pytest.approx(distance(other, one), rel=1e-9)


@DISTANCES
def test_what_is_shifted_further_is_further(distance) -> None:
    near, far = (distance(gaussian(40), gaussian(40, by, seed=1)) for by in (0.5, 2.0))
    assert 0 < near < far


@DISTANCES
def test_single_pictures_are_no_collection(distance) -> None:
    with pytest.raises(ValueError, match="at least 2"):
        distance(gaussian(1), gaussian(20))


def test_precision_and_recall_of_a_collection_with_itself_are_one() -> None:
    assert precision_recall(gaussian(20), gaussian(20)) == (1.0, 1.0)


def test_precision_and_recall_of_what_is_far_away_are_zero() -> None:
    assert precision_recall(gaussian(20), gaussian(20, shift=100.0)) == (0.0, 0.0)


def test_one_of_two_modes_is_precise_and_recalls_half() -> None:
    true = torch.cat([gaussian(50), gaussian(50, shift=100.0, seed=1)])
    found = precision_recall(true, gaussian(50))
    assert found.precision == 1.0
    assert found.recall == pytest.approx(0.5)
