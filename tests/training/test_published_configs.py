"""Laws of the configs of published models and of the paper's tasks: sizes as stated; they train.

Every config is trained for two steps through `taming.training.run.train`, at a shrunken size, on
generated samples of the layout that its data sets have.
"""

import functools
import json
import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import taming
from taming.checkpoint import read_state_dict
from taming.config import instantiate_from_config, load_config, plain
from taming.data.batch import JOINTS
from taming.loading import for_inference
from taming.training import run as run_module

FOLDER = Path(__file__).parents[2] / "configs"
ALL = {path.name.removesuffix(".yaml"): path.read_text("utf-8") for path in FOLDER.glob("*.yaml")}
FIRST = sorted(name for name, text in ALL.items() if "lossconfig" in text)
SECOND = sorted(name for name, text in ALL.items() if "Net2NetTransformer" in text)
PUBLISHED = sorted({*SECOND} | {n for n, text in ALL.items() if "DataModuleFromConfig" in text})

# Config files of the original, by the names that people know, and models published without one.
NAMES = {
    "ade20k_cond_stage",
    "ade20k_transformer",
    "ade20k_vqgan",
    "celebahq_transformer",
    "cin_transformer",
    "coco_cond_stage",
    "coco_scene_images_transformer",
    "coco_transformer",
    "coco_vqgan",
    "custom_vqgan",
    "drin_transformer",
    "faceshq_transformer",
    "faceshq_vqgan",
    "ffhq_transformer",
    "imagenet_vqgan",
    "imagenetdepth_vqgan",
    "open_images_scene_images_transformer",
    "open_images_vqgan",
    "sflckr_cond_stage",
    "sflckr_transformer",
    "vqgan_gumbel_f8",
    "vqgan_imagenet_f16_16384",
    # tasks of the paper without released code, and fine-tuning
    "deepfashion_pose_transformer",
    "finetune_vqgan_f16_1024",
    "finetune_vqgan_f16_16384",
    "finetune_vqgan_gumbel_f8",
    "imagenet_completion_transformer",
    "imagenet_edges_transformer",
    "imagenet_superresolution_transformer",
}

# Codebook; vocabulary, block size, layers, heads, width; tokens of the condition.
SIZES = {
    "ade20k_transformer": (4096, (4096, 512, 28, 16, 1024), 256),
    "celebahq_transformer": (1024, (1024, 256, 24, 16, 1664), 1),
    "cin_transformer": (16384, (16384, 256, 48, 24, 1536), 1),
    "coco_scene_images_transformer": (8192, (8192, 348, 40, 16, 1408), 92),
    "coco_transformer": (8192, (8192, 512, 32, 16, 1280), 256),
    "deepfashion_pose_transformer": (1024, (1024, 294, 18, 16, 768), 38),
    "drin_transformer": (1024, (1024, 512, 24, 16, 1024), 256),
    "faceshq_transformer": (1024, (1024, 512, 24, 16, 1024), 256),
    "ffhq_transformer": (1024, (1024, 256, 24, 16, 1664), 1),
    "imagenet_completion_transformer": (1024, (1024, 256, 24, 16, 1024), 1),
    "imagenet_edges_transformer": (1024, (1024, 512, 24, 16, 1024), 256),
    "imagenet_superresolution_transformer": (1024, (1024, 512, 12, 16, 1024), 256),
    "open_images_scene_images_transformer": (8192, (8192, 348, 36, 16, 1536), 92),
    "sflckr_transformer": (1024, (1024, 512, 24, 16, 1024), 256),
}


def model_section(name: str) -> dict[str, Any]:
    """The model's config without weights to start from and without losses."""
    section = for_inference(plain(load_config(FOLDER / f"{name}.yaml"))["model"])
    stage = section["params"].get("cond_stage_config")
    if isinstance(stage, dict) and "target" in stage:
        section["params"]["cond_stage_config"] = for_inference(stage)
    return section


