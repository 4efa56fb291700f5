"""Layers, quantizers and losses by their published names, arguments and results."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from taming.config import ConfigError, plain
from taming.first_stage import EMAVQ, GumbelVQ, autoencoder, discriminator, losses, quantize
from taming.first_stage import quantize_published as published
from taming.first_stage.perceptual import LPIPS
from taming.first_stage.quantize_base import Quantizer

DDCONFIG = {
    "double_z": False,
    "z_channels": 4,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": (1, 2),
    "num_res_blocks": 1,
    "attn_resolutions": (8,),
    "dropout": 0.0,
}
V, D = 16, 4


def features(b: int = 2, h: int = 3, w: int = 5) -> Tensor:
    return torch.randn(b, D, h, w, generator=torch.Generator().manual_seed(1))


# --- layers --------------------------------------------------------------------------------------


def test_networks_take_the_keys_of_a_ddconfig() -> None:
    encoder, decoder = autoencoder.Encoder(**DDCONFIG), autoencoder.Decoder(**DDCONFIG)
    z = encoder(torch.zeros(1, 3, 16, 16))
    assert z.shape == (1, 4, 8, 8)
    assert decoder(z).shape == (1, 3, 16, 16)
    assert 2 ** (decoder.num_resolutions - 1) == 2
    assert decoder.z_shape == (1, 4, 8, 8)
    assert (encoder.ch, encoder.num_res_blocks, encoder.resolution) == (32, 1, 16)


def test_keys_of_omegaconf_are_read_like_plain_ones() -> None:
    from omegaconf import OmegaConf

    config = OmegaConf.create({**DDCONFIG, "ch_mult": [1, 2]})
    encoder = autoencoder.Encoder(**config)  # pyright: ignore[reportCallIssue]
    assert encoder.num_resolutions == 2
    assert isinstance(plain(config), dict)


def test_encoder_without_double_z_doubles_as_published() -> None:
    ddconfig = {key: value for key, value in DDCONFIG.items() if key != "double_z"}
    assert autoencoder.Encoder(**ddconfig).conv_out.out_channels == 8


def test_keys_that_nothing_reads_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        autoencoder.Encoder(**DDCONFIG, attn_type="vanilla")
    assert "nothing reads attn_type" in caplog.text


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="missing 'z_channels'"):
        autoencoder.Encoder(ch=32)


def test_decoder_can_give_the_features_before_its_end() -> None:
    decoder = autoencoder.Decoder(**DDCONFIG, give_pre_end=True)
    h = decoder(torch.zeros(1, 4, 8, 8))
    assert h.shape == (1, 32, 16, 16)
    decoder.give_pre_end = False
    ended = decoder.conv_out(autoencoder.nonlinearity(decoder.norm_out(h)))
    assert torch.equal(decoder(torch.zeros(1, 4, 8, 8)), ended)


def test_block_shifts_its_channels_by_the_embedding_of_a_step() -> None:
    torch.manual_seed(0)
    block = autoencoder.ResnetBlock(in_channels=32, out_channels=64, dropout=0.0, temb_channels=8)
    names = {name.split(".")[0] for name, _ in block.named_parameters()}
    assert names == {"norm1", "conv1", "temb_proj", "norm2", "conv2", "nin_shortcut"}
    x, temb = torch.randn(2, 32, 4, 4), torch.randn(2, 8)
    shift = block.temb_proj(nn.functional.silu(temb))
    h = block.conv1(nn.functional.silu(block.norm1(x))) + shift[:, :, None, None]
    h = block.conv2(nn.functional.silu(block.norm2(h))) + block.nin_shortcut(x)
    torch.testing.assert_close(block(x, temb), h)
    assert not torch.allclose(block(x, None), h)


def test_blocks_default_to_the_published_embedding_and_width() -> None:
    block = autoencoder.ResnetBlock(in_channels=32, dropout=0.0)
    assert block.temb_proj.in_features == 512
    assert block(torch.zeros(1, 32, 2, 2), None).shape == (1, 32, 2, 2)


def test_the_shortcut_may_be_a_whole_convolution() -> None:
    block = autoencoder.ResnetBlock(32, 64, conv_shortcut=True, temb_channels=0)
    assert block.conv_shortcut.kernel_size == (3, 3)
    assert block(torch.zeros(1, 32, 4, 4)).shape == (1, 64, 4, 4)


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (lambda: autoencoder.AttnBlock(in_channels=32), 4),
        (lambda: autoencoder.Upsample(in_channels=32, with_conv=True), 8),
        (lambda: autoencoder.Downsample(in_channels=32, with_conv=False), 2),
        (lambda: autoencoder.Normalize(in_channels=32), 4),
    ],
)
def test_layers_take_published_keywords(layer: Callable[[], nn.Module], size: int) -> None:
    assert layer()(torch.zeros(1, 32, 4, 4)).shape == (1, 32, size, size)


# --- quantizers ----------------------------------------------------------------------------------


def test_first_form_returns_one_hot_codes_and_a_column_of_indices() -> None:
    torch.manual_seed(0)
    quantizer = published.VectorQuantizer(V, D, 0.25)
    z_q, _loss, (_perplexity, one_hot, indices) = quantizer(features())
    assert indices.shape == (30, 1)
    assert one_hot.shape == (30, V)
    rows = (one_hot @ quantizer.embedding.weight).reshape(2, 3, 5, D).permute(0, 3, 1, 2)
    torch.testing.assert_close(rows, z_q)


def test_first_form_weighs_its_codes_with_beta() -> None:
    gradients = []
    for quantizer in (published.VectorQuantizer(V, D, 0.3), quantize.VectorQuantizer2(V, D, 0.3)):
        quantizer.embedding.weight.data.copy_(torch.arange(V * D).reshape(V, D) / V)
        z = features().requires_grad_()
        quantizer(z).loss.backward()
        gradients += [z.grad, quantizer.embedding.weight.grad]
    torch.testing.assert_close(gradients[:2], gradients[2:])


def test_ema_by_position_and_key() -> None:
    quantizer = published.EMAVectorQuantizer(V, D, 0.25, 0.9, 1e-4)
    assert (quantizer.beta, quantizer.decay, quantizer.eps) == (0.25, 0.9, 1e-4)
    assert (quantizer.num_tokens, quantizer.codebook_dim, quantizer.re_embed) == (V, D, V)
    assert set(quantizer.state_dict()) == {
        "embedding.weight", "embedding.cluster_size", "embedding.embed_avg"
    }  # fmt: skip
    assert quantizer(features()).info.indices.shape == (30,)
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(quantizer.embedding(ids), quantizer.embedding.weight[ids])


def test_ema_starts_as_published() -> None:
    assert not published.EMAVectorQuantizer(V, D, 0.25).embedding.cluster_size.any()


def test_gumbel_by_position_and_key() -> None:
    quantizer = published.GumbelQuantize(6, D, V, True, 1e-3, 0.7)
    assert (quantizer.kl_weight, quantizer.temperature, quantizer.n_embed) == (1e-3, 0.7, V)
    assert {name: tuple(t.shape) for name, t in quantizer.state_dict().items()} == {
        "proj.weight": (V, 6, 1, 1), "proj.bias": (V,), "embed.weight": (V, D)
    }  # fmt: skip
    z = torch.randn(2, 6, 3, 5)
    z_q, loss, (_, _, indices), logits = quantizer(z, temp=0.5, return_logits=True)
    assert z_q.shape == (2, D, 3, 5)
    assert loss.shape == ()
    assert indices.shape == (2, 3, 5)
    assert torch.equal(logits, quantizer.logits(z))


def test_gumbel_without_the_common_interface_returns_three() -> None:
    quantizer = published.GumbelQuantize(D, D, V, use_vqinterface=False).eval()
    _z_q, _loss, indices = quantizer(features())
    assert torch.equal(indices, quantizer.nearest(features()))


def test_gumbel_loss_measures_from_the_whole_codebook(tmp_path: Path) -> None:
    np.save(tmp_path / "used.npy", np.arange(4))
    quantizer = published.GumbelQuantize(
        D, D, V, kl_weight=1.0, remap=str(tmp_path / "used.npy"), unknown_index=0
    )
    nn.init.zeros_(quantizer.proj.weight)
    nn.init.zeros_(quantizer.proj.bias)  # pyright: ignore
    # A quarter of the codes, each as likely: log 4 from the uniform distribution over all
    assert float(quantizer(features()).loss.detach()) == pytest.approx(np.log(4), abs=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"temp": 0.5}, {"rescale_logits": True}, {"return_logits": True}]
)
def test_a_nearest_code_has_no_temperature(wrong: dict[str, Any]) -> None:
    quantizer = quantize.VectorQuantizer2(V, D, 0.25)
    quantizer(features(), temp=1.0, rescale_logits=False, return_logits=False)
    with pytest.raises(ValueError, match="neither temperature nor logits"):
        quantizer(features(), **wrong)


@pytest.mark.parametrize(
    "quantizer",
    [quantize.VectorQuantizer2(V, D, beta=0.25), published.GumbelQuantize(D, D, V)],
    ids=["vq", "gumbel"],
)
def test_entries_of_a_grid_keep_its_shape(quantizer: Quantizer) -> None:
    grid = quantizer.nearest(features())
    rows = quantizer.get_codebook_entry(grid, shape=None)
    assert rows.shape == (2, 3, 5, D)
    torch.testing.assert_close(rows.permute(0, 3, 1, 2), quantizer.embed_code(grid))


@pytest.mark.parametrize(
    ("kind", "quantizer"),
    [(GumbelVQ, published.GumbelQuantize), (EMAVQ, published.EMAVectorQuantizer)],
)
def test_models_hold_the_published_classes(kind: type[Any], quantizer: type[Any]) -> None:
    model = kind(DDCONFIG, None, V, D)
    assert type(model.quantize) is quantizer


# --- losses --------------------------------------------------------------------------------------


def test_a_star_import_of_the_losses_yields_what_projects_take_from_it() -> None:
    names = {"LPIPS", "NLayerDiscriminator", "weights_init", "hinge_d_loss", "vanilla_d_loss"}
    names |= {"adopt_weight", "DummyLoss", "torch", "nn", "F"}
    assert names <= {name for name in vars(losses) if name[0] != "_"}


def test_without_gradients_nothing_is_adversarial() -> None:
    """There is no adaptive weight then, and the published value has no such term."""
    torch.manual_seed(0)
    loss = losses.VQLPIPSWithDiscriminator(0, disc_num_layers=1, disc_ndf=4, perceptual_weight=0.0)
    loss.eval()
    x, r = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    with torch.no_grad():
        value, logs = loss(torch.tensor(0.5), x, r, 0, 7, None, None, "val")
    assert float(value) == 1.5
    assert float(logs["val/d_weight"]) == 0.0
    assert float(logs["val/g_loss"]) == -float(loss.discriminator(r).mean())


def test_lpips_has_its_published_names_with_dropout_and_without() -> None:
    with torch.device("meta"):
        one, other = LPIPS(use_dropout=True), LPIPS(use_dropout=False)
    assert list(one.state_dict()) == list(other.state_dict())
    assert "lin4.model.1.weight" in one.state_dict()


# --- discriminator -------------------------------------------------------------------------------


def test_actnorm_returns_what_it_took_and_how_much_it_stretched() -> None:
    torch.manual_seed(0)
    norm = discriminator.ActNorm(3, logdet=True)
    x = 2.0 * torch.randn(4, 3, 5, 6) + 1.0
    y, logdet = norm(x)
    torch.testing.assert_close(norm(y, reverse=True), x)
    torch.testing.assert_close(logdet, torch.full((4,), 30 * float(norm.scale.abs().log().sum())))


def test_actnorm_takes_vectors() -> None:
    norm = discriminator.ActNorm(3)
    assert norm(torch.randn(8, 3)).shape == (8, 3)
    assert norm.reverse(torch.randn(8, 3)).shape == (8, 3)


def test_actnorm_starts_backwards_only_where_that_is_allowed() -> None:
    with pytest.raises(ValueError, match="allow_reverse_init=True"):
        discriminator.ActNorm(3)(torch.randn(8, 3), reverse=True)
    norm = discriminator.ActNorm(3, allow_reverse_init=True)
    norm(torch.randn(8, 3), reverse=True)
    assert int(norm.initialized) == 1


@pytest.mark.parametrize(
    "layer", [nn.Conv1d(8, 64, 3), nn.ConvTranspose2d(8, 64, 4)], ids=lambda v: type(v).__name__
)
def test_every_convolution_starts_small(layer: nn.Module) -> None:
    nn.init.ones_(layer.weight)  # pyright: ignore
    discriminator.weights_init(layer)
    assert float(layer.weight.detach().std()) == pytest.approx(0.02, rel=0.2)  # pyright: ignore
