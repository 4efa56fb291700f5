"""Laws of decoding the published transformer: cached equals naive equals one pass over it all."""

import copy

import pytest
import torch
from torch import Tensor

from taming.sampling import UNKNOWN, Filters
from taming.sampling import sample as sample_codes
from taming.transformer import gpt_decoder
from taming.transformer.gpt import GPT
from taming.transformer.gpt_decoder import (
    GPTDecoder,
    NaiveGPTDecoder,
    PreparedGPT,
    continue_codes,
    pack_gpt,
    sample_with_past,
)
from taming.transformer.prepared import can_pack

V, L, P, T = 13, 12, 3, 9  # the last code needs no place: P + T - 1 < L
KINDS = [GPTDecoder, NaiveGPTDecoder]


@pytest.fixture(scope="module")
def gpt() -> GPT:
    torch.manual_seed(0)
    model = GPT(V, L, n_layer=3, n_head=2, n_embd=16, embd_pdrop=0.5, resid_pdrop=0.5).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def draw(length: int, batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(seed))


def places(batch: int = 2) -> Tensor:
    return torch.arange(T).expand(batch, -1)


def answers(decoder, codes: Tensor, order: Tensor, sizes: list[int]) -> Tensor:
    """Logits after each of these many codes were fed."""
    collected, fed = [], 0
    for size in sizes:
        fresh = order[:, fed : fed + size]
        fed += size
        collected.append(decoder(codes.gather(1, fresh), fresh, order[:, fed : fed + 1]))
    return torch.cat(collected, dim=1)


def paint(decoder, seeds: list[int], known: Tensor | None = None) -> Tensor:
    start = torch.full((len(seeds), T), UNKNOWN)
    count = 0 if known is None else known.shape[1]
    if known is not None:
        start[:, :count] = known
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    order = places(len(seeds))
    return sample_codes(decoder, start, order, [1] * (T - count), Filters(0.8), generators)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[0, *[1] * (T - 1)], [4, 1, 1], [2, 3, 1]])
def test_step_by_step_gives_the_logits_of_one_pass(kind, sizes, gpt) -> None:
    prefix, codes = draw(P), draw(T, seed=2)
    whole = gpt(torch.cat([prefix, codes], dim=1))[0][:, P - 1 :]
    expected = whole[:, torch.tensor(sizes).cumsum(0)]
    got = answers(kind(gpt, prefix), codes, places(), sizes)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [0, 4])
def test_cached_equals_naive_token_for_token(count, gpt) -> None:
    prefix, known = draw(P), draw(count, seed=3)
    painted = [paint(kind(gpt, prefix), [5, 6], known) for kind in KINDS]
    assert torch.equal(*painted)
    assert torch.equal(painted[0][:, :count], known)
    assert len(painted[0].unique()) > 3, "a degenerate model proves nothing"


def test_image_i_depends_on_seed_i_and_never_on_its_batch(gpt) -> None:
    prefix = draw(P, batch=3)
    together = paint(GPTDecoder(gpt, prefix), [1, 2, 3])
    for i in range(3):
        assert torch.equal(paint(GPTDecoder(gpt, prefix[i : i + 1]), [i + 1])[0], together[i])


def test_prepared_weights_serve_many_decoders(gpt) -> None:
    prepared = PreparedGPT(gpt)
    for seed in (1, 2):
        prefix = draw(P, seed=seed)
        fresh = paint(GPTDecoder(gpt, prefix), [1, 2])
        assert torch.equal(paint(GPTDecoder(prepared, prefix), [1, 2]), fresh)


def test_the_cache_is_allocated_once_and_holds_the_block(gpt) -> None:
    decoder = GPTDecoder(gpt, draw(P))
    buffer = decoder.cache.buffer
    paint(decoder, [1, 2])
    assert decoder.cache.buffer is buffer
    assert buffer.shape == (3, 2, 2, 2, L, 8)
    assert decoder.cache.length == P + T - 1


def test_a_cached_decoder_drops_nothing_even_in_training_mode(gpt) -> None:
    prefix = draw(P)
    expected = paint(GPTDecoder(gpt, prefix), [1, 2])
    gpt.train()
    try:
        assert torch.equal(paint(GPTDecoder(gpt, prefix), [1, 2]), expected)
        with pytest.raises(ValueError, match="eval"):
            NaiveGPTDecoder(gpt, prefix)
    finally:
        gpt.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_that_only_conditions_use_are_never_drawn(kind, gpt) -> None:
    limited = kind(gpt, draw(P), codebook_size=4)
    assert limited(*[draw(0)] * 2, places()[:, :1]).shape == (2, 1, 4)


def test_asking_again_without_feeding_gives_the_same_answer(gpt) -> None:
    decoder, nothing = GPTDecoder(gpt, draw(P)), draw(0)
    once = decoder(nothing, nothing, places()[:, :1])
    assert torch.equal(decoder(nothing, nothing, places()[:, :1]), once)


