"""First stages as files of diffusers: `VQModel` there and here are one network under two names.

    save_diffusers(model, "f16")        # diffusers.VQModel.from_pretrained("f16") opens it
    model = load_diffusers("f16")

Encoder, codebook and decoder give equal values on both sides. Only our light design, other
quantizers than the nearest code, and a remapped codebook have no counterpart there, and say so.
Needs no diffusers.

Their names: diffusers 0.42, models/autoencoders/vae.py and vq_model.py.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from taming.checkpoint import (
    LOSS_KEYS,
    CheckpointError,
    atomic_write,
    load_weights,
    read_state_dict,
    save_weights,
)
from taming.config import ConfigError
from taming.first_stage.autoencoder import AutoencoderConfig
from taming.first_stage.quantize import CodebookQuantizer
from taming.first_stage.vqgan import VQModel

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PLAIN = ("DownEncoderBlock2D", "UpDecoderBlock2D")
ATTENDING = ("AttnDownEncoderBlock2D", "AttnUpDecoderBlock2D")

# Ours -> theirs, applied in turn to a name; levels of the decoder are counted from the other end.
NAMES = (
    (r"\.down\.(\d+)\.", r".down_blocks.\1."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.block\.(\d+)\.", r".resnets.\1."),
    (r"\.attn\.(\d+)\.", r".attentions.\1."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.downsample\.", ".downsamplers.0."),
    (r"\.upsample\.", ".upsamplers.0."),
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"(\.attentions\.\d+)\.norm\.", r"\1.group_norm."),
    (r"(\.attentions\.\d+)\.([qkv])\.", r"\1.to_\2."),
    (r"(\.attentions\.\d+)\.proj_out\.", r"\1.to_out.0."),
)
OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # before 0.15


def their_name(name: str, levels: int) -> str:
    """`decoder.up.0.attn.1.q.weight` -> `decoder.up_blocks.1.attentions.1.to_q.weight`."""
    name = re.sub(r"\.up\.(\d+)\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.", name)
    for ours, theirs in NAMES:
        name = re.sub(ours, theirs, name)
    return name


# --- out ------------------------------------------------------------------------------------------


def save_diffusers(model: VQModel, folder: str | Path) -> Path:
    """Writes the two files of such a folder; ConfigError if they have no words for the model."""
    folder = Path(folder)
    config = diffusers_config(model)
    levels = len(model.config.ch_mult)
    state = {}
    for name, tensor in model.state_dict().items():
        if _belongs(name):
            theirs = their_name(name, levels)
            is_linear = ".attentions." in theirs and tensor.ndim == 4
            state[theirs] = tensor[..., 0, 0] if is_linear else tensor
    save_weights(folder / WEIGHTS, state, {"format": "pt"})
    with atomic_write(folder / CONFIG) as partial:
        partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def diffusers_config(model: VQModel) -> dict[str, Any]:
    """The arguments of diffusers' VQModel; ConfigError names what it has no word for."""
    config, quantizer = model.config, model.quantize
    for wrong, reason in (
        (config.stem != 1, f"a stem of {config.stem}"),
        (config.refine != 0, "a refinement"),
        (config.resample != "conv" or not config.resamp_with_conv, "resampling without its 3x3"),
        (config.double_z, "double_z"),
        (config.ch_mult[0] != 1, f"a first level of {config.ch_mult[0]} x ch"),
        (not isinstance(quantizer, CodebookQuantizer), f"a {type(quantizer).__name__}"),
        (getattr(quantizer, "normalize", False), "a codebook on the unit sphere"),
        (getattr(quantizer, "remap", None) is not None, "a remapped codebook"),
    ):
        if wrong:
            raise ConfigError(f"diffusers' VQModel has no word for {reason}; keep our own format")
    attends = [config.attends(level) for level in range(len(config.ch_mult))]
    return {
        "_class_name": "VQModel",
        "in_channels": config.in_channels,
        "out_channels": config.out_ch,
        "down_block_types": [ATTENDING[0] if each else PLAIN[0] for each in attends],
        "up_block_types": [ATTENDING[1] if each else PLAIN[1] for each in reversed(attends)],
        "block_out_channels": [config.width(level) for level in range(len(attends))],
        "layers_per_block": config.num_res_blocks,
        "act_fn": "silu",
        "latent_channels": config.z_channels,
        "sample_size": config.resolution,
        "num_vq_embeddings": quantizer.codebook_size,
        "norm_num_groups": config.norm_groups,
        "vq_embed_dim": quantizer.codebook_dim,
        "norm_type": "group",
        "mid_block_add_attention": config.mid_attention,
    }


