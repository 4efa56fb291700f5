"""What dependent projects do with a first stage, call for call, through the old import paths.

- Latent diffusion: a tokenizer of its own from our layers and quantizer, whose diffusion sees what
  is not yet rounded; trained with a loss of its own from the parts of ours.
- The VQGAN-CLIP loop: a config and a checkpoint, codes moved by gradients of the decoded picture.
- A transformer over codes of its own: flat indices out, one-hot rows in.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from omegaconf import OmegaConf
from torch import Tensor, nn

from taming.models import vqgan
from taming.modules.diffusionmodules.model import Decoder, Encoder
from taming.modules.losses import vqperceptual
from taming.modules.vqvae.quantize import VectorQuantizer2 as VectorQuantizer

DDCONFIG = {
    "double_z": False,
    "z_channels": 8,
    "resolution": 16,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 2],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
V, D = 12, 8


def picture(b: int = 2, h: int = 8, w: int = 12) -> Tensor:
    return torch.rand(b, 3, h, w, generator=torch.Generator().manual_seed(0)) * 2 - 1


# --- latent diffusion ----------------------------------------------------------------------------


class LatentModel(nn.Module):
    """Encodes to what is not yet rounded; decoding rounds."""

    def __init__(self, embed_dim: int, n_embed: int, ddconfig: dict[str, Any]) -> None:
        super().__init__()
        self.encoder = Encoder(**ddconfig)
        self.decoder = Decoder(**ddconfig)
        self.quantize = VectorQuantizer(
            n_embed, embed_dim, beta=0.25, remap=None, sane_index_shape=False
        )
        self.quant_conv = nn.Conv2d(ddconfig["z_channels"], embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, ddconfig["z_channels"], 1)

    def encode(self, x: Tensor) -> Tensor:
        return self.quant_conv(self.encoder(x))

    def decode(self, h: Tensor, force_not_quantize: bool = False) -> Tensor:
        quant = h if force_not_quantize else self.quantize(h)[0]
        return self.decoder(self.post_quant_conv(quant))

    def decode_code(self, code_b: Tensor) -> Tensor:
        return self.decode(self.quantize.embed_code(code_b), force_not_quantize=True)


@pytest.fixture
def latent() -> LatentModel:
    torch.manual_seed(0)
    model = LatentModel(D, V, DDCONFIG)
    model.quantize.embedding.weight.data.normal_()  # so that a picture has several codes
    return model


def test_latents_of_a_foreign_model_are_those_of_ours(latent: LatentModel) -> None:
    ours = vqgan.VQModel(DDCONFIG, None, V, D)
    ours.load_state_dict(latent.state_dict())
    torch.testing.assert_close(latent.encode(picture()), ours.features(picture()))
    torch.testing.assert_close(latent.decode(latent.encode(picture())), ours(picture())[0])


def test_scores_over_codes_decode_as_their_best_code(latent: LatentModel) -> None:
    h = latent.encode(picture())
    _z_q, _loss, (_, _, flat) = latent.quantize(h)
    grid = flat.reshape(2, 4, 6)
    scores = F.one_hot(grid, V).permute(0, 3, 1, 2).float().log_softmax(dim=1)
    best = torch.argmax(scores.exp(), dim=1).long()
    z = latent.quantize.get_codebook_entry(best, shape=None)
    z = rearrange(z, "b h w c -> b c h w").contiguous()
    expected = latent.decode(h)
    torch.testing.assert_close(latent.decode(z, force_not_quantize=True), expected)
    torch.testing.assert_close(latent.decode_code(best), expected)


class LatentLoss(nn.Module):
    """A loss of the project's own, from what `import *` of ours brought."""

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = vqperceptual.NLayerDiscriminator(
            input_nc=3, n_layers=1, use_actnorm=False, ndf=4
        ).apply(vqperceptual.weights_init)

    def generator(self, x: Tensor, r: Tensor, last_layer: Tensor) -> Tensor:
        nll, adversarial = (x - r).abs().mean(), -self.discriminator(r).mean()
        norms = [
            torch.autograd.grad(term, last_layer, retain_graph=True)[0].norm()
            for term in (nll, adversarial)
        ]
        weight = (norms[0] / (norms[1] + 1e-4)).clamp(0.0, 1e4).detach()
        factor = vqperceptual.adopt_weight(1.0, 7, threshold=5)
        return nll + weight * factor * adversarial

    def critic(self, x: Tensor, r: Tensor) -> Tensor:
        real, fake = self.discriminator(x.detach()), self.discriminator(r.detach())
        return vqperceptual.hinge_d_loss(real, fake)


