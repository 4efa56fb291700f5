"""Pictures and models so small that a training takes a second."""

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import Dataset

from taming.cond_stage.boxes import ObjectsBoundingBoxConditionalBuilder
from taming.data.objects import Annotation

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


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen pictures with labels, half of them with depth too; every fourth is held out."""
    root = tmp_path_factory.mktemp("scenes")
    for folder in ("images", "labels", "depth"):
        (root / folder).mkdir()
    rng = np.random.default_rng(1)
    y, x = np.mgrid[0:20, 0:28]
    names = [f"{number:02d}" for number in range(16)]
    for number, name in enumerate(names):
        horizon = 6 + number % 9
        labels = (y >= horizon).astype(np.uint8) + (y + x > 34)
        image = rng.uniform(0, 255, (3, 3))[labels] + rng.normal(0, 6, (20, 28, 3))
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / f"images/{name}.png")
        Image.fromarray(labels.astype(np.uint8)).save(root / f"labels/{name}.png")
        if number % 2 == 0:
            depth = 1000 + 100 * np.abs(y - horizon)
            Image.fromarray(depth.astype(np.uint16)).save(root / f"depth/{name}.png")
    tables = {
        "label_names.json": {"0": "sky", "1": "ground", "2": "tree"},
        "depth.json": {"kind": "metric", "scale": 0.001, "invalid": 0},
        "class_labels.json": {
            "names": {"0": "day", "1": "night"},
            "images": {name: number % 2 for number, name in enumerate(names[:10])},
        },
        "split.json": {
            "train": [name for i, name in enumerate(names) if i % 4],
            "validation": names[::4],
        },
    }
    for file, content in tables.items():
        (root / file).write_text(json.dumps(content), encoding="utf-8")
    return root


@pytest.fixture
def second(scenes: Path, second_stage: Callable[..., Config]) -> Callable[..., Config]:
    """A config of the second stage; keyword arguments replace entries of its sections."""

    def build(
        trainer: Config | None = None,
        training: Config | None = None,
        data: Config | None = None,
        conditions: tuple[str, ...] = ("labels", "depth", "lowres", "known", "class_label"),
        **transformer: Any,
    ) -> Config:
        model = second_stage(conditions, **transformer)
        del model["params"]["sizes"]  # the data knows them, and the words
        for name in {"labels", "class_label"} & set(conditions):
            section = model["params"]["cond_stage_config"][name]
            model["params"]["cond_stage_config"][name] = {"target": section["target"]}
        return {
            "name": "second",
            "seed": 3,
            "model": {"learning_rate": 3e-3, **model},
            "data": {
                "target": "taming.training.codes_data.CodesData",
                "params": {
                    "sets": [str(scenes)],
                    "size": [16, 24],
                    "batch_size": 4,
                    "epoch_size": 16,
                    "codes": {"draws": 2},
                    **(data or {}),
                },
            },
            "training": {
                "warmup_steps": 2,
                "log_every": 1,
                "pictures_every": 0,
                "pictures": 1,
                "sampling_steps": 2,
                **(training or {}),
            },
            "trainer": {"accelerator": "cpu", "max_steps": 10, **(trainer or {})},
        }

    return build


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that every second stage with the same data reads."""
    return tmp_path_factory.mktemp("shared") / "cache"


@pytest.fixture
def quick(second: Callable[..., Config], shared: Path) -> Callable[..., Config]:
    """`second`, reading the shared cache."""

    def build(*args: Any, data: Config | None = None, **options: Any) -> Config:
        codes = {"draws": 2, "cache": str(shared), **(data or {}).pop("codes", {})}
        return second(*args, data={"codes": codes, **(data or {})}, **options)

    return build


