"""The first stage as others hold it: codes, sizes, keys, checkpoints."""

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.published_sizes import F16
from taming.checkpoint import CheckpointError, save_weights
from taming.first_stage import EMAVQ, GumbelVQ, VQModel

SMALL = {
    "z_channels": 4,
    "ch": 8,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "resolution": 16,
    "norm_groups": 4,
}
PUBLISHED = F16["ddconfig"]
LOW_DIMENSIONAL = {
    "target": "taming.first_stage.quantize.VectorQuantizer",
    "params": {"normalize": True},
}


def small(kind: type[VQModel] = VQModel, **options: object) -> VQModel:
    torch.manual_seed(0)
    arguments = {"ddconfig": SMALL, "n_embed": 16, "embed_dim": 4, **options}
    return kind(**arguments).eval()  # pyright: ignore


def image(h: int = 8, w: int = 12) -> torch.Tensor:
    return torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("kind", [VQModel, EMAVQ, GumbelVQ])
def test_codes_of_a_picture_decode_to_its_reconstruction(kind: type[VQModel]) -> None:
    model = small(kind)
    x = image()
    codes = model.indices(x)
    assert codes.shape == (2, 4, 6)
    assert codes.dtype == torch.int64
    torch.testing.assert_close(model.lookup(codes), model.encode(x).z_q, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(model.decode_code(codes), model(x)[0], atol=1e-5, rtol=1e-4)


def test_a_config_chooses_the_quantizer() -> None:
    model = small(quantizer=LOW_DIMENSIONAL, n_embed=32)
    assert model.codebook_size == 32
    assert model.downsample_factor == 2
    torch.testing.assert_close(model.encode(image()).z_q.norm(dim=1), torch.ones(2, 4, 6))


def test_training_reaches_encoder_decoder_and_codes() -> None:
    model = small(quantizer=LOW_DIMENSIONAL).train()
    reconstruction, loss = model(image())
    (reconstruction.square().mean() + loss).backward()
    assert all(p.grad is not None for p in model.parameters())
    last = model.get_last_layer()
    assert last is model.decoder.conv_out.weight


@pytest.mark.parametrize("size", [(7, 8), (8, 9), (0, 8)])
def test_sizes_that_do_not_divide_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"factor 2; crop or resize"):
        small().indices(torch.zeros(1, 3, *size))


def test_codes_of_a_larger_codebook_are_refused() -> None:
    with pytest.raises(ValueError, match="codebook has 16 codes"):
        small().lookup(torch.full((1, 2, 2), 16))


def test_codes_are_the_same_under_autocast_of_the_quantizer() -> None:
    model = small()
    z = model.features(image())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.quantize.nearest(z), model.quantize.nearest(z.float()))
        assert model.encode(image()).z_q.dtype == torch.float32


def test_weights_in_bfloat16_still_decode() -> None:
    model = small().to(torch.bfloat16)
    codes = model.indices(image().to(torch.bfloat16))
    assert model.decode_code(codes).dtype == torch.bfloat16


# --- published form ------------------------------------------------------------------------------


def published() -> VQModel:
    with torch.device("meta"):
        return VQModel(ddconfig=PUBLISHED)


def test_published_form_has_the_published_tensors() -> None:
    """398 tensors with the losses, of which these are the first stage's own."""
    shapes = {name: tuple(tensor.shape) for name, tensor in published().state_dict().items()}
    assert len(shapes) == 343
    for name, shape in {
        "encoder.conv_in.weight": (128, 3, 3, 3),
        "encoder.down.0.block.1.norm2.bias": (128,),
        "encoder.down.2.block.0.nin_shortcut.weight": (256, 128, 1, 1),
        "encoder.down.3.downsample.conv.weight": (256, 256, 3, 3),
        "encoder.down.4.attn.1.proj_out.weight": (512, 512, 1, 1),
        "encoder.mid.attn_1.norm.weight": (512,),
        "encoder.conv_out.weight": (256, 512, 3, 3),
        "decoder.mid.block_2.conv2.weight": (512, 512, 3, 3),
        "decoder.up.4.attn.2.q.bias": (512,),
        "decoder.up.4.upsample.conv.weight": (512, 512, 3, 3),
        "decoder.up.0.block.2.conv1.weight": (128, 128, 3, 3),
        "decoder.norm_out.weight": (128,),
        "decoder.conv_out.bias": (3,),
        "quantize.embedding.weight": (1024, 256),
        "quant_conv.weight": (256, 256, 1, 1),
        "post_quant_conv.bias": (256,),
    }.items():
        assert shapes[name] == shape, name
    assert "decoder.up.0.upsample.conv.weight" not in shapes
    assert "encoder.down.4.downsample.conv.weight" not in shapes


def test_published_form_with_its_losses_has_the_published_size() -> None:
    loss = {
        "target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
        "params": {"disc_start": 0, "disc_weight": 0.75, "codebook_weight": 1.0},
    }
    with torch.device("meta"):
        model = VQModel(PUBLISHED, loss, n_embed=1024, embed_dim=256)
    names = set(model.state_dict())
    assert len(names) == 398
    assert sum(p.numel() for p in model.parameters()) == 89_623_492
    assert {
        "loss.perceptual_loss.scaling_layer.shift",
        "loss.perceptual_loss.net.slice5.28.weight",
        "loss.perceptual_loss.lin4.model.1.weight",
        "loss.discriminator.main.0.bias",
        "loss.discriminator.main.9.running_var",
        "loss.discriminator.main.11.bias",
    } <= names


def test_published_form_has_the_published_factor() -> None:
    model = published()
    assert model.downsample_factor == 16 == 2 ** (model.decoder.num_resolutions - 1)


def test_gumbel_has_the_published_names() -> None:
    names = {name for name in small(GumbelVQ).state_dict() if name.startswith("quantize.")}
    assert names == {"quantize.proj.weight", "quantize.proj.bias", "quantize.embed.weight"}


def test_gumbel_follows_its_schedule() -> None:
    model = small(GumbelVQ)
    assert isinstance(model, GumbelVQ)
    model.temperature_scheduler = lambda step: 1.0 / (1 + step)
    model.set_step(3)
    assert model.quantize.temperature == 0.25


def test_losses_can_be_deleted() -> None:
    model = small(lossconfig={"target": "torch.nn.Linear", "params": _linear()})
    assert isinstance(model.loss, nn.Linear)
    del model.loss
    assert not any(name.startswith("loss.") for name in model.state_dict())


def _linear() -> dict[str, int]:
    return {"in_features": 2, "out_features": 2}


# --- checkpoints ---------------------------------------------------------------------------------


def test_weights_survive_a_file(tmp_path: Path) -> None:
    model, path = small(), tmp_path / "weights.safetensors"
    save_weights(path, model.state_dict())
    torch.manual_seed(9)
    other = VQModel(ddconfig=SMALL, n_embed=16, embed_dim=4, ckpt_path=str(path)).eval()
    assert torch.equal(other(image())[0], model(image())[0])


def test_another_codebook_size_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, small().state_dict())
    with pytest.raises(CheckpointError, match=r"quantize\.embedding\.weight 16x4 here 32x4"):
        small(n_embed=32, ckpt_path=str(path))


def test_ignored_keys_start_afresh(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, small().state_dict())
    model = small(n_embed=32, ckpt_path=str(path), ignore_keys=["quantize."])
    assert model.codebook_size == 32


def test_losses_in_the_file_are_not_needed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(path, {**small().state_dict(), "loss.discriminator.main.0.bias": torch.zeros(2)})
    report = small().init_from_ckpt(str(path))
    assert report.left_over == ["loss.discriminator.main.0.bias"]