@functools.cache
def built(name: str) -> Any:
    """At full size, on no device."""
    with torch.device("meta"):
        return instantiate_from_config(model_section(name))


def test_every_published_model_and_task_has_its_config() -> None:
    assert set(ALL) >= NAMES


@pytest.mark.parametrize("name", sorted({*FIRST, *SECOND}))
def test_the_header_states_how_much_is_trained(name: str) -> None:
    """Parameters of the autoencoder, or of the transformer: what is not frozen, losses apart."""
    stated = re.search(r"([\d.]+)M parameters", ALL[name].split("\nname:")[0])
    assert stated is not None
    parameters = built(name).parameters()
    count = sum(each.numel() for each in parameters if each.requires_grad) / 1e6
    decimals = len(stated[1].partition(".")[2])
    assert round(count, decimals) == float(stated[1])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_header_states_expectation_and_licence(name: str) -> None:
    header = ALL[name].split("\nname:")[0]
    for word in ("Data:", "Expected:", "Time:", "Licence:"):
        assert f"\n# {word}" in header


@pytest.mark.parametrize("name", SECOND)
def test_second_stages_have_their_published_sizes(name: str) -> None:
    codebook, sizes, prefix = SIZES[name]
    model = built(name)
    config = model.transformer.config
    assert model.first_stage_model.codebook_size == codebook
    found = (config.vocab_size, config.block_size, config.n_layer, config.n_head, config.n_embd)
    assert found == sizes
    # The last code is never fed, so one token of a condition needs no place of its own.
    tokens = (256 // model.first_stage_model.downsample_factor) ** 2
    assert config.block_size == tokens + prefix - (prefix == 1)


# --- two steps of everything ----------------------------------------------------------------------

SIDE, CODES, PLANES, CLASSES = 32, 16, 5, 7


class Generated(torch.utils.data.Dataset):
    """Samples as published sets give them: arrays (H, W, C), and what else a key holds."""

    def __init__(self, keys: list[str], prefix: int) -> None:
        self.keys, self.prefix = keys, prefix

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng(index)
        labels = rng.integers(PLANES, size=(SIDE, SIDE))
        every = {
            "image": rng.uniform(-1, 1, (SIDE, SIDE, 3)).astype(np.float32),
            "lr": rng.uniform(-1, 1, (SIDE, SIDE, 3)).astype(np.float32),
            "depth": rng.uniform(-1, 1, (SIDE, SIDE, 1)).astype(np.float32),
            "coord": rng.uniform(0, 1, (SIDE, SIDE, 1)).astype(np.float32),
            "segmentation": np.eye(PLANES, dtype=np.float32)[labels],
            "class_label": int(rng.integers(CLASSES)),
            "human_label": "cat",
            "keypoints": rng.uniform(0, SIDE, (1, 19, 3)).astype(np.float32),
        }
        tokens = rng.integers(CODES, size=self.prefix)
        return {key: every.get(key, tokens) for key in self.keys}


def shrink(section: dict[str, Any]) -> None:
    """One stage of a model, in place: the same kind and depth, as small as it can be."""
    params = section["params"]
    params.pop("ckpt_path", None)
    params.pop("ignore_keys", None)
    if "n_classes" in params:
        params["n_classes"] = CLASSES
    if "n_embed" in params:
        params["n_embed"] = CODES
    if "n_labels" in params:
        params["n_labels"] = PLANES
    if "ddconfig" in params:
        levels, channels = len(params["ddconfig"]["ch_mult"]), params["ddconfig"]["in_channels"]
        channels = PLANES if "n_labels" in params else channels
        params["embed_dim"] = 4
        params["ddconfig"] |= {
            "ch": 32, "ch_mult": [1] * levels, "num_res_blocks": 1, "z_channels": 4,
            "resolution": SIDE, "attn_resolutions": [], "in_channels": channels, "out_ch": channels,
        }  # fmt: skip
    loss = params.get("lossconfig")
    if loss is not None and "disc_start" in loss["params"]:
        # No VGG; the discriminator plays from the first step.
        loss["params"] |= {"perceptual_weight": 0.0, "disc_start": 0, "disc_ndf": 4}
        loss["params"] |= {"disc_num_layers": 1}


def shrunken(name: str) -> dict[str, Any]:
    config = deepcopy(plain(load_config(FOLDER / f"{name}.yaml")))
    params = config["model"]["params"]
    keys = ["image", params.get("image_key", "image"), params.get("cond_stage_key", "image")]
    if keys[2] == "class_label":
        keys.append("human_label")
    for stage in ("first_stage_config", "cond_stage_config"):
        if isinstance(params.get(stage), dict):
            shrink(params[stage])
    prefix = 0
    if "transformer_config" in params:
        prefix = SIZES[name][2]
        sizes = params["transformer_config"]["params"]
        tokens = (SIDE // 16) ** 2
        prefix = tokens if prefix == 256 else prefix
        sizes |= {"vocab_size": CODES, "block_size": tokens + prefix, "n_layer": 1, "n_head": 2}
        sizes |= {"n_embd": 8}
    else:
        shrink(config["model"])
    target = f"{Generated.__module__}.Generated"
    section = {"target": target, "params": {"keys": sorted(set(keys)), "prefix": prefix}}
    config["data"]["target"] = "taming.training.published_data.DataModuleFromConfig"
    config["data"]["params"] = {
        "batch_size": 2, "num_workers": 0, "train": section, "validation": section,
    }  # fmt: skip
    config["model"]["learning_rate"] = 1e-3  # enough to be seen after two steps
    config["training"] |= {"pictures": 1, "pictures_every": 2, "log_every": 1, "ema_decay": 0.0}
    config["trainer"] = {"max_steps": 2, "accelerator": "cpu", "limit_val_batches": 1}
    return config


@pytest.mark.parametrize("name", PUBLISHED)
def test_two_steps_change_all_that_is_trained_and_nothing_else(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAMING_TARGETS", f"{Generated.__module__}.")
    before: dict[str, torch.Tensor] = {}
    is_trained: dict[str, bool] = {}
    fit = run_module._fit

    def remember(model: torch.nn.Module, *others: Any) -> None:
        before.update({key: value.clone() for key, value in model.state_dict().items()})
        is_trained.update({key: p.requires_grad for key, p in model.named_parameters()})
        fit(model, *others)

    monkeypatch.setattr(run_module, "_fit", remember)
    run = run_module.train(shrunken(name), runs=tmp_path)
    after = read_state_dict(run / "weights.safetensors")
    changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
    assert changed == {key for key in after if is_trained.get(key)}
    assert list((run / "images").iterdir())


def test_poses_of_a_paired_folder_train_and_paint(tmp_path: Path) -> None:
    """A picture where nobody was found is a pose of which nothing is seen."""
    (tmp_path / "images").mkdir()
    table: dict[str, list[dict[str, Any]]] = {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": SIDE, "height": SIDE} for i in range(4)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(JOINTS)}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "keypoints": [9 + i, 20, 2] * len(JOINTS)}
            for i in range(3)
        ],
    }
    (tmp_path / "keypoints.json").write_text(json.dumps(table), encoding="utf-8")
    for image in table["images"]:
        Image.new("RGB", (SIDE, SIDE), "teal").save(tmp_path / "images" / image["file_name"])
    config = shrunken("deepfashion_pose_transformer")
    config["model"]["params"]["cond_stage_config"]["params"]["size"] = SIDE
    sets = [{"path": str(tmp_path), "split": "all", "validation_split": None}]
    config["data"] = {
        "target": "taming.data.datamodule.ImageData",
        "params": {"sets": sets, "batch_size": 4, "size": SIDE},
    }
    model = taming.load(run_module.train(config, runs=tmp_path / "runs"))
    (painted,) = model.paint(pose=f"{tmp_path / 'keypoints.json'}#0")
    assert painted.size == (SIDE, SIDE)
