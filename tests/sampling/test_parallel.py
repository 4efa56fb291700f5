"""Laws of group sizes."""

import itertools

import pytest

from taming.sampling import group_sizes


@pytest.mark.parametrize("total", [0, 1, 2, 7, 64, 255, 1024])
@pytest.mark.parametrize("steps", [1, 2, 5, 16, 64, 2000])
def test_groups_are_positive_and_sum_to_the_cells(total: int, steps: int) -> None:
    sizes = group_sizes(total, steps)
    assert sum(sizes) == total
    assert len(sizes) == min(total, steps)
    assert all(size > 0 for size in sizes)


def test_without_steps_cells_come_one_at_a_time() -> None:
    assert group_sizes(5) == [1, 1, 1, 1, 1]
    assert group_sizes(0) == []


def test_groups_grow() -> None:
    sizes = group_sizes(256, 16)
    assert sizes[0] <= 2
    assert sizes[0] < sizes[8] < sizes[-1]
    assert all(after >= before - 1 for before, after in itertools.pairwise(sizes))


@pytest.mark.parametrize(("total", "steps"), [(-1, 4), (4, 0), (4, -2)])
def test_impossible_counts_are_errors(total: int, steps: int) -> None:
    with pytest.raises(ValueError, match=r"-1|0|-2"):
        group_sizes(total, steps)
