"""Colours, the sequence, attention and drawing of Image-GPT, held to what they should equal."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import ImageGPTForCausalImageModeling

from benchmarks import image_gpt_model as model
from benchmarks.image_gpt_colours import find_colours, nearest, to_codes, to_pictures
from taming.sampling import Filters

SHAPE = model.Shape(width=16, layers=2, heads=2, colours=8)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def trained() -> Any:
    """A model whose predictions depend on what it has read."""
    made = model.build(SHAPE, seed=0).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(8.0)
    return made


@pytest.fixture(scope="module")
def colours() -> Tensor:
    return noise(SHAPE.colours, 3)


# --- colours -------------------------------------------------------------------------------------


def test_the_nearest_colour_is_that_of_the_least_distance() -> None:
    pixels, colours = noise(50, 3, seed=1), noise(7, 3, seed=2)
    assert torch.equal(nearest(pixels, colours), torch.cdist(pixels, colours).argmin(dim=1))


def test_colours_of_few_are_those_there_are() -> None:
    """Also where the first draw takes one of them twice, so that another begins without pixels."""
    true = torch.tensor([[-1.0, 0, 0], [0, 1.0, 0], [0.5, 0.5, 1.0]])
    pixels = true[torch.arange(60) % 3]
    for seed in range(5):
        found = find_colours(pixels, 3, torch.Generator().manual_seed(seed))
        assert torch.cdist(true, found).min(dim=1).values.max() < 1e-6


def test_fewer_pixels_than_colours_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 pixels cannot have 4 colours"):
        find_colours(noise(3, 3), 4, torch.Generator())


def test_a_picture_of_the_colours_comes_back(colours: Tensor) -> None:
    codes = torch.randint(SHAPE.colours, (2, 24), generator=torch.Generator().manual_seed(3))
    pictures = to_pictures(codes, colours, height=4)
    assert pictures[0].size == (6, 4)
    images = torch.stack(
        [torch.from_numpy(np.array(p)).permute(2, 0, 1) / 127.5 - 1.0 for p in pictures]
    )
    assert torch.equal(to_codes(images, colours), codes)


# --- the sequence --------------------------------------------------------------------------------


def test_fused_attention_equals_the_published_one(trained: Any) -> None:
    plain = ImageGPTForCausalImageModeling(trained.config).eval()
    plain.load_state_dict(trained.state_dict())
    codes = torch.randint(SHAPE.colours + 1, (2, 40), generator=torch.Generator().manual_seed(4))
    with torch.inference_mode():
        ours, theirs = trained(input_ids=codes), plain(input_ids=codes)
        assert torch.allclose(ours.logits, theirs.logits, atol=1e-4)
        # A piece of several pixels behind others
        more = codes[:, :5]
        ours = trained(input_ids=more, past_key_values=ours.past_key_values)
        theirs = plain(input_ids=more, past_key_values=theirs.past_key_values)
        assert torch.allclose(ours.logits, theirs.logits, atol=1e-4)


def test_attention_that_trains_in_bf16_is_the_published_one_to_rounding() -> None:
    """By the attention that trains ours, in place of PyTorch's."""
    codes = torch.randint(SHAPE.colours, (2, 40), generator=torch.Generator().manual_seed(6))
    fused = model.build(SHAPE, seed=0).train()
    plain = ImageGPTForCausalImageModeling(fused.config).train()
    plain.load_state_dict(fused.state_dict())
    gradients = []
    for each in (fused, plain):
        with torch.autocast("cpu", torch.bfloat16):
            model.nats(each, codes).mean().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in each.parameters() if p.grad is not None])
        )
    own, theirs = gradients
    assert theirs.norm() > 0
    assert (own - theirs).norm() < 0.03 * theirs.norm()


def test_the_loss_is_the_published_one_of_the_sequence_with_its_start(trained: Any) -> None:
    """`labels=` shifts, so that the start token in front makes each pixel count once."""
    codes = torch.randint(SHAPE.colours, (2, 30), generator=torch.Generator().manual_seed(5))
    sequence = model.started(trained, codes)
    assert int(sequence[0, 0]) == SHAPE.colours
    with torch.inference_mode():
        theirs = trained(input_ids=sequence, labels=sequence).loss
        found = model.nats(trained, codes)
    assert found.shape == codes.shape
    assert torch.allclose(found.mean(), theirs, atol=1e-5)


def test_a_whole_picture_has_a_place_for_every_pixel(trained: Any) -> None:
    codes = torch.zeros(1, model.PIXELS, dtype=torch.long)
    with torch.inference_mode():
        assert model.nats(trained, codes).shape == (1, model.PIXELS)


# --- drawing -------------------------------------------------------------------------------------


def picture(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (model.SIDE, model.SIDE, 3), dtype=np.uint8))


def test_the_cache_draws_what_recomputing_draws(
    trained: Any, colours: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "PIXELS", 64)
    monkeypatch.setattr(model, "SIDE", 8)
    small = [picture(seed).crop((0, 0, 8, 8)) for seed in range(2)]
    drawn = model.complete(trained, colours, small, [3, 4], Filters(temperature=0))
    images = torch.stack([torch.from_numpy(np.array(p)).permute(2, 0, 1) for p in small])
    codes = to_codes(images / 127.5 - 1.0, colours)[:, :32]
    with torch.inference_mode():
        while codes.shape[1] < 64:
            logits = trained(input_ids=model.started(trained, codes)).logits[:, -1]
            codes = torch.cat([codes, logits.argmax(dim=-1)[:, None]], dim=1)
    expected = to_pictures(codes, colours, 8)
    assert [p.tobytes() for p in drawn] == [p.tobytes() for p in expected]


def test_a_draw_depends_on_its_seed_and_upper_half_alone(
    trained: Any, colours: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "PIXELS", 64)
    monkeypatch.setattr(model, "SIDE", 8)
    one, other = (picture(seed).crop((0, 0, 8, 8)) for seed in range(2))
    changed = one.copy()
    changed.paste(other.crop((0, 4, 8, 8)), (0, 4))

    def draw(pictures: list[Image.Image], seeds: list[int]) -> list[bytes]:
        found = model.complete(trained, colours, pictures, seeds, Filters())
        return [each.tobytes() for each in found]

    together = draw([one, other], [3, 4])
    assert together[0] == draw([changed], [3])[0]
    assert together[1] == draw([other], [4])[0]
    assert together[0] != draw([one], [5])[0]


def test_each_picture_needs_a_seed(trained: Any, colours: Tensor) -> None:
    with pytest.raises(ValueError, match="1 pictures with 2 seeds"):
        model.complete(trained, colours, [picture(0)], [0, 1], Filters())
