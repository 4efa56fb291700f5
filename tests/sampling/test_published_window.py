"""Laws of painting large grids with a model that knows one order, by either window rule."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from taming.sampling import (
    UNKNOWN,
    Filters,
    Visit,
    Window,
    draw,
    orders,
    published_visits,
    sample,
    sample_sequence,
)

V = 7
WEIGHTS = torch.randn(64, V, V, generator=torch.Generator().manual_seed(0))


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def logits_after(sequence: Tensor) -> Tensor:
    """A toy model: every code before, and where it stands, matters; (B, n) -> (B, V)."""
    places = torch.arange(sequence.shape[1])
    return WEIGHTS[0, 0] * sequence.shape[1] / 7 + WEIGHTS[places, sequence].sum(1)


class Answers:
    """The toy model step by step; refuses what is out of sequence, counts what it is fed."""

    def __init__(self) -> None:
        self.places: list[Window] = []
        self.fed = 0

    def at(self, place: Window) -> "Answers":
        self.places.append(place)
        self.sequence = torch.empty(0)
        return self

    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        before = self.sequence if self.sequence.numel() else codes[:, :0]
        expected = torch.arange(before.shape[1], before.shape[1] + codes.shape[1] + 1)
        assert torch.equal(torch.cat([positions, targets], 1)[0], expected), "out of sequence"
        self.sequence = torch.cat([before, codes], dim=1)
        self.fed += codes.shape[1]
        return logits_after(self.sequence)[:, None]


def full_forward(known: Tensor, size: int, filters: Filters, seeds: Sequence[int]) -> Tensor:
    """The slow twin, as the authors' own loop has it: every cell's window from scratch."""
    codes, noise = known.clone(), generators(seeds)
    _, height, width = codes.shape
    half = size // 2
    for i in range(height):
        local_i = i if i <= half else size - (height - i) if height - i < half else half
        for j in range(width):
            local_j = j if j <= half else size - (width - j) if width - j < half else half
            if codes[0, i, j] != UNKNOWN:
                continue
            top, left = i - local_i, j - local_j
            patch = codes[:, top : top + size, left : left + size].flatten(1)
            logits = logits_after(patch[:, : local_i * size + local_j])
            codes[:, i, j] = draw(logits[:, None], filters, noise)[:, 0]
    return codes


@pytest.mark.parametrize("grid", [(4, 4), (4, 9), (9, 4), (7, 6), (5, 11)])
@pytest.mark.parametrize("rows", [0, 2])
def test_cached_windows_equal_full_forwards_token_for_token(grid, rows) -> None:
    known = torch.full((2, *grid), UNKNOWN)
    known[:, :rows] = 3
    filters = Filters(temperature=0.8, top_k=5, top_p=0.9)
    model = Answers()
    fast = sample_sequence(model.at, known, (4, 4), filters=filters, generators=generators([1, 2]))
    assert torch.equal(fast, full_forward(known, 4, filters, [1, 2]))
    assert len(model.places) < (grid[0] - rows) * grid[1], "no window was shared"


def test_a_cell_has_index_8_of_16_unless_within_8_of_a_border() -> None:
    seen = {}
    for place, start, stop in published_visits((24, 20), (16, 16)):
        assert place[2:] == (16, 16)
        for local in range(start, stop):
            cell = (place.top + local // 16, place.left + local % 16)
            assert cell not in seen
            seen[cell] = (local // 16, local % 16)
    assert list(seen) == [(i, j) for i in range(24) for j in range(20)], "not in raster order"
    for (i, j), (row, column) in seen.items():
        assert row == (i if i <= 8 else 16 - (24 - i) if 24 - i < 8 else 8)
        assert column == (j if j <= 8 else 16 - (20 - j) if 20 - j < 8 else 8)


def test_a_grid_that_fits_is_one_visit_and_one_plain_chain() -> None:
    assert published_visits((4, 4), (4, 4)) == [Visit(Window(0, 0, 4, 4), 0, 16)]
    known = torch.full((1, 4, 4), UNKNOWN)
    painted = sample_sequence(Answers().at, known, (4, 4), generators=generators([3]))
    plain = sample(
        Answers().at(Window(0, 0, 4, 4)), known.flatten(1), torch.arange(16)[None], [1] * 16,
        Filters(), generators([3]),
    )  # fmt: skip
    assert torch.equal(painted.flatten(1), plain)


def test_cells_that_share_a_window_are_fed_once() -> None:
    """A tall grid as wide as the window: its upper half is one chain, then one window a row."""
    model = Answers()
    sample_sequence(
        model.at, torch.full((1, 8, 4), UNKNOWN), (4, 4), generators=generators([0])
    )  # fmt: skip
    tops = [place.top for place in model.places]
    assert tops == [0, 1, 2, 3, 4]
    # Rows 0 to 2 in the first window; then 8 codes above and 3 in the row; at last two rows.
    assert model.fed == 11 + 3 * 11 + 15


@pytest.mark.parametrize("rule", ["published", "block"])
@pytest.mark.parametrize("grid", [(4, 4), (6, 9)])
def test_image_i_depends_on_seed_i_alone(rule, grid) -> None:
    known = torch.full((3, *grid), UNKNOWN)
    together = sample_sequence(Answers().at, known, (4, 4), rule, generators=generators([4, 5, 6]))
    for i in range(3):
        alone = sample_sequence(
            Answers().at, known[:1], (4, 4), rule, generators=generators([4 + i])
        )
        assert torch.equal(alone[0], together[i])


@pytest.mark.parametrize("rule", ["published", "block"])
def test_known_cells_stay_and_every_other_is_painted(rule) -> None:
    known = torch.full((2, 6, 9), UNKNOWN)
    known[:, :2] = 3
    known[:, 2, :5] = 1
    painted = sample_sequence(Answers().at, known, (4, 4), rule, generators=generators([0, 1]))
    assert torch.equal(painted[known != UNKNOWN], known[known != UNKNOWN])
    assert (painted >= 0).all()


def test_a_grid_that_is_known_asks_no_model() -> None:
    model = Answers()
    known = torch.ones(1, 6, 6, dtype=torch.int64)
    assert torch.equal(sample_sequence(model.at, known, (4, 4)), known)
    assert model.places == []


def test_the_block_rule_costs_a_window_for_each_block() -> None:
    """Known places between unknown ones are fed in their turn, and nothing twice."""
    places, fed = {}, {}
    for width in (8, 16, 32):
        model = Answers()
        known = torch.full((1, 4, width), UNKNOWN)
        sample_sequence(model.at, known, (4, 4), "block", (2, 2), generators=generators([0]))
        places[width], fed[width] = len(model.places), model.fed
    assert places == {8: 3, 16: 7, 32: 15}
    assert fed == {8: 45, 16: 105, 32: 225}, "15 places of each window"


def test_a_model_of_another_order_paints_its_own_sequence() -> None:
    order = torch.tensor([5, 2, 7, 0, 3, 1, 8, 4, 6])
    known = torch.full((1, 3, 3), UNKNOWN)
    known[0, 1, 2] = 4  # cell 5, the first of the order
    painted = sample_sequence(
        Answers().at, known, (3, 3), order=order, generators=generators([0])
    ).flatten(1)
    plain = sample(
        Answers().at(Window(0, 0, 3, 3)), known.flatten(1)[:, order], torch.arange(9)[None],
        [1] * 8, Filters(), generators([0]),
    )  # fmt: skip
    assert torch.equal(painted[:, order], plain)


def test_another_order_cannot_go_row_by_row_over_a_large_grid() -> None:
    known = torch.full((1, 4, 8), UNKNOWN)
    options = {"order": orders.spread(4, 4), "generators": generators([0])}
    with pytest.raises(ValueError, match=r"4x8 is painted row by row .* use the rule 'block'"):
        sample_sequence(Answers().at, known, (4, 4), **options)
    assert (sample_sequence(Answers().at, known, (4, 4), "block", **options) >= 0).all()


def test_images_that_know_different_cells_are_refused() -> None:
    known = torch.full((2, 4, 4), UNKNOWN)
    known[1, 0, 0] = 2
    with pytest.raises(ValueError, match="paint them apart"):
        sample_sequence(Answers().at, known, (4, 4), generators=generators([0, 1]))


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(ValueError, match="'blocks' is unknown; give 'published' or 'block'"):
        sample_sequence(Answers().at, torch.full((1, 4, 4), UNKNOWN), (4, 4), "blocks")  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["published", "block"])
def test_progress_counts_cells(rule) -> None:
    seen: list[tuple[int, int]] = []
    sample_sequence(
        Answers().at, torch.full((1, 4, 6), UNKNOWN), (4, 4), rule, generators=generators([0]),
        callback=lambda *at: seen.append(at),
    )  # fmt: skip
    assert seen == [(done, 24) for done in range(1, 25)]