def _belongs(name: str) -> bool:
    """Neither losses, colours of label maps, nor the running means of an EMA codebook."""
    if name.startswith("quantize."):
        return name == "quantize.embedding.weight"
    return name != "colorize" and not LOSS_KEYS.search(name)


# --- in -------------------------------------------------------------------------------------------


def load_diffusers(folder: str | Path, **params: Any) -> VQModel:
    """The model of such a folder, in evaluation mode; `params` are further ones of `VQModel`.

    ConfigError or CheckpointError names what does not fit.
    """
    folder = Path(folder)
    for needed in (folder / CONFIG, folder / WEIGHTS):
        if not needed.is_file():
            raise CheckpointError(f"{folder} is no model of diffusers: {needed} does not exist")
    config = json.loads((folder / CONFIG).read_text("utf-8"))
    model = VQModel(**{**our_params(config, str(folder / CONFIG)), **params})
    given = {_newer(name): tensor for name, tensor in read_state_dict(folder / WEIGHTS).items()}
    own = {name: tensor for name, tensor in model.state_dict().items() if _belongs(name)}
    state: dict[str, Tensor] = {}
    for name, tensor in own.items():
        found = given.pop(their_name(name, len(model.config.ch_mult)), None)
        if found is not None:
            is_linear = found.ndim == 2 and tensor.ndim == 4
            state[name] = found[..., None, None] if is_linear else found
    load_weights(model, {**state, **given}, source=str(folder / WEIGHTS))
    return model.eval()


def our_params(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The arguments of our VQModel from those of diffusers'."""
    down, up = (list(config.get(f"{end}_block_types", ())) for end in ("down", "up"))
    mirrored = [ATTENDING[1] if each == ATTENDING[0] else PLAIN[1] for each in reversed(down)]
    widths = config.get("block_out_channels", ())
    for fits, reason in (
        (config.get("_class_name") == "VQModel", f"it describes a {config.get('_class_name')}"),
        (widths and len(down) == len(widths), "its levels are not said"),
        (not set(down) - {PLAIN[0], ATTENDING[0]} and up == mirrored, f"its blocks {down}, {up}"),
        (all(width % widths[0] == 0 for width in widths), f"its widths {widths}"),
        (config.get("act_fn", "silu") == "silu", f"its act_fn {config.get('act_fn')}"),
        (config.get("norm_type", "group") == "group", f"its norm_type {config.get('norm_type')}"),
    ):
        if not fits:
            raise ConfigError(f"{source} is no first stage that can be read: {reason}")
    step = 2 ** (len(widths) - 1)
    size = config.get("sample_size") or 0
    resolution = size if size >= step and size % step == 0 else 16 * step
    attending = [resolution // 2**i for i, kind in enumerate(down) if kind == ATTENDING[0]]
    latent = config.get("latent_channels", 3)
    ddconfig = AutoencoderConfig(
        z_channels=latent,
        ch=widths[0],
        ch_mult=tuple(width // widths[0] for width in widths),
        num_res_blocks=config.get("layers_per_block", 1),
        in_channels=config.get("in_channels", 3),
        out_ch=config.get("out_channels", 3),
        resolution=resolution,
        attn_resolutions=tuple(attending),
        norm_groups=config.get("norm_num_groups", 32),
        mid_attention=config.get("mid_block_add_attention", True),
    )
    return {
        "ddconfig": vars(ddconfig),
        "n_embed": config.get("num_vq_embeddings", 256),
        "embed_dim": config.get("vq_embed_dim") or latent,
    }


def _newer(name: str) -> str:
    """Attention layers of older files by the names of today."""
    return re.sub(
        r"(\.attentions\.\d+)\.(query|key|value|proj_attn)\.",
        lambda found: f"{found[1]}.{OLDER[found[2]]}.",
        name,
    )