@pytest.mark.parametrize("kind", KINDS)
def test_several_cells_at_once_are_refused(kind, gpt) -> None:
    with pytest.raises(ValueError, match=r"2 places asked for at once.*groups of 1"):
        kind(gpt, draw(P))(draw(0), draw(0), places()[:, :2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", ["fed", "asked"])
def test_another_order_is_refused(kind, wrong, gpt) -> None:
    decoder = kind(gpt, draw(P))
    fed, asked = places()[:, :1], places()[:, 1:2]
    fed, asked = (fed + 1, asked) if wrong == "fed" else (fed, asked + 1)
    with pytest.raises(ValueError, match="one order only"):
        decoder(draw(1), fed, asked)


@pytest.mark.parametrize("prefix", [draw(0), draw(1)[:, 0]])
def test_a_prefix_without_tokens_is_refused(prefix, gpt) -> None:
    with pytest.raises(ValueError, match="at least one condition"):
        GPTDecoder(gpt, prefix)


def test_a_sequence_longer_than_the_block_is_refused_by_the_cache(gpt) -> None:
    with pytest.raises(ValueError, match=f"block_size is {L}"):
        continue_codes(GPTDecoder(gpt, draw(P)), draw(0), L - P + 2, Filters(0))


def test_under_autocast_the_cache_is_in_bf16_and_logits_in_float32(gpt) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        decoder = GPTDecoder(gpt, draw(P))
        answer = decoder(draw(0), draw(0), places()[:, :1])
    assert decoder.cache.buffer.dtype == torch.bfloat16
    assert answer.dtype == torch.float32


def test_weights_in_bf16_decode_as_they_are(gpt) -> None:
    small = GPT(V, L, n_layer=1, n_head=2, n_embd=16).bfloat16()
    assert GPTDecoder(small, draw(P))(draw(0), draw(0), places()[:, :1]).dtype == torch.float32


# --- packed weights ------------------------------------------------------------------------------

needs_packing = pytest.mark.skipif(not can_pack(), reason="no kernels for packed weights here")


@needs_packing
@pytest.mark.parametrize(("packing", "bound"), [("bf16", 2e-3), ("int8", 0.1)])
def test_packed_logits_drift_within_bounds(packing, bound, gpt) -> None:
    packed = copy.deepcopy(gpt)
    pack_gpt(packed, packing)
    prefix, codes = draw(P), draw(T, seed=2)
    sizes = [0, *[1] * (T - 1)]
    exact = answers(GPTDecoder(gpt, prefix), codes, places(), sizes)
    drift = (answers(GPTDecoder(packed, prefix), codes, places(), sizes) - exact).norm()
    assert 0 < drift / exact.norm() < bound


@needs_packing
def test_cached_equals_naive_in_16_bits(gpt) -> None:
    packed = copy.deepcopy(gpt)
    pack_gpt(packed, "bf16")
    assert torch.equal(*(paint(kind(packed, draw(P)), [5, 6]) for kind in KINDS))


def test_preparing_copies_no_weights_for_one_picture(gpt) -> None:
    prepared = PreparedGPT(gpt)
    prepared.new_cache(1)
    (layer, *_) = prepared.blocks[0].layers()[1:]
    assert layer.weight.data_ptr() == gpt.blocks[0].attn.proj.weight.data_ptr()
    assert layer.for_batches is None


# --- unmasked front ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unmasked() -> GPT:
    torch.manual_seed(0)
    model = GPT(V, L, n_layer=2, n_head=2, n_embd=16, n_unmasked=P).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def test_an_unmasked_prefix_is_cached_as_naive(unmasked) -> None:
    prefix = draw(P)
    assert torch.equal(*(paint(kind(unmasked, prefix), [5, 6]) for kind in KINDS))


def test_a_front_that_would_see_what_comes_later_is_not_cached(unmasked) -> None:
    with pytest.raises(ValueError, match=r"n_unmasked is 3, but only 2 tokens.*NaiveGPTDecoder"):
        GPTDecoder(unmasked, draw(P - 1))(draw(0), draw(0), places()[:, :1])


# --- published call forms ------------------------------------------------------------------------


def greedy(model: GPT, x: Tensor, steps: int) -> Tensor:
    """The published loop: a full pass over the last block for every code."""
    for _ in range(steps):
        x = torch.cat([x, model(x[:, -L:])[0][:, -1:].argmax(-1)], dim=1)
    return x


@pytest.mark.parametrize("steps", [0, 1, L - P + 1, 2 * L])
def test_sample_is_the_published_loop_beyond_the_block_too(steps, gpt) -> None:
    x = draw(P)
    assert torch.equal(gpt_decoder.sample(gpt, x, steps), greedy(gpt, x, steps))


@pytest.mark.parametrize("length", [P - 1, P, P + 2])
def test_sample_is_the_published_loop_with_an_unmasked_front(length, unmasked) -> None:
    x = draw(length)
    assert torch.equal(gpt_decoder.sample(unmasked, x, 4), greedy(unmasked, x, 4))


def test_sample_with_past_returns_what_follows(gpt) -> None:
    x = draw(P)
    drawn = sample_with_past(x, gpt, T, sample_logits=False)
    assert torch.equal(drawn, greedy(gpt, x, T)[:, P:])


def test_draws_follow_the_seed_of_torch(gpt) -> None:
    def draws(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return sample_with_past(draw(P), gpt, T)

    assert torch.equal(draws(1), draws(1))
    assert not torch.equal(draws(1), draws(2))


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-9}, {"top_k": 0, "top_p": 1e-9}])
def test_each_filter_works_without_the_other(options, gpt) -> None:
    """Top-p did nothing unless top-k was given as well."""
    expected = sample_with_past(draw(P), gpt, T, sample_logits=False)
    assert torch.equal(sample_with_past(draw(P), gpt, T, **options), expected)


def test_the_callback_is_told_every_step(gpt) -> None:
    steps: list[int] = []
    sample_with_past(draw(P), gpt, 3, callback=steps.append)
    assert steps == [0, 1, 2]


def test_temperature_divides_the_logits(gpt) -> None:
    torch.manual_seed(0)
    x = draw(P, batch=1).expand(64, -1)
    cold = sample_with_past(x, gpt, 1, temperature=0.05)
    hot = sample_with_past(x, gpt, 1, temperature=50.0)
    assert len(cold.unique()) < len(hot.unique())
