"""Laws of decoding step by step: cached equals naive equals training, guided or not."""

import pytest
import torch
from torch import Tensor

from taming.sampling import UNKNOWN, Filters, group_sizes, guide, orders, sample
from taming.transformer import Branch, Decoder, NaiveDecoder
from taming.transformer.decoder import Guides

T = 12


def steps(decoder, codes: Tensor, order: Tensor, sizes: list[int]) -> list[Tensor]:
    """What the decoder answers when these codes are fed in this order, group after group."""
    answers, fed, done = [], 0, 0
    for size in sizes:
        fresh = order[:, fed:done]
        answers.append(decoder(codes.gather(1, fresh), fresh, order[:, done : done + size]))
        fed, done = done, done + size
    return answers


@pytest.mark.parametrize("kind", [Decoder, NaiveDecoder])
def test_one_cell_at_a_time_gives_the_logits_of_training(kind, transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs()
    model = transformer(control_mode=mode)
    expected = model(codes, order, control, prefix)
    got = torch.cat(steps(kind(model, [Branch(control, prefix)]), codes, order, [1] * T), dim=1)
    torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)


def test_the_first_cell_of_a_group_has_the_logits_of_training(transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs()
    model = transformer(control_mode=mode)
    expected = model(codes, order, control, prefix)
    sizes = [1, 3, 2, 6]
    answers = steps(Decoder(model, [Branch(control, prefix)]), codes, order, sizes)
    done = 0
    for size, answer in zip(sizes, answers, strict=True):
        first = expected[:, done : done + 1]
        torch.testing.assert_close(answer[:, :1], first, atol=2e-4, rtol=1e-4)
        done += size


def chains(control: Tensor, prefix: Tensor) -> dict[str, tuple[list[Branch], list[float]]]:
    no_control, no_prefix = torch.zeros_like(control), torch.zeros_like(prefix)
    half = control.clone()
    half[:, 16:] = 0.0
    return {
        "unguided": ([Branch(control, prefix)], []),
        "control alone": ([Branch(no_control, prefix), Branch(control, prefix)], [3.0]),
        "everything": ([Branch(no_control, no_prefix), Branch(control, prefix)], [3.0]),
        "two rows of two": (
            [
                Branch(no_control, no_prefix),
                Branch(control, no_prefix),
                Branch(no_control, prefix),
                Branch(control, prefix),
            ],
            [2.0, 0.5, 1.5],
        ),
        "rows of unequal length": (
            [
                Branch(no_control, no_prefix),
                Branch(half, no_prefix),
                Branch(control, no_prefix),
                Branch(control, prefix),
            ],
            [2.0, 1.0, 3.0],
        ),
    }


NAMES = list(chains(torch.zeros(1, 32, 1, 1), torch.zeros(1, 1, 1)))


@pytest.mark.parametrize("name", NAMES)
def test_cached_equals_naive_token_for_token(name, transformer, inputs, mode) -> None:
    _, order, control, prefix = inputs()
    model = transformer(control_mode=mode)
    branches, scales = chains(control, prefix)[name]
    painted = []
    for kind in (Decoder, NaiveDecoder):
        generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
        painted.append(
            sample(
                kind(model, branches, scales), torch.full((2, T), UNKNOWN), order,
                group_sizes(T, 5), Filters(temperature=0.7), generators,
            )
        )  # fmt: skip
    assert torch.equal(*painted)
    assert len(painted[0].unique()) > 3, "a degenerate model proves nothing"


@pytest.mark.parametrize("name", NAMES)
def test_guided_logits_are_the_formula_over_single_branches(
    name, transformer, inputs, mode
) -> None:
    codes, order, control, prefix = inputs()
    model = transformer(control_mode=mode)
    branches, scales = chains(control, prefix)[name]
    sizes = [2, 4, 6]
    together = steps(Decoder(model, branches, scales), codes, order, sizes)
    each = [steps(Decoder(model, [branch]), codes, order, sizes) for branch in branches]
    for step, got in enumerate(together):
        expected = guide([answers[step] for answers in each], scales)
        torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "rows"), [("control alone", 1), ("everything", 2), ("two rows of two", 2)]
)
def test_branches_with_one_prefix_share_a_cache(name, rows, transformer, inputs) -> None:
    _, _, control, prefix = inputs()
    model = transformer()
    decoder = Decoder(model, *chains(control, prefix)[name])
    assert len(decoder.rows) == rows
    assert decoder.content_cache.buffer.shape[2] == rows * 2  # rows * B


