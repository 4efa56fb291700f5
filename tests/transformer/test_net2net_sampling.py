"""Laws of sampling from the published second stage, which must equal a full pass for every code."""

import pytest
import torch
from torch import Tensor

from taming.transformer.gpt_decoder import GPTDecoder, NaiveGPTDecoder, PreparedGPT
from taming.transformer.net2net import Net2NetTransformer

V, T, P = 16, 6, 6


def tokens(length: int, batch: int = 2, seed: int = 0) -> Tensor:
    return torch.randint(8, (batch, length), generator=torch.Generator().manual_seed(seed))


def greedy(model: Net2NetTransformer, x: Tensor, c: Tensor, steps: int) -> Tensor:
    sequence = torch.cat([c, x], dim=1)
    for _ in range(steps):
        best = model.transformer(sequence)[0][:, -1:, :V].argmax(-1)
        sequence = torch.cat([sequence, best], dim=1)
    return sequence[:, c.shape[1] :]


@pytest.mark.parametrize("n_unmasked", [0, P, P + 2])
@pytest.mark.parametrize("known", [0, 3, T])
def test_greedy_is_a_full_pass_for_every_code(known, n_unmasked, net2net) -> None:
    model = net2net(gpt={"n_unmasked": n_unmasked})
    x, c = tokens(known, seed=1), tokens(P)
    painted = model.sample(x, c, T - known)
    assert torch.equal(painted, greedy(model, x, c, T - known))
    assert torch.equal(painted[:, :known], x)


def test_sampling_follows_the_seed_of_torch(net2net) -> None:
    model = net2net()

    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return model.sample(tokens(0), tokens(P), T, sample=True)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_top_k_of_one_is_greedy(net2net) -> None:
    model = net2net()
    best = model.sample(tokens(0), tokens(P), T)
    assert torch.equal(model.sample(tokens(0), tokens(P), T, sample=True, top_k=1), best)


def test_the_callback_is_told_every_step(net2net) -> None:
    steps: list[int] = []
    net2net().sample(tokens(2), tokens(P), T - 2, callback=steps.append)
    assert steps == [0, 1, 2, 3]


def test_codes_that_the_first_stage_does_not_have_are_not_drawn(net2net) -> None:
    model = net2net(gpt={"vocab_size": 4 * V})
    with torch.no_grad():
        model.transformer.head.weight[V:] *= 50  # what a full draw would take
    torch.manual_seed(0)
    for is_sampling in (False, True):
        assert int(model.sample(tokens(0), tokens(P), T, sample=is_sampling).max()) < V


def test_more_than_the_block_is_refused(net2net) -> None:
    with pytest.raises(ValueError, match="block_size is 20"):
        net2net().sample(tokens(0), tokens(P), 16)


@pytest.mark.parametrize("pkeep", [0.0, 1.0])
def test_a_model_in_training_does_not_sample(pkeep, net2net) -> None:
    with pytest.raises(ValueError, match=r"eval\(\)"):
        net2net(pkeep=pkeep).train().sample(tokens(0), tokens(P), T)


def test_the_decoder_is_cached_where_it_can_be(net2net) -> None:
    model = net2net(gpt={"n_unmasked": P})
    assert isinstance(model.decoder(tokens(P)), GPTDecoder)
    assert isinstance(model.decoder(tokens(P - 1)), NaiveGPTDecoder)
    prepared = PreparedGPT(model.transformer)
    decoder = model.decoder(tokens(P), prepared)
    assert isinstance(decoder, GPTDecoder)
    assert decoder.weights is prepared


def test_what_was_trained_on_noise_is_drawn_in_one_pass(net2net) -> None:
    """As published: the tokens of the condition stand in for the noise."""
    model = net2net(pkeep=0.0)
    x, c = tokens(2, seed=1), tokens(T)
    whole = torch.cat([c, x, c[:, 2:-1]], dim=1)
    expected = model.transformer(whole)[0][:, P - 1 :].argmax(-1)
    assert torch.equal(model.sample(x, c, T - 2), expected)


def test_a_short_condition_takes_real_noise_in_one_pass(net2net) -> None:
    model = net2net("class_label", pkeep=0.0)
    passes: list[int] = []
    model.transformer.register_forward_hook(lambda *_: passes.append(1))
    assert model.sample(tokens(0), tokens(1), T, sample=True).shape == (2, T)
    assert passes == [1]


def test_top_k_logits_leave_the_k_highest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0]])
    expected = torch.tensor([[-torch.inf, 3.0, -torch.inf, 2.0]])
    assert torch.equal(Net2NetTransformer.top_k_logits(None, logits, 2), expected)  # type: ignore[arg-type]
