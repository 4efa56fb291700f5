"""Published models as data, for both sides. Imports nothing."""

from __future__ import annotations

from typing import Any

F16: dict[str, Any] = {  # vqgan_imagenet_f16_1024: 16x16 pixels a code
    "embed_dim": 256,
    "n_embed": 1024,
    "ddconfig": {
        "double_z": False,
        "z_channels": 256,
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 128,
        "ch_mult": [1, 1, 2, 2, 4],
        "num_res_blocks": 2,
        "attn_resolutions": [16],
        "dropout": 0.0,
    },
}
GPT: dict[
    str, Any
] = {  # of the conditional models: 305M weights, 256 condition and 256 image codes
    "vocab_size": 1024,
    "block_size": 512,
    "n_layer": 24,
    "n_head": 16,
    "n_embd": 1024,
}
PREFIX = 256  # condition codes in front
