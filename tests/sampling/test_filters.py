"""Laws of temperature, top-k, top-p, guidance and of one generator per image."""

import pytest
import torch
from torch import Tensor

from taming.sampling import Filters, apply_filters, draw, guide

V = 12


def some_logits(*shape: int, seed: int = 0) -> Tensor:
    return 2.0 * torch.randn(*shape, V, generator=torch.Generator().manual_seed(seed))


def generators(count: int, first: int = 0) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def kept(logits: Tensor, **options: float) -> Tensor:
    return apply_filters(logits, Filters(**options)).isfinite()


# --- one filter ----------------------------------------------------------------------------------


def test_no_filters_leave_the_logits_as_they_are() -> None:
    logits = some_logits(3, 5)
    assert torch.equal(apply_filters(logits, Filters()), logits)


def test_temperature_zero_is_greedy() -> None:
    logits = some_logits(4, 7)
    assert torch.equal(draw(logits, Filters(temperature=0.0), generators(4)), logits.argmax(-1))
    assert kept(logits, temperature=0.0).sum(-1).eq(1).all()


def test_low_temperatures_approach_the_greedy_choice() -> None:
    logits = some_logits(2, 50)
    cold = draw(logits, Filters(temperature=1e-4), generators(2))
    assert torch.equal(cold, logits.argmax(-1))


def test_temperature_divides_the_logits() -> None:
    logits = some_logits(5)
    assert torch.allclose(apply_filters(logits, Filters(temperature=2.0)), logits / 2)


@pytest.mark.parametrize("k", [1, 3, V, V + 5])
def test_top_k_keeps_the_k_likeliest(k: int) -> None:
    logits = some_logits(6)
    expected = torch.zeros_like(logits, dtype=torch.bool)
    expected.scatter_(-1, logits.topk(min(k, V)).indices, True)
    assert torch.equal(kept(logits, top_k=k), expected)


def test_top_k_of_one_is_greedy() -> None:
    logits = some_logits(3, 9)
    assert torch.equal(draw(logits, Filters(top_k=1), generators(3)), logits.argmax(-1))


@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 0.999])
def test_top_p_keeps_the_smallest_set_with_that_probability(p: float) -> None:
    for row in some_logits(20):
        chances = row.softmax(-1)
        chosen = kept(row, top_p=p)
        assert chances[chosen].sum() >= p - 1e-6
        assert (chances[~chosen] < chances[chosen].min()).all()
        assert chances[chosen].sum() - chances[chosen].min() < p + 1e-6


def test_top_p_of_nearly_nothing_is_greedy() -> None:
    logits = some_logits(8)
    assert torch.equal(kept(logits, top_p=1e-9).int().argmax(-1), logits.argmax(-1))
    assert kept(logits, top_p=1e-9).sum(-1).eq(1).all()


def test_top_p_works_without_top_k() -> None:
    """In the original code top-p was silently off unless top-k was given too."""
    assert not kept(some_logits(4), top_p=0.5).all()


# --- filters together ----------------------------------------------------------------------------


def test_filters_compose_as_temperature_then_top_k_then_top_p() -> None:
    logits = some_logits(10)
    together = apply_filters(logits, Filters(temperature=1.7, top_k=6, top_p=0.8))
    one_by_one = logits
    for step in (Filters(temperature=1.7), Filters(top_k=6), Filters(top_p=0.8)):
        one_by_one = apply_filters(one_by_one, step)
    assert torch.equal(together, one_by_one)


def test_nothing_that_was_excluded_is_ever_drawn() -> None:
    logits = some_logits(1, 1).expand(1, 5000, V)
    filters = Filters(top_k=5, top_p=0.9)
    allowed = apply_filters(logits[0, 0], filters).isfinite().nonzero().flatten().tolist()
    assert set(draw(logits, filters, generators(1)).flatten().tolist()) <= set(allowed)


def test_a_zero_among_the_noise_does_not_draw_an_excluded_code(monkeypatch) -> None:
    """0 / 0 would be NaN, which argmax prefers to every number."""
    monkeypatch.setattr(Tensor, "exponential_", lambda self, generator: self.zero_())
    logits = some_logits(2, 3)
    drawn = draw(logits, Filters(top_k=2), generators(2))
    assert kept(logits, top_k=2).gather(-1, drawn[..., None]).all()


def test_codes_are_drawn_as_often_as_they_are_likely() -> None:
    row = some_logits()
    count = 40_000
    drawn = draw(row.expand(1, count, V), Filters(temperature=1.5), generators(1))
    frequency = torch.bincount(drawn.flatten(), minlength=V) / count
    expected = (row / 1.5).softmax(-1)
    sigma = (expected * (1 - expected) / count).sqrt()
    assert ((frequency - expected).abs() < 5 * sigma + 1e-4).all()


def test_half_precision_logits_are_drawn_in_float32() -> None:
    assert apply_filters(some_logits(2).bfloat16(), Filters(top_p=0.9)).dtype == torch.float32


# --- generators ----------------------------------------------------------------------------------


def test_an_image_depends_on_its_generator_and_not_on_its_batch() -> None:
    logits = some_logits(5, 8)
    together = draw(logits, Filters(), generators(5))
    for i in range(5):
        alone = draw(logits[i : i + 1], Filters(), generators(1, first=i))
        assert torch.equal(alone[0], together[i])


def test_drawing_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    draw(some_logits(2, 3), Filters(), generators(2))
    assert torch.equal(torch.get_rng_state(), before)


def test_every_image_needs_a_generator() -> None:
    with pytest.raises(ValueError, match="3 images need as many generators, got 2"):
        draw(some_logits(3, 1), Filters(), generators(2))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
    ],
)
def test_impossible_filters_are_errors_that_name_the_value(wrong: dict[str, float]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is {wrong[name]}"):
        Filters(**wrong)


# --- guidance ------------------------------------------------------------------------------------


def test_scales_of_one_give_the_last_branch_exactly() -> None:
    branches = [some_logits(2, 3, seed=i) for i in range(4)]
    assert torch.equal(guide(branches, [1.0, 1.0, 1.0]), branches[-1])
    assert torch.equal(guide(branches[:1], []), branches[0])


def test_scale_zero_gives_the_unconditional_branch() -> None:
    u, c = some_logits(3, seed=1), some_logits(3, seed=2)
    assert torch.equal(guide([u, c], [0.0]), u)


def test_one_scale_extrapolates_from_the_unconditional_branch() -> None:
    u, c = some_logits(3, seed=1), some_logits(3, seed=2)
    assert torch.allclose(guide([u, c], [3.0]), u + 3.0 * (c - u))


def test_a_scale_for_each_condition_is_the_formula() -> None:
    u, c1, c12, c123 = (some_logits(3, seed=i) for i in range(4))
    by_hand = u + 2.0 * (c1 - u) + 0.5 * (c12 - c1) + 4.0 * (c123 - c12)
    assert torch.allclose(guide([u, c1, c12, c123], [2.0, 0.5, 4.0]), by_hand)


def test_equal_scales_telescope_to_one() -> None:
    branches = [some_logits(3, seed=i) for i in range(3)]
    one = guide([branches[0], branches[-1]], [2.5])
    assert torch.allclose(guide(branches, [2.5, 2.5]), one, atol=1e-5)


def test_each_branch_but_the_first_needs_a_scale() -> None:
    with pytest.raises(ValueError, match="2 branches take 1 scales"):
        guide([some_logits(1), some_logits(1)], [1.0, 2.0])
