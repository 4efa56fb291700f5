"""Laws of the published transformer: names, causality, the formula, sizes that cannot be."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.transformer.gpt import GPT, Block, CausalSelfAttention, GPTConfig, visible

V, L, T = 11, 8, 6


def build(**options) -> GPT:
    torch.manual_seed(0)
    model = GPT(V, L, **{"n_layer": 2, "n_head": 2, "n_embd": 8, **options}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def tokens(batch: int = 2, length: int = T, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, (batch, length), generator=generator)


def test_state_dict_has_the_published_keys() -> None:
    linear, norm = ("weight", "bias"), ("weight", "bias")
    parts = {"ln1": norm, "ln2": norm, "mlp.0": linear, "mlp.2": linear}
    parts |= {f"attn.{name}": linear for name in ("key", "query", "value", "proj")}
    blocks = {f"blocks.{i}.{part}.{end}" for i in (0, 1) for part in parts for end in parts[part]}
    around = {"tok_emb.weight", "pos_emb", "ln_f.weight", "ln_f.bias", "head.weight"}
    assert set(build().state_dict()) == blocks | around


def test_the_causal_mask_of_a_published_file_is_not_needed() -> None:
    model = build()
    state = model.state_dict()
    published = {**state, **{f"blocks.{i}.attn.mask": torch.ones(1, 1, L, L) for i in (0, 1)}}
    model.load_state_dict(published, strict=True)
    assert model.state_dict().keys() == state.keys()


@pytest.mark.parametrize("at", range(T))
def test_a_place_sees_itself_and_what_is_before_it(at: int) -> None:
    model, codes = build(), tokens()
    other = codes.clone()
    other[:, at] = (codes[:, at] + 1) % V
    change = (model(codes)[0] - model(other)[0]).abs().amax(dim=(0, 2))
    assert (change > 1e-4).tolist() == [place >= at for place in range(T)]


def test_unmasked_places_see_one_another() -> None:
    model, codes = build(n_unmasked=3), tokens()
    other = codes.clone()
    other[:, 2] = (codes[:, 2] + 1) % V
    change = (model(codes)[0] - model(other)[0]).abs().amax(dim=(0, 2))
    assert bool((change > 1e-4).all()), "the first three see the third"
    other = codes.clone()
    other[:, 3] = (codes[:, 3] + 1) % V
    change = (model(codes)[0] - model(other)[0]).abs().amax(dim=(0, 2))
    assert (change[:3] == 0).all()


@pytest.mark.parametrize("n_unmasked", [0, 4])
def test_attention_is_the_published_formula_with_its_gradients(n_unmasked: int) -> None:
    torch.manual_seed(0)
    attention = CausalSelfAttention(GPTConfig(V, L, n_embd=8, n_head=2, n_unmasked=n_unmasked))
    attention.eval()
    x = torch.randn(2, T, 8, requires_grad=True)

    def split(y: Tensor) -> Tensor:
        return y.view(2, T, 2, 4).transpose(1, 2)

    q, k, v = (split(getattr(attention, name)(x)) for name in ("query", "key", "value"))
    mask = torch.ones(L, L).tril()
    mask[:n_unmasked, :n_unmasked] = 1
    weights = (q @ k.transpose(-2, -1) / math.sqrt(4)).masked_fill(mask[:T, :T] == 0, -math.inf)
    expected = attention.proj((weights.softmax(-1) @ v).transpose(1, 2).reshape(2, T, 8))
    got = attention(x)
    torch.testing.assert_close(got, expected)
    slope = torch.randn_like(got)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, slope)[0] for y in (got, expected)))


@pytest.mark.parametrize("n_unmasked", [0, 2, 5])
@pytest.mark.parametrize("queries", [2, 4, T])
def test_what_some_queries_see_are_the_last_rows_of_what_all_see(n_unmasked, queries) -> None:
    device = torch.device("cpu")
    whole, part = visible(T, T, n_unmasked, device), visible(queries, T, n_unmasked, device)
    assert whole is not None
    assert part is not None
    assert torch.equal(part, whole[-queries:])


def test_loss_is_the_mean_cross_entropy_of_the_targets() -> None:
    model, codes, targets = build(), tokens(), tokens(seed=2)
    logits, loss = model(codes, targets=targets)
    right = F.log_softmax(logits, -1).gather(-1, targets[..., None])
    torch.testing.assert_close(loss, -right.mean())


def test_embeddings_stand_in_front_of_the_tokens() -> None:
    model, codes = build(), tokens()
    front = model.tok_emb(codes[:, :2])
    torch.testing.assert_close(model(codes[:, 2:], embeddings=front)[0], model(codes)[0])


def test_dropout_is_of_training_alone() -> None:
    dropping = {"embd_pdrop": 0.5, "resid_pdrop": 0.5, "attn_pdrop": 0.5}
    codes = tokens()
    expected = build()(codes)[0]
    torch.testing.assert_close(build(**dropping)(codes)[0], expected)
    assert not torch.allclose(build(**dropping).train()(codes)[0], expected, atol=1e-3)


def test_attention_weights_are_dropped_in_training() -> None:
    torch.manual_seed(0)
    config = GPTConfig(V, L, n_embd=8, n_head=2, attn_pdrop=0.5, resid_pdrop=0.0)
    attention, x = CausalSelfAttention(config), torch.randn(1, T, 8)
    assert not torch.allclose(attention.train()(x), attention.eval()(x), atol=1e-4)


def test_it_begins_small_and_centred() -> None:
    model = GPT(V, L, n_layer=1, n_head=2, n_embd=64)
    torch.testing.assert_close(model.head.weight.std(), torch.tensor(0.02), atol=3e-3, rtol=0)
    assert not model.pos_emb.any()
    block = model.blocks[0]
    assert isinstance(block, Block)
    assert not block.attn.proj.bias.any()


def test_a_sequence_longer_than_the_block_names_both_sizes() -> None:
    with pytest.raises(ValueError, match=f"{L + 1} tokens .* block_size is {L}"):
        build()(tokens(length=L + 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_head": 3}, "n_embd is 8.* 3 heads"), ({"n_unmasked": L + 1}, "n_unmasked is 9.*= 8")],
)
def test_sizes_that_do_not_fit_are_refused(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)
