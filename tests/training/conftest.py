"""A first stage and a set of pictures so small that a training takes a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Config = dict[str, Any]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty pictures of coloured slopes; every fifth is held out."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:20, 0:24] / 24
    for number in range(20):
        colours = rng.uniform(0, 255, (3, 3))
        image = colours[0] + x[..., None] * colours[1] - y[..., None] * colours[2]
        name = f"{number:02d}.png"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def tiny(pictures: Path) -> Callable[..., Config]:
    """A config of the first stage; keyword arguments replace entries of its sections."""

    def build(
        trainer: Config | None = None,
        training: Config | None = None,
        data: Config | None = None,
        loss: Config | None = None,
        model: Config | None = None,
    ) -> Config:
        lossconfig = {"disc_start": 2, "perceptual_weight": 0.0, "disc_ndf": 4}
        lossconfig |= {"disc_num_layers": 1, "lecam_weight": 0.1, **(loss or {})}
        return {
            "name": "tiny",
            "seed": 3,
            "model": {
                "learning_rate": 1e-2,
                "target": "taming.first_stage.vqgan.VQModel",
                "params": {
                    "n_embed": 16,
                    "embed_dim": 4,
                    "ddconfig": {
                        "z_channels": 4,
                        "ch": 4,
                        "ch_mult": [1, 2],
                        "num_res_blocks": 1,
                        "norm_groups": 2,
                        "mid_attention": False,
                        "dropout": 0.1,
                    },
                    "quantizer": {
                        "target": "taming.first_stage.quantize.VectorQuantizer",
                        "params": {"normalize": True},
                    },
                    "lossconfig": {
                        "target": "taming.first_stage.losses.VQLPIPSWithDiscriminator",
                        "params": lossconfig,
                    },
                    **(model or {}),
                },
            },
            "data": {
                "target": "taming.data.datamodule.ImageData",
                "params": {
                    "sets": [str(pictures)],
                    "size": 16,
                    "batch_size": 4,
                    "epoch_size": 16,
                    **(data or {}),
                },
            },
            "training": {
                "warmup_steps": 2,
                "restart_every": 3,
                "log_every": 1,
                "pictures_every": 0,
                **(training or {}),
            },
            "trainer": {"accelerator": "cpu", "max_steps": 10, **(trainer or {})},
        }

    return build
