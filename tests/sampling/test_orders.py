"""Laws of the orders in which a grid is painted."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from taming.sampling import orders
from taming.sampling.parallel import group_sizes
from taming.sampling.sliding_window import spread_orders

GRIDS = [(1, 1), (1, 7), (5, 1), (4, 6), (9, 5), (16, 16)]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    "make",
    [
        orders.raster,
        lambda h, w: orders.random(h, w, seeded()),
        orders.spread,
        lambda h, w: orders.spread(h, w, seeded(1)),
    ],
    ids=["raster", "random", "spread", "spread at random"],
)
def test_an_order_visits_every_cell_once(
    make: Callable[[int, int], Tensor], grid: tuple[int, int]
) -> None:
    order = make(*grid)
    assert order.dtype == torch.int64
    assert torch.equal(order.sort().values, torch.arange(grid[0] * grid[1]))


def test_orders_depend_on_their_generator_alone() -> None:
    for make in (orders.random, orders.spread):
        assert torch.equal(make(6, 8, seeded(3)), make(6, 8, seeded(3)))
        assert not torch.equal(make(6, 8, seeded(3)), make(6, 8, seeded(4)))


def test_invert_is_the_inverse() -> None:
    order = torch.stack([orders.random(4, 5, seeded(i)) for i in range(3)])
    inverse = orders.invert(order)
    identity = torch.arange(20).expand(3, -1)
    assert torch.equal(inverse.gather(1, order), identity)
    assert torch.equal(order.gather(1, inverse), identity)
    assert torch.equal(orders.invert(inverse), order)


def test_known_first_is_stable() -> None:
    order = torch.stack([orders.random(4, 6, seeded(i)) for i in range(3)])
    known = torch.rand(3, 24, generator=seeded()) < torch.tensor([[0.2], [0.5], [0.9]])
    moved = orders.known_first(order, known)
    for row, its_order, its_known in zip(moved, order, known, strict=True):
        in_front = [cell for cell in its_order.tolist() if its_known[cell]]
        behind = [cell for cell in its_order.tolist() if not its_known[cell]]
        assert row.tolist() == in_front + behind


@pytest.mark.parametrize("all_known", [True, False])
def test_known_first_of_all_or_nothing_changes_nothing(all_known: bool) -> None:
    order = orders.random(3, 5, seeded())
    assert torch.equal(orders.known_first(order, torch.full((15,), all_known)), order)


def neighbours(cells: Tensor, width: int) -> int:
    """Pairs of cells that touch, corners included."""
    row, column = cells // width, cells % width
    near = (row[:, None] - row).abs().maximum((column[:, None] - column).abs()) == 1
    return int(near.sum()) // 2


@pytest.mark.parametrize("grid", [(8, 8), (12, 8), (16, 16), (6, 24)])
@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_cells_that_are_drawn_together_do_not_touch(
    grid: tuple[int, int], seed: int | None
) -> None:
    """While the groups are small enough for it, that is in the first third of the cells."""
    order = orders.spread(*grid, None if seed is None else seeded(seed))
    done = 0
    for size in group_sizes(len(order), 16):
        group = order[done : done + size]
        done += size
        if done <= len(order) // 3 and size <= 4:
            assert neighbours(group, grid[1]) == 0, group


def test_spread_groups_touch_far_less_than_random_ones() -> None:
    height, width, size = 16, 16, 24
    counts = {"spread": 0, "random": 0}
    for seed in range(8):
        for name, make in (("spread", orders.spread), ("random", orders.random)):
            order = make(height, width, seeded(seed))
            groups = order.split(size)[:-1]
            counts[name] += sum(neighbours(group, width) for group in groups)
    assert counts["spread"] < 0.5 * counts["random"]


def test_every_run_of_the_spread_order_covers_the_grid() -> None:
    """While three quarters of it are painted, sixteen consecutive cells lie in all quarters."""
    order = orders.spread(16, 16)
    for start in range(0, 192, 16):
        run = order[start : start + 16]
        quarters = (run // 16 // 8) * 2 + run % 16 // 8
        assert torch.bincount(quarters, minlength=4).min() >= 1


def test_each_image_has_an_order_of_its_own() -> None:
    together = spread_orders(4, 6, [seeded(0), seeded(1)], "cpu")
    assert torch.equal(together[1], orders.spread(4, 6, seeded(1)))
