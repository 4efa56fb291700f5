"""Laws of painting block by block."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from taming.sampling import (
    UNKNOWN,
    Filters,
    Window,
    group_sizes,
    sample,
    sample_windows,
    spread_orders,
    window_places,
)

V = 5


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


class Answers:
    """The same logits always; counts calls, and remembers what each place was told first."""

    def __init__(self) -> None:
        self.places: list[Window] = []
        self.calls, self.cells = 0, 0
        self.context: list[int] = []

    def at(self, place: Window) -> "Answers":
        self.places.append(place)
        self.context.append(-1)
        return self

    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        if self.context[-1] < 0:
            self.context[-1] = positions.shape[1]
        self.calls += 1
        self.cells += targets.shape[1]
        base = torch.arange(V).float() / V
        return base + torch.sin(targets.float())[..., None] * torch.arange(V)


def covered(places: Sequence[Window], grid: tuple[int, int]) -> Tensor:
    count = torch.zeros(grid, dtype=torch.int64)
    for top, left, height, width in places:
        assert 0 <= top <= grid[0] - height
        assert 0 <= left <= grid[1] - width
        count[top : top + height, left : left + width] += 1
    return count


@pytest.mark.parametrize("grid", [(4, 6), (5, 7), (4, 24), (17, 3), (9, 13), (2, 2)])
@pytest.mark.parametrize(
    ("window", "stride"), [((4, 6), (2, 3)), ((4, 4), (1, 4)), ((8, 8), (3, 5))]
)
def test_windows_cover_every_cell_and_stay_inside(
    grid: tuple[int, int], window: tuple[int, int], stride: tuple[int, int]
) -> None:
    places = window_places(grid, window, stride)
    assert (covered(places, grid) > 0).all()
    assert len(set(places)) == len(places)
    assert places == sorted(places), "not in raster order"


def test_a_grid_that_fits_is_one_window() -> None:
    assert window_places((4, 6), (4, 6), (2, 3)) == [Window(0, 0, 4, 6)]
    assert window_places((3, 6), (4, 8), (2, 4)) == [Window(0, 0, 3, 6)]


@pytest.mark.parametrize("stride", [(0, 2), (2, 5), (-1, 1)])
def test_strides_that_leave_gaps_are_refused(stride: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="stride"):
        window_places((8, 8), (4, 4), stride)


def test_a_grid_that_fits_is_painted_as_without_windows() -> None:
    known, steps = torch.full((2, 4, 6), UNKNOWN), 5
    painted = sample_windows(
        Answers().at, known, (4, 6), (2, 3), steps, Filters(), generators([1, 2])
    )
    gens = generators([1, 2])
    order = spread_orders(4, 6, gens, "cpu")
    one = Answers().at(Window(0, 0, 4, 6))
    direct = sample(one, known.flatten(1), order, group_sizes(24, steps), Filters(), gens)
    assert torch.equal(painted.flatten(1), direct)


def test_every_cell_is_painted_once_and_the_cost_is_linear() -> None:
    cells, calls = {}, {}
    for width in (16, 32, 64):
        model = Answers()
        painted = sample_windows(
            model.at, torch.full((1, 4, width), UNKNOWN), (4, 8), (2, 4), 8,
            Filters(), generators([0]),
        )  # fmt: skip
        assert (painted >= 0).all()
        cells[width], calls[width] = model.cells, model.calls
    assert cells == {16: 64, 32: 128, 64: 256}
    assert calls[64] - calls[32] == 2 * (calls[32] - calls[16])


def test_later_windows_know_the_part_that_is_painted() -> None:
    model = Answers()
    sample_windows(
        model.at, torch.full((1, 4, 16), UNKNOWN), (4, 8), (2, 4), 4, Filters(), generators([0])
    )
    assert model.context == [0, 16, 16]


def test_known_cells_stay_and_full_windows_are_skipped() -> None:
    known = torch.full((2, 4, 16), UNKNOWN)
    known[:, :, :12] = 3
    known[:, 0, 15] = 2
    model = Answers()
    painted = sample_windows(model.at, known, (4, 8), (2, 4), 4, Filters(), generators([0, 1]))
    assert torch.equal(painted[known != UNKNOWN], known[known != UNKNOWN])
    assert model.places == [Window(0, 8, 4, 8)]
    assert model.cells == 15


def test_image_i_depends_on_seed_i_alone() -> None:
    known = torch.full((3, 6, 10), UNKNOWN)
    options = ((4, 4), (2, 2), 3, Filters())
    together = sample_windows(Answers().at, known, *options, generators([4, 5, 6]))
    for i in range(3):
        alone = sample_windows(Answers().at, known[:1], *options, generators([4 + i]))
        assert torch.equal(alone[0], together[i])


def test_images_that_know_different_parts_of_a_window_are_refused() -> None:
    """Looking at the first image alone would leave the others with holes."""
    known = torch.full((2, 4, 8), 1)
    known[1, 0, 0] = UNKNOWN
    with pytest.raises(ValueError, match="paint them apart"):
        sample_windows(Answers().at, known, (4, 4), (2, 2), 3, Filters(), generators([0, 1]))


def test_progress_counts_windows() -> None:
    seen: list[tuple[int, int]] = []
    sample_windows(
        Answers().at, torch.full((1, 4, 16), UNKNOWN), (4, 8), (2, 4), 4, Filters(),
        generators([0]), callback=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("steps", [0, -3])
def test_steps_below_one_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps is {steps}"):
        sample_windows(
            Answers().at, torch.full((1, 4, 4), UNKNOWN), (4, 4), (2, 2), steps, Filters(), []
        )