class Shapes(Dataset):
    """A published data set: NumPy, channels last, every condition; draws from global streams."""

    def __init__(self, count: int = 8, size: int = 16, noise: float = 0.0) -> None:
        self.count, self.size, self.noise = count, size, noise

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> dict[str, Any]:
        y, x = np.mgrid[0 : self.size, 0 : self.size].astype(np.float32) / self.size
        depth = (x if i % 2 else y) * 2 - 1
        image = np.stack([depth, -depth, np.full_like(depth, i / self.count)], axis=-1)
        image = image + self.noise * np.random.standard_normal(image.shape)
        return {
            "image": image.astype(np.float32),
            "depth": depth,
            "coord": (np.arange(self.size**2, dtype=np.float32) / self.size**2).reshape(y.shape),
            "segmentation": np.eye(4)[(2 * y).astype(int) * 2 + (2 * x).astype(int)],
            "class_label": i % 3,
            "human_label": ("cat", "dog", "owl")[i % 3],
            "objects_bbox": self.conditional_builders["objects_bbox"].build(
                [Annotation(None, None, (0.25, 0.25, 0.5, 0.5), i % 3, None)]
            ),
        }

    @property
    def conditional_builders(self) -> dict[str, Any]:
        options = {"use_group_parameter": False, "use_additional_parameters": False}
        boxes = ObjectsBoundingBoxConditionalBuilder(3, 1, 16, encode_crop=True, **options)
        return {"objects_bbox": boxes}

    def get_textual_label_for_category_no(self, number: int) -> str:
        return ("cat", "dog", "owl")[number]


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> str:
    """The target of `Shapes`, which configs may name during the test."""
    module = types.ModuleType("published_sets")
    monkeypatch.setattr(module, "Shapes", Shapes, raising=False)
    monkeypatch.setattr(Shapes, "__module__", module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("TAMING_TARGETS", f"{module.__name__}.")
    return f"{module.__name__}.Shapes"


def tiny_vq(target: str = "taming.first_stage.vqgan.VQModel", **params: Any) -> Config:
    """A first stage with cells of 4x4 pixels and 16 codes."""
    ddconfig = {"z_channels": 4, "ch": 4, "ch_mult": [1, 1, 1], "num_res_blocks": 1}
    ddconfig |= {"norm_groups": 2, "mid_attention": False, **params.pop("ddconfig", {})}
    return {
        "target": target,
        "params": {"n_embed": 16, "embed_dim": 4, "ddconfig": ddconfig} | params,
    }


@pytest.fixture
def net2net(shapes: str) -> Callable[..., Config]:
    """A config of the published second stage; `cond` and `key` say its condition."""

    def build(
        cond: Config | str = "__is_unconditional__",
        key: str = "image",
        tokens: int = 1,  # of the condition
        model: Config | None = None,
        data: Config | None = None,
        training: Config | None = None,
        trainer: Config | None = None,
        **transformer: Any,
    ) -> Config:
        sizes = {"vocab_size": 16, "block_size": 16 + tokens, "n_layer": 1, "n_head": 2}
        section = {"target": shapes, "params": {}}
        return {
            "name": "net2net",
            "seed": 3,
            "model": {
                "learning_rate": 3e-3,
                "target": "taming.transformer.net2net.Net2NetTransformer",
                "params": {
                    "cond_stage_key": key,
                    "transformer_config": {
                        "target": "taming.transformer.gpt.GPT",
                        "params": {**sizes, "n_embd": 16, **transformer},
                    },
                    "first_stage_config": tiny_vq(),
                    "cond_stage_config": cond,
                    **(model or {}),
                },
            },
            "data": {
                "target": "taming.training.published_data.DataModuleFromConfig",
                "params": {
                    "batch_size": 4,
                    "num_workers": 0,
                    "train": section,
                    "validation": section,
                    **(data or {}),
                },
            },
            "training": {
                "warmup_steps": 0,
                "log_every": 1,
                "pictures_every": 0,
                "precision": "float32",
                **(training or {}),
            },
            "trainer": {"accelerator": "cpu", "max_steps": 2, **(trainer or {})},
        }

    return build


@pytest.fixture
def kinds() -> dict[str, tuple[Any, str, int, tuple[str, ...]]]:
    """Conditions by kind: the stage, its key in a batch, its tokens, and what there is to see."""

    def section(name: str, **params: Any) -> Config:
        return {"target": f"taming.{name}", "params": params}

    both = ("conditioning", "conditioning_rec")
    depth = tiny_vq(ddconfig={"in_channels": 1, "out_ch": 1})
    kind = "taming.first_stage.segmentation.VQSegmentationModel"
    labels = tiny_vq(kind, n_labels=4, ddconfig={"in_channels": 4, "out_ch": 4})
    start = section("cond_stage.prefix_tokens.SOSProvider", sos_token=0)
    classes = section("cond_stage.prefix_tokens.Labelator", n_classes=3)
    coordinates = section("cond_stage.coord.CoordStage", n_embed=16, down_factor=4)
    boxes = section("cond_stage.boxes.DummyCondStage", conditional_key="objects_bbox")
    return {
        "unconditional": ("__is_unconditional__", "image", 1, ()),
        "start token": (start, "image", 1, ("conditioning",)),
        "first stage": ("__is_first_stage__", "image", 16, both),
        "class": (classes, "class_label", 1, ("conditioning",)),
        "coordinates": (coordinates, "coord", 16, both),
        "depth": (depth, "depth", 16, both),
        "segmentation": (labels, "segmentation", 16, both),
        "boxes": (boxes, "objects_bbox", 5, ("conditioning",)),
    }
