"""Laws of the format of diffusers: there and back is exact, and both sides compute the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from taming.checkpoint import CheckpointError, read_state_dict, save_weights, tensor_hash
from taming.config import ConfigError
from taming.first_stage import EMAVQ, GumbelVQ, VQModel
from taming.first_stage.diffusers_format import load_diffusers, save_diffusers, their_name


def ddconfig(**options: Any) -> dict[str, Any]:
    """The published f16 at a thirty-second of its width."""
    sizes = {"z_channels": 8, "ch": 4, "ch_mult": [1, 1, 2, 2, 4], "num_res_blocks": 2}
    return {**sizes, "attn_resolutions": [4], "resolution": 64, "norm_groups": 2, **options}


def small(**options: Any) -> VQModel:
    torch.manual_seed(0)
    model = VQModel(ddconfig(**options), n_embed=16, embed_dim=8).eval()
    model.quantize.embedding.weight.data.normal_()  # type: ignore[union-attr]
    return model


def hashed(model: torch.nn.Module) -> str:
    return tensor_hash(model.state_dict())


SHAPES: list[dict[str, Any]] = [
    {},
    {"attn_resolutions": []},
    {"attn_resolutions": [4, 8, 64]},
    {"ch_mult": [1, 3], "num_res_blocks": 1, "mid_attention": False},
    {"in_channels": 5, "out_ch": 5},
]


@pytest.mark.parametrize("options", SHAPES)
def test_there_and_back_is_exact(tmp_path: Path, options: dict[str, Any]) -> None:
    model = small(**options)
    back = load_diffusers(save_diffusers(model, tmp_path))
    assert hashed(back) == hashed(model)
    x = torch.rand(1, model.config.in_channels, 32, 32)
    assert torch.equal(back.indices(x), model.indices(x))
    assert torch.equal(back(x)[0], model(x)[0])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("encoder.down.4.block.1.nin_shortcut.bias",
         "encoder.down_blocks.4.resnets.1.conv_shortcut.bias"),
        ("encoder.down.4.attn.0.norm.bias", "encoder.down_blocks.4.attentions.0.group_norm.bias"),
        ("encoder.down.0.downsample.conv.bias", "encoder.down_blocks.0.downsamplers.0.conv.bias"),
        ("encoder.mid.attn_1.proj_out.bias", "encoder.mid_block.attentions.0.to_out.0.bias"),
        ("encoder.mid.block_2.norm1.bias", "encoder.mid_block.resnets.1.norm1.bias"),
        ("decoder.up.4.attn.2.q.weight", "decoder.up_blocks.0.attentions.2.to_q.weight"),
        ("decoder.up.0.block.2.conv1.weight", "decoder.up_blocks.4.resnets.2.conv1.weight"),
        ("decoder.up.3.upsample.conv.bias", "decoder.up_blocks.1.upsamplers.0.conv.bias"),
        ("decoder.norm_out.weight", "decoder.conv_norm_out.weight"),
        ("decoder.conv_out.bias", "decoder.conv_out.bias"),
        ("quantize.embedding.weight", "quantize.embedding.weight"),
        ("post_quant_conv.weight", "post_quant_conv.weight"),
    ],
)  # fmt: skip
def test_names_of_the_published_model(ours: str, theirs: str) -> None:
    assert their_name(ours, levels=5) == theirs


def test_older_names_of_attention_are_read(tmp_path: Path) -> None:
    model = small()
    file = save_diffusers(model, tmp_path) / "diffusion_pytorch_model.safetensors"
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = read_state_dict(file)
    for new, old in older.items():
        state = {name.replace(f".{new}.", f".{old}."): t for name, t in state.items()}
    assert any(".proj_attn." in name for name in state)
    save_weights(file, state)
    assert hashed(load_diffusers(tmp_path)) == hashed(model)


def test_only_what_paints_is_written(tmp_path: Path) -> None:
    loss = {
        "target": "taming.first_stage.losses.VQLPIPSWithDiscriminator",
        "params": {"disc_start": 0, "disc_num_layers": 1, "perceptual_weight": 0.0},
    }
    model = EMAVQ(ddconfig(), loss, 16, 8, colorize_nlabels=3).eval()
    back = load_diffusers(save_diffusers(model, tmp_path))
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(back(x)[0], model(x)[0])


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (lambda: small(stem=2), "a stem of 2"),
        (lambda: small(refine=4), "a refinement"),
        (lambda: small(resample="shuffle"), "resampling"),
        (lambda: small(double_z=True), "double_z"),
        (lambda: small(ch_mult=[2, 2]), "a first level of 2 x ch"),
        (lambda: GumbelVQ(ddconfig(), n_embed=16, embed_dim=8), "a GumbelQuantize"),
        (
            lambda: VQModel(
                ddconfig(),
                quantizer={
                    "target": "taming.first_stage.quantize.VectorQuantizer",
                    "params": {"normalize": True},
                },
            ),
            "unit sphere",
        ),
    ],
)
def test_what_has_no_counterpart_is_refused(tmp_path: Path, model: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=f"no word for {told}|no word for .*{told}"):
        save_diffusers(model(), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"_class_name": "AutoencoderKL"}, "describes a AutoencoderKL"),
        ({"act_fn": "gelu"}, "act_fn gelu"),
        ({"norm_type": "spatial"}, "norm_type spatial"),
        ({"up_block_types": ["UpDecoderBlock2D"] * 5}, "its blocks"),
        ({"block_out_channels": [4, 6, 8, 8, 16]}, "its widths"),
    ],
)
def test_other_networks_are_refused(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    path = save_diffusers(small(), tmp_path) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **change}), "utf-8")
    with pytest.raises(ConfigError, match=told):
        load_diffusers(tmp_path)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    file = save_diffusers(small(), tmp_path) / "diffusion_pytorch_model.safetensors"
    state = read_state_dict(file)
    del state["decoder.conv_out.bias"]
    save_weights(file, {**state, "decoder.extra": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"(?s)decoder\.conv_out\.bias.*decoder\.extra"):
        load_diffusers(tmp_path)


# --- the other side itself ------------------------------------------------------------------------


@pytest.mark.parametrize("options", SHAPES)
def test_diffusers_computes_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    diffusers = pytest.importorskip("diffusers")
    model = small(**options)
    theirs = diffusers.VQModel.from_pretrained(save_diffusers(model, tmp_path)).eval()
    x = torch.rand(2, model.config.in_channels, 64, 64) * 2 - 1
    with torch.no_grad():
        quantized = model.encode(x)
        z_q, _, (_, _, indices) = theirs.quantize(theirs.encode(x).latents)
        assert torch.equal(indices.flatten(), quantized.info.indices)
        torch.testing.assert_close(z_q, quantized.z_q, atol=1e-5, rtol=0)
        # In float64, where rounding cannot hide another formula.
        model, theirs, x, z_q = model.double(), theirs.double(), x.double(), z_q.double()
        latents, decoded = theirs.encode(x).latents, theirs.decode(z_q, True).sample
        torch.testing.assert_close(latents, model.features(x), atol=1e-10, rtol=0)
        torch.testing.assert_close(decoded, model.decode(z_q), atol=1e-10, rtol=0)


def test_what_diffusers_writes_is_read(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        block_out_channels=(8, 16),
        norm_num_groups=4,
        num_vq_embeddings=16,
    ).eval()
    theirs.save_pretrained(tmp_path)
    model = load_diffusers(tmp_path)
    x = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(model(x)[0], theirs(x).sample, atol=1e-5, rtol=0)
