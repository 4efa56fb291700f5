"""Transformers whose every part has a say: weights far from their cautious beginning."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from taming.sampling import orders
from taming.transformer import AnyOrderTransformer, Net2NetTransformer

V, H, W, P = 16, 3, 4, 2  # never square
T = H * W


class Inputs(NamedTuple):
    codes: Tensor  # (B, T)
    order: Tensor  # (B, T), another one for each image
    control: Tensor  # (B, C, h, w)
    prefix: Tensor  # (B, P, C)


@pytest.fixture(scope="session")
def transformer() -> Callable[..., AnyOrderTransformer]:
    def build(**options: Any) -> AnyOrderTransformer:
        torch.manual_seed(0)
        sizes = {"codebook_size": V, "width": 32, "layers": 4, "heads": 2, "trunk_layers": 1}
        model = AnyOrderTransformer(**{**sizes, **options}).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        return model

    return build


@pytest.fixture(scope="session")
def inputs() -> Callable[..., Inputs]:
    def draw(batch: int = 2, seed: int = 1, channels: int = 32) -> Inputs:
        generator = torch.Generator().manual_seed(seed)
        return Inputs(
            torch.randint(V, (batch, T), generator=generator),
            torch.stack([orders.random(H, W, generator) for _ in range(batch)]),
            torch.randn(batch, channels, H, W, generator=generator),
            torch.randn(batch, P, 32, generator=generator),
        )

    return draw


@pytest.fixture(params=["query", "prefix"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


# --- the published second stage ------------------------------------------------------------------

SIZE, CELL = (8, 12), 4  # pixels


def section(name: str, **params: Any) -> dict[str, Any]:
    return {"target": f"taming.{name}", "params": params}


def tokenizer(codes: int, channels: int = 3) -> dict[str, Any]:
    sizes = {"z_channels": 4, "ch": 4, "ch_mult": [1, 1, 1], "num_res_blocks": 1, "norm_groups": 2}
    sizes |= {"mid_attention": False, "in_channels": channels, "out_ch": channels}
    return section("first_stage.vqgan.VQModel", ddconfig=sizes, n_embed=codes, embed_dim=4)


STAGES: dict[str, Any] = {
    "depth": tokenizer(8, channels=1),
    "segmentation": tokenizer(8, channels=5),
    "image": "__is_first_stage__",
    "nothing": "__is_unconditional__",
    "class_label": section("cond_stage.prefix_tokens.Labelator", n_classes=3),
    "coord": section("cond_stage.coord.CoordStage", n_embed=V, down_factor=CELL),
    "objects_bbox": section("cond_stage.boxes.DummyCondStage", conditional_key="objects_bbox"),
}


@pytest.fixture(params=STAGES)
def condition_key(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def net2net() -> Callable[..., Net2NetTransformer]:
    """A published second stage of 2x3 cells, by the key of its condition."""

    def build(
        key: str = "depth", gpt: dict[str, Any] | None = None, **params: Any
    ) -> Net2NetTransformer:
        torch.manual_seed(0)
        sizes = {"vocab_size": V, "block_size": 20, "n_layer": 2, "n_head": 2, "n_embd": 8}
        given = {
            "transformer_config": section("transformer.gpt.GPT", **{**sizes, **(gpt or {})}),
            "first_stage_config": tokenizer(V),
            "cond_stage_config": STAGES[key],
            "cond_stage_key": key,
        }
        model = Net2NetTransformer(**{**given, **params}).eval()
        for parameter in model.transformer.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        for name, parameter in model.named_parameters():
            if name.endswith("quantize.embedding.weight"):  # where the features are: many in use
                torch.nn.init.normal_(parameter, std=0.3)
        return model

    return build
