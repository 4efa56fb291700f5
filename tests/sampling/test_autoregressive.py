"""Laws of the sampling loop, with a toy model whose every answer depends on all it was told."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from taming.sampling import UNKNOWN, Filters, group_sizes, orders, sample
from taming.sampling.filters import apply_filters

V, H, W = 7, 3, 4
T = H * W


class Toy:
    """Logits that depend on the target and on every (code, position) fed so far, in any order."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(V, T, T, V, generator=generator)  # code, its cell, target
        self.heard: Tensor | None = None
        self.fed: list[tuple[Tensor, Tensor]] = []
        self.asked: list[Tensor] = []

    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        if self.heard is None:
            self.heard = torch.zeros(len(codes), T, V)
        self.fed.append((codes, positions))
        self.asked.append(targets)
        self.heard = self.heard + self.table[codes, positions].sum(1)  # (B, T, V)
        return self.heard.gather(1, targets[..., None].expand(-1, -1, V))


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def shuffled(batch: int, first: int = 10) -> Tensor:
    return torch.stack([orders.random(H, W, g) for g in generators(range(first, first + batch))])


def unknown(batch: int) -> Tensor:
    return torch.full((batch, T), UNKNOWN)


def test_one_code_at_a_time_in_raster_order_is_the_chain_rule() -> None:
    """Compared with the plainest loop: p(code_i | codes before i), drawn by inverse noise."""
    order = orders.raster(H, W)[None]
    filters = Filters(temperature=0.8, top_k=5)
    got = sample(Toy(), unknown(1), order, group_sizes(T), filters, generators([3]))

    table, generator, codes = Toy().table, torch.Generator().manual_seed(3), []
    for cell in range(T):
        logits = sum((table[code, i, cell] for i, code in enumerate(codes)), torch.zeros(V))
        chances = apply_filters(logits, filters).softmax(-1)
        race = torch.empty(1, V).exponential_(generator=generator)[0]
        codes.append(int((chances / race).argmax()))
    assert got[0].tolist() == codes


def test_every_code_is_fed_once_and_every_unknown_cell_asked_once() -> None:
    toy, order = Toy(), shuffled(2)
    codes = sample(toy, unknown(2), order, [1, 2, 4, 5], Filters(), generators([0, 1]))
    positions = torch.cat([at for _, at in toy.fed], dim=1)
    assert torch.equal(positions, order[:, : T - 5])  # the last group is a target only
    assert torch.equal(torch.cat(toy.asked, dim=1), order)
    assert torch.equal(torch.cat([fed for fed, _ in toy.fed], dim=1), codes.gather(1, positions))
    assert [asked.shape[1] for asked in toy.asked] == [1, 2, 4, 5]


def test_a_target_is_drawn_before_anything_of_its_own_group_is_fed() -> None:
    toy, order = Toy(), shuffled(1)
    sample(toy, unknown(1), order, [4, 4, 4], Filters(), generators([0]))
    heard: set[int] = set()
    for (_, positions), asked in zip(toy.fed, toy.asked, strict=True):
        heard |= set(positions.flatten().tolist())
        assert not heard & set(asked.flatten().tolist())


def test_image_i_depends_on_seed_i_and_never_on_its_batch() -> None:
    order, seeds = shuffled(4), [5, 6, 7, 8]
    together = sample(Toy(), unknown(4), order, group_sizes(T, 5), Filters(), generators(seeds))
    for i, seed in enumerate(seeds):
        alone = sample(
            Toy(), unknown(1), order[i : i + 1], group_sizes(T, 5), Filters(), generators([seed])
        )
        assert torch.equal(alone[0], together[i])


def test_known_codes_stay_and_are_fed_first() -> None:
    known = unknown(2)
    cells = torch.tensor([[0, 5, 11], [2, 3, 7]])
    known.scatter_(1, cells, torch.tensor([[1, 2, 3], [4, 5, 6]]))
    order = orders.known_first(shuffled(2), known != UNKNOWN)
    toy, before = Toy(), known.clone()
    codes = sample(toy, known, order, group_sizes(T - 3, 4), Filters(), generators([0, 1]))
    assert torch.equal(codes.gather(1, cells), before.gather(1, cells))
    assert torch.equal(toy.fed[0][1], order[:, :3])
    assert torch.equal(known, before), "the caller's tensor was written to"
    assert (codes >= 0).all()


def test_completion_is_the_tail_of_painting() -> None:
    """Greedy: the rest of a picture is the same whether its beginning was painted or given."""
    order, greedy = shuffled(1), Filters(temperature=0.0)
    whole = sample(Toy(), unknown(1), order, group_sizes(T), greedy, generators([0]))
    known = unknown(1).scatter(1, order[:, :5], whole.gather(1, order[:, :5]))
    rest = sample(Toy(), known, order, group_sizes(T - 5), greedy, generators([0]))
    assert torch.equal(rest, whole)


def test_a_picture_that_is_wholly_known_asks_nothing() -> None:
    known = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(0))
    toy = Toy()
    assert torch.equal(sample(toy, known, shuffled(2), group_sizes(0), Filters()), known)
    assert not toy.asked


def test_the_callback_sees_every_step() -> None:
    seen: list[tuple[int, int]] = []
    sample(
        Toy(), unknown(1), shuffled(1), [3, 4, 5], Filters(), generators([0]),
        callback=lambda step, codes: seen.append((step, int((codes == UNKNOWN).sum()))),
    )  # fmt: skip
    assert seen == [(0, 9), (1, 5), (2, 0)]


def test_images_that_know_differently_many_cells_are_refused() -> None:
    known = unknown(2)
    known[0, 0] = 1
    with pytest.raises(ValueError, match=r"know \[1, 0\] cells"):
        sample(Toy(), known, shuffled(2), group_sizes(T - 1), Filters(), generators([0, 1]))


def test_known_cells_behind_unknown_ones_are_refused() -> None:
    known = unknown(1)
    known[0, T - 1] = 1
    with pytest.raises(ValueError, match="known_first"):
        sample(Toy(), known, orders.raster(H, W)[None], group_sizes(T - 1), Filters(), [])


@pytest.mark.parametrize("sizes", [[T - 1], [T, 1]])
def test_groups_that_do_not_sum_to_the_unknown_cells_are_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match=f"groups of {sum(sizes)} cells for {T}"):
        sample(Toy(), unknown(1), shuffled(1), sizes, Filters(), generators([0]))
