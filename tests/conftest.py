"""What every test shares: settings made before torch is imported, photographs, a tiny model."""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Two test processes share the cores; threads of one that wait actively would starve the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network is a mistake

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def photographs() -> Callable[[str], Path]:
    """Where a set of real photographs lies, by its name; a test is skipped where it is absent."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("TAMING_DATA") or ROOT / "data") / name
        if not folder.is_dir():
            pytest.skip(f"{folder} is absent; data/README.md says what TAMING_DATA is")
        return folder

    return find


@pytest.fixture(scope="session")
def second_stage() -> Callable[..., dict[str, Any]]:
    """The model section of a second stage: cells of 4x4 pixels, 16 codes, some conditions."""

    def section(name: str, **params: Any) -> dict[str, Any]:
        return {"target": f"taming.{name}", "params": params}

    tokenizer = {"z_channels": 4, "ch": 4, "ch_mult": [1, 1, 1], "num_res_blocks": 1}
    tokenizer |= {"norm_groups": 2, "mid_attention": False}
    conditions = {
        "labels": section("cond_stage.labels.Labels", names=["sky", "sea", "sand"]),
        "depth": section("cond_stage.depth.Depth"),
        "lowres": section("cond_stage.lowres.LowRes"),
        "known": section("cond_stage.known.Known"),
        "class_label": section("cond_stage.class_label.ClassLabel", names=["day", "night"]),
    }

    def build(
        names: tuple[str, ...] = tuple(conditions),
        sizes: tuple[tuple[int, int], ...] = ((16, 24),),
        **transformer: Any,
    ) -> dict[str, Any]:
        sizes_of_it = {"codebook_size": 16, "width": 32, "layers": 4, "heads": 2, "trunk_layers": 1}
        return section(
            "transformer.multi_task.MultiTaskTransformer",
            first_stage_config=section(
                "first_stage.vqgan.VQModel",
                ddconfig=dict(tokenizer),
                n_embed=16,
                embed_dim=4,
                quantizer=section("first_stage.quantize.VectorQuantizer", normalize=True),
            ),
            transformer_config=section(
                "transformer.any_order.AnyOrderTransformer", **{**sizes_of_it, **transformer}
            ),
            cond_stage_config={name: copy.deepcopy(conditions[name]) for name in names},
            sizes=[list(size) for size in sizes],
        )

    return build


@pytest.fixture(scope="session")
def published_stage() -> Callable[..., dict[str, Any]]:
    """The model section of a published second stage, by what it paints from.

    Cells of 4x4 pixels, 4x4 cells, 16 codes.
    """

    def section(name: str, **params: Any) -> dict[str, Any]:
        return {"target": f"taming.{name}", "params": params}

    def stage(channels: int = 3) -> dict[str, Any]:
        ddconfig = {"z_channels": 4, "ch": 4, "ch_mult": [1, 1, 1], "num_res_blocks": 1}
        ddconfig |= {"norm_groups": 2, "mid_attention": False, "resolution": 16}
        ddconfig |= {"in_channels": channels, "out_ch": channels}
        return section("first_stage.vqgan.VQModel", ddconfig=ddconfig, n_embed=16, embed_dim=4)

    tokens, boxes = "cond_stage.prefix_tokens.", "objects_bbox"
    kinds: dict[str, tuple[str, Any, int]] = {  # cond_stage_key, cond_stage_config, P
        "none": ("image", "__is_unconditional__", 1),
        "class": ("class_label", section(f"{tokens}Labelator", n_classes=8), 1),
        "coord": ("coord", section("cond_stage.coord.CoordStage", n_embed=16, down_factor=4), 16),
        "labels": ("segmentation", stage(6), 16),
        "depth": ("depth", stage(1), 16),
        "sketch": ("sketch", "__is_first_stage__", 16),
        "lowres": ("lr", "__is_first_stage__", 16),
        "pose": (
            "keypoints",
            section("cond_stage.pose_tokens.PoseTokens", n_embed=16, size=16),
            38,
        ),
        "boxes": (boxes, section("cond_stage.boxes.DummyCondStage", conditional_key=boxes), 92),
    }

    def build(kind: str, cells: int = 16, **params: Any) -> dict[str, Any]:
        key, condition, prefix = kinds[kind]
        sizes = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": prefix + cells}
        sizes["vocab_size"] = 64 if kind == "boxes" else 16
        return section(
            "transformer.net2net.Net2NetTransformer",
            transformer_config=section("transformer.gpt.GPT", **sizes),
            first_stage_config=stage(),
            cond_stage_config=copy.deepcopy(condition),
            cond_stage_key=key,
            **params,
        )

    return build


@pytest.fixture(scope="session")
def published_batch() -> Callable[..., dict[str, Any]]:
    """Maps of 8x12 with channels last, as published data sets give them; 16 codes."""
    import torch
    import torch.nn.functional as F

    def draw(count: int = 2, seed: int = 0) -> dict[str, Any]:
        size, generator = (8, 12), torch.Generator().manual_seed(seed)
        labels = torch.randint(5, (count, *size), generator=generator)
        return {
            "image": torch.rand(count, *size, 3, generator=generator) * 2 - 1,
            "depth": torch.rand(count, *size, generator=generator) * 2 - 1,
            "segmentation": F.one_hot(labels, 5).float(),
            "class_label": torch.randint(3, (count,), generator=generator),
            "coord": torch.rand(count, *size, 1, generator=generator).double(),
            "objects_bbox": torch.randint(16, (count, 7), generator=generator),
        }

    return draw


@pytest.fixture
def our_batch() -> dict[str, Any]:
    """Two pictures of 8x12 as our own data gives them; one pixel is unlabelled."""
    import torch

    from taming.data.batch import VOID, collate

    size, generator = (8, 12), torch.Generator().manual_seed(0)
    labels = torch.randint(5, size, generator=generator)
    labels[0, 0] = VOID
    sample = {
        "image": torch.rand(3, *size, generator=generator),
        "labels": labels,
        "depth": torch.rand(1, *size, generator=generator),
        "class_label": torch.tensor(1),
    }
    return collate([sample, sample])
