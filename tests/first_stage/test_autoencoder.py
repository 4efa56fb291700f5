"""Laws of encoder and decoder."""

import pytest
import torch
import torch.nn.functional as F

from taming.config import ConfigError, from_mapping
from taming.first_stage.autoencoder import (
    AttnBlock,
    AutoencoderConfig,
    Decoder,
    Downsample,
    Encoder,
)

SMALL = {
    "z_channels": 4,
    "ch": 8,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "resolution": 16,
    "norm_groups": 4,
}
FORMS = {
    "published": {"attn_resolutions": [8]},
    "without_convolutions": {"resamp_with_conv": False},
    "light": {"stem": 2, "resample": "shuffle", "mid_attention": False},
    "lightest": {"stem": 4},
    "refined": {"stem": 4, "refine": 4},
}


def config(**options: object) -> AutoencoderConfig:
    return from_mapping(AutoencoderConfig, {**SMALL, **options}, "ddconfig")


@pytest.mark.parametrize("form", FORMS)
def test_decoder_returns_the_size_that_the_encoder_took(form: str) -> None:
    options = config(**FORMS[form])
    f = options.downsample_factor
    x = torch.randn(2, 3, 2 * f, 3 * f)
    z = Encoder(options)(x)
    assert z.shape == (2, 4, 2, 3)
    assert Decoder(options)(z).shape == x.shape


@pytest.mark.parametrize("form", FORMS)
def test_every_parameter_receives_a_gradient(form: str) -> None:
    options = config(**FORMS[form])
    encoder, decoder = Encoder(options), Decoder(options)
    decoder(encoder(torch.randn(1, 3, 16, 16))).square().mean().backward()
    for module in (encoder, decoder):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name


def test_attention_stands_where_the_nominal_resolution_says() -> None:
    encoder = Encoder(config(attn_resolutions=[8]))
    names = {name.rsplit(".", 2)[0] for name, _ in encoder.named_parameters() if ".attn." in name}
    assert {name[: len("down.1.attn.0")] for name in names} == {"down.1.attn.0"}


def test_attention_is_that_of_its_formula() -> None:
    torch.manual_seed(0)
    block = AttnBlock(8, norm_groups=4)
    x = torch.randn(2, 8, 3, 5)
    normed = block.norm(x)
    q, k, v = (layer(normed).flatten(2) for layer in (block.q, block.k, block.v))  # (B, C, hw)
    shares = torch.softmax(torch.einsum("bci,bcj->bij", q, k) * 8**-0.5, dim=2)
    attended = torch.einsum("bcj,bij->bci", v, shares).reshape(x.shape)
    torch.testing.assert_close(block(x), x + block.proj_out(attended), atol=1e-5, rtol=1e-5)


def test_downsampling_pads_right_and_below_only() -> None:
    down = Downsample(1)
    assert down.conv is not None
    torch.nn.init.zeros_(down.conv.bias)  # pyright: ignore
    with torch.no_grad():
        down.conv.weight.zero_()
        down.conv.weight[0, 0, 0, 0] = 1.0  # takes the upper left pixel of its window
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert torch.equal(down(x), x[:, :, ::2, ::2])


def test_depth_to_space_starts_without_checkerboard() -> None:
    torch.manual_seed(0)
    decoder = Decoder(config(stem=2))
    image = decoder(torch.randn(1, 4, 2, 2))
    smallest = F.interpolate(image[:, :, ::2, ::2], scale_factor=2.0, mode="nearest")
    torch.testing.assert_close(image, smallest)


def test_channels_last_changes_nothing() -> None:
    torch.manual_seed(0)
    encoder = Encoder(config(attn_resolutions=[8]))
    x = torch.randn(2, 3, 16, 24)
    expected = encoder(x)
    found = encoder.to(memory_format=torch.channels_last)(
        x.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"stem": 3}, "stem is 3"),
        ({"norm_groups": 3}, "norm_groups = 3"),
        ({"num_resblocks": 1}, "did you mean 'num_res_blocks'"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(**wrong)


@pytest.mark.parametrize("form", FORMS)
def test_recomputed_activations_give_the_same_gradients(form: str) -> None:
    """Dropout included: the second computation drops what the first did."""
    options = config(**FORMS[form], dropout=0.5)
    torch.manual_seed(0)
    encoder, decoder = Encoder(options), Decoder(options)
    x = torch.randn(1, 3, 16, 16)
    found = []
    for recomputes in (False, True):
        for network in (encoder, decoder):
            network.zero_grad()
            network.recompute_activations(recomputes)
        torch.manual_seed(1)
        decoder(encoder(x)).square().mean().backward()
        found.append([p.grad for network in (encoder, decoder) for p in network.parameters()])
    torch.testing.assert_close(found[1], found[0])


def test_recomputing_keeps_less_for_the_backward_pass() -> None:
    decoder = Decoder(config(num_res_blocks=2))
    kept = []
    for recomputes in (False, True):
        decoder.recompute_activations(recomputes)
        sizes: list[int] = []

        def keep(tensor: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
            if not isinstance(tensor, torch.nn.Parameter):
                sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            decoder(torch.randn(1, 4, 8, 8))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


def test_a_refinement_begins_as_nothing_and_sees_over_seams() -> None:
    """Behind depth-to-space alone, the other pixels of a square say nothing of one."""
    torch.manual_seed(0)
    plain, decoder = Decoder(config(stem=4)), Decoder(config(stem=4, refine=4))
    decoder.load_state_dict(plain.state_dict(), strict=False)
    h = torch.randn(1, 8, 2, 4)  # features of 8x16 pixels
    assert torch.equal(decoder.paint(h), plain.paint(h))

    assert decoder.refine is not None
    torch.nn.init.normal_(decoder.refine.conv_out.weight)
    for parameter in decoder.refine.conv_in.parameters():
        parameter.data.zero_()  # only what it sees of the picture is left
    before = decoder.paint(h)
    assert not torch.equal(before, plain.paint(h))
    h[..., 0] = 0.0  # which the first two squares of a row are made of, by a kernel of three
    changed = (decoder.paint(h) != before).any(dim=(0, 1, 2))  # (16,) columns
    assert changed.tolist() == [True] * 10 + [False] * 6