def test_a_foreign_training_lowers_the_error(latent: LatentModel) -> None:
    torch.manual_seed(0)
    loss, x = LatentLoss(), picture(h=8, w=8)
    generator = torch.optim.Adam(latent.parameters(), 3e-3)
    critic = torch.optim.Adam(loss.discriminator.parameters(), 1e-3)
    errors = []
    for _ in range(8):
        quant, qloss, _info = latent.quantize(latent.encode(x))
        r = latent.decode(quant, force_not_quantize=True)
        value = loss.generator(x, r, latent.decoder.conv_out.weight) + qloss.mean()
        generator.zero_grad()
        value.backward()
        generator.step()
        critic.zero_grad()
        loss.critic(x, r).backward()
        critic.step()
        errors.append(float((x - r).abs().mean().detach()))
    assert errors[-1] < 0.95 * errors[0]


# --- VQGAN-CLIP ----------------------------------------------------------------------------------


def write_model(folder: Path, target: str) -> tuple[Path, Path]:
    """A config and a checkpoint in the published form, weights of the losses included."""
    torch.manual_seed(0)
    loss = {"disc_start": 1, "perceptual_weight": 0.0, "disc_ndf": 4, "disc_num_layers": 1}
    params: dict[str, Any] = {
        "embed_dim": D,
        "n_embed": V,
        "ddconfig": DDCONFIG,
        "lossconfig": {
            "target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
            "params": loss,
        },
    }
    if target.endswith("GumbelVQ"):
        params["kl_weight"] = 1e-8
        params["temperature_scheduler_config"] = {
            "target": "taming.lr_scheduler.LambdaWarmUpCosineScheduler",
            "params": {
                "warm_up_steps": 0, "max_decay_steps": 10, "lr_start": 0.9, "lr_max": 0.9,
                "lr_min": 0.1, "verbosity_interval": 0,
            },
        }  # fmt: skip
    model = getattr(vqgan, target.rpartition(".")[2])(**params)
    for table in ("embedding", "embed"):
        if hasattr(model.quantize, table):
            getattr(model.quantize, table).weight.data.normal_()
    config, checkpoint = folder / "model.yaml", folder / "model.ckpt"
    OmegaConf.save(OmegaConf.create({"model": {"target": target, "params": params}}), config)
    torch.save({"state_dict": model.state_dict(), "global_step": 3}, checkpoint)
    return config, checkpoint


def load_vqgan_model(config_path: Path, checkpoint_path: Path) -> tuple[Any, bool]:
    config = OmegaConf.load(config_path)
    is_gumbel = config.model.target == "taming.models.vqgan.GumbelVQ"
    kind = vqgan.GumbelVQ if is_gumbel else vqgan.VQModel
    model = kind(**config.model.params)
    model.eval().requires_grad_(False)
    model.init_from_ckpt(checkpoint_path)
    del model.loss
    return model, is_gumbel


class ReplaceGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_forward: Tensor, x_backward: Tensor) -> Tensor:
        ctx.shape = x_backward.shape
        return x_forward

    @staticmethod
    def backward(ctx: Any, *grad_in: Tensor) -> tuple[None, Tensor]:
        return None, grad_in[0].sum_to_size(ctx.shape)


def vector_quantize(x: Tensor, codebook: Tensor) -> Tensor:
    d = x.pow(2).sum(dim=-1, keepdim=True) + codebook.pow(2).sum(dim=1) - 2 * x @ codebook.T
    indices = d.argmin(-1)
    x_q = F.one_hot(indices, codebook.shape[0]).to(d.dtype) @ codebook
    return ReplaceGrad.apply(x_q, x)