def test_known_codes_in_front_are_one_prefill(transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs()
    model = transformer(control_mode=mode)
    known = torch.rand(1, T, generator=torch.Generator().manual_seed(0)).expand(2, -1) < 0.4
    order = orders.known_first(order, known)
    start = torch.where(known, codes, UNKNOWN)
    rest = int((~known[0]).sum())
    painted = []
    for kind in (Decoder, NaiveDecoder):
        generators = [torch.Generator().manual_seed(seed) for seed in (5, 6)]
        decoder = kind(model, [Branch(control, prefix)])
        painted.append(sample(decoder, start, order, group_sizes(rest, 3), Filters(), generators))
    assert torch.equal(*painted)
    assert torch.equal(painted[0][known], codes[known])


def test_image_i_depends_on_seed_i_and_never_on_its_batch(transformer, inputs, mode) -> None:
    _, order, control, prefix = inputs(batch=4)
    model = transformer(control_mode=mode)

    def paint(rows: slice) -> Tensor:
        branches = [
            Branch(torch.zeros_like(control[rows]), prefix[rows]),
            Branch(control[rows], prefix[rows]),
        ]
        count = len(order[rows])
        return sample(
            Decoder(model, branches, [2.0]), torch.full((count, T), UNKNOWN), order[rows],
            group_sizes(T, 6), Filters(),
            [torch.Generator().manual_seed(seed) for seed in range(4)[rows]],
        )  # fmt: skip

    together = paint(slice(0, 4))
    for i in range(4):
        assert torch.equal(paint(slice(i, i + 1))[0], together[i])


def test_asking_again_without_feeding_gives_the_same_answer(transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs()
    decoder = Decoder(transformer(control_mode=mode), [Branch(control, prefix)])
    first, targets, nothing = order[:, :3], order[:, 5:8], order[:, :0]
    once = decoder(codes.gather(1, first), first, targets)
    again = decoder(codes.gather(1, nothing), nothing, targets)
    torch.testing.assert_close(again, once)


def test_under_autocast_the_cache_is_in_bf16_and_logits_in_float32(transformer, inputs) -> None:
    codes, order, control, prefix = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        decoder = Decoder(transformer(), [Branch(control, prefix)])
        answer = decoder(codes.gather(1, order[:, :2]), order[:, :2], order[:, 2:4])
    assert decoder.content_cache.buffer.dtype == torch.bfloat16
    assert answer.dtype == torch.float32


def test_a_control_that_is_the_same_everywhere_passes_the_trunk_once(
    transformer, inputs, mode, monkeypatch
) -> None:
    model = transformer(control_mode=mode)
    codes, order, control, prefix = inputs()
    blank = torch.ones_like(control)
    guide, passed = model.guide, []
    monkeypatch.setattr(model, "guide", lambda *args: (passed.append(args), guide(*args))[1])
    guides = Guides(model)
    for window in (control, control + 1.0):
        branches = [Branch(blank.clone(), prefix), Branch(window, prefix)]
        found = steps(Decoder(model, branches, [2.0], guides), codes, order, [4, 8])
        expected = steps(NaiveDecoder(model, branches, [2.0]), codes, order, [4, 8])
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)
    of_naive = 2 * 2 * 2  # windows, steps, branches
    assert len(passed) == 3 + of_naive