@pytest.mark.parametrize("kind", ["VQModel", "GumbelVQ"])
@pytest.mark.parametrize("start", ["noise", "picture"])
def test_codes_follow_a_gradient_of_the_picture(tmp_path: Path, kind: str, start: str) -> None:
    model, is_gumbel = load_vqgan_model(*write_model(tmp_path, f"taming.models.vqgan.{kind}"))
    f = 2 ** (model.decoder.num_resolutions - 1)
    toks_x, toks_y = 8 // f, 12 // f
    if is_gumbel:
        e_dim, n_toks, codebook = D, model.quantize.n_embed, model.quantize.embed.weight
    else:
        e_dim, n_toks = model.quantize.e_dim, model.quantize.n_e
        codebook = model.quantize.embedding.weight
    z_min = codebook.min(dim=0).values[None, :, None, None]
    z_max = codebook.max(dim=0).values[None, :, None, None]
    torch.manual_seed(1)
    if start == "picture":
        z, *_ = model.encode(picture(b=1, h=toks_y * f, w=toks_x * f))
    else:
        one_hot = F.one_hot(torch.randint(n_toks, [toks_y * toks_x]), n_toks).float()
        z = (one_hot @ codebook).view([-1, toks_y, toks_x, e_dim]).permute(0, 3, 1, 2)
    assert z.shape == (1, e_dim, toks_y, toks_x)
    z = z.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=0.1)

    def synth() -> Tensor:
        z_q = vector_quantize(z.movedim(1, 3), codebook).movedim(3, 1)
        return model.decode(z_q).add(1).div(2)

    scores = []
    for _ in range(10):
        upper, lower = synth().tensor_split(2, dim=2)
        score = upper.mean() - lower.mean()  # a judge that wants light from above
        optimizer.zero_grad()
        (-score).backward()
        optimizer.step()
        with torch.no_grad():
            z.copy_(z.maximum(z_min).minimum(z_max))
        scores.append(float(score.detach()))
    assert scores[-1] > scores[0] + 0.01
    assert all(parameter.grad is None for parameter in model.parameters())


# --- a transformer over codes --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["VQModel", "GumbelVQ"])
def test_indices_return_as_rows_of_the_table(tmp_path: Path, kind: str) -> None:
    model, is_gumbel = load_vqgan_model(*write_model(tmp_path, f"taming.models.vqgan.{kind}"))
    x = picture(h=8, w=8)
    _, _, [_, _, indices] = model.encode(x)
    pattern = "b h w -> b (h w)" if is_gumbel else "(b n) -> b n"
    sequence = rearrange(indices, pattern, **({} if is_gumbel else {"b": 2}))
    rows = F.one_hot(sequence, V).float() @ (
        model.quantize.embed.weight if is_gumbel else model.quantize.embedding.weight
    )
    z = rearrange(rows, "b (h w) c -> b c h w", h=4)
    reconstruction = model(x)[0]
    torch.testing.assert_close(model.decode(z), reconstruction)
    torch.testing.assert_close(model.decode_code(sequence), reconstruction)
    entries = model.quantize.get_codebook_entry(sequence.reshape(-1), shape=(2, 4, 4, D))
    torch.testing.assert_close(entries, z)


def test_a_sequence_of_no_square_grid_says_how_to_give_it() -> None:
    model = vqgan.VQModel(DDCONFIG, None, V, D)
    with pytest.raises(ValueError, match=r"24 codes are no square grid.* \(B, h, w\)"):
        model.decode_code(torch.zeros(2, 24, dtype=torch.int64))


def test_a_config_may_ask_for_a_grid_of_indices() -> None:
    model = vqgan.VQModel(DDCONFIG, None, V, D, sane_index_shape=True)
    _, _, [_, _, indices] = model.encode(picture())
    assert torch.equal(indices, model.indices(picture()))
