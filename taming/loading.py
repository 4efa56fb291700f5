"""From a name to a model: a run directory, a file of weights, a hub id or the bundled model.

A model on disk is a `config.yaml` beside a `weights.safetensors`, and stands alone: a second stage
contains its first stage. Files are read without running code from them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from taming.checkpoint import CheckpointError, load_weights, read_state_dict
from taming.config import (
    ConfigError,
    get_obj_from_str,
    instantiate_from_config,
    load_config,
    plain,
)
from taming.first_stage.vqgan import VQModel
from taming.pipeline import Pipeline
from taming.transformer.multi_task import MultiTaskTransformer

logger = logging.getLogger(__name__)

CONFIG = "config.yaml"
WEIGHTS = "weights.safetensors"
WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")
BUNDLED = Path(__file__).parent / "bundled"
PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}


def load(what: str | Path, *, device: str = "cpu", precision: str = "float32") -> Pipeline:
    """A pipeline from "bundled", a run directory, a file of weights, or a hub id "owner/name".

    `precision` is "float32" or "bf16" (half the memory, several times faster on processors with
    bf16 units; pictures differ by rounding).
    """
    if precision not in PRECISIONS:
        raise ValueError(f'precision is "{precision}"; give one of {", ".join(PRECISIONS)}')
    folder, weights = _locate(what)
    model = load_model(folder, weights)
    return Pipeline(model.to(device, PRECISIONS[precision]), name=folder.name)


def find_model(what: str | Path) -> Path:
    """The folder that holds `config.yaml` and `weights.safetensors`; hub models are downloaded."""
    return _locate(what)[0]


def _locate(what: str | Path) -> tuple[Path, Path]:
    """The folder of a model and its file of weights: the one named, or the folder's own."""
    path = BUNDLED if str(what) == "bundled" else Path(what)
    folder = path.parent if path.is_file() else path
    if path.is_file() and not (folder / CONFIG).is_file():
        folder = folder.parent  # of runs/name/checkpoints/last.ckpt
    if not folder.is_dir() and str(what).count("/") == 1 and not str(what).startswith("."):
        folder = _download(str(what))
    weights = path if path.is_file() and path.suffix in WEIGHT_SUFFIXES else folder / WEIGHTS
    for needed in (folder / CONFIG, weights):
        if not needed.is_file():
            raise CheckpointError(
                f"{what} is no model: {needed} does not exist; give a run directory, which holds "
                f"{CONFIG} and {WEIGHTS}"
            )
    return folder, weights


def load_model(folder: Path, weights: Path | None = None) -> MultiTaskTransformer | VQModel:
    """The model of a run directory on the CPU, in evaluation mode."""
    weights = weights or folder / WEIGHTS
    config = plain(load_config(folder / CONFIG))
    section = config.get("model")
    if not isinstance(section, Mapping) or "target" not in section:
        raise ConfigError(
            f"{folder / CONFIG} has no section `model` with a target; it is not a run's config"
        )
    model = instantiate_from_config(for_inference(section))
    if not isinstance(model, MultiTaskTransformer | VQModel):
        raise ConfigError(
            f"{folder / CONFIG} describes a {type(model).__name__}, which cannot paint"
        )
    load_weights(model, read_state_dict(weights), source=str(weights))
    return model.eval().requires_grad_(False)


def for_inference(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """A model's config without what only training needs: rates, losses, weights to start from."""
    params = deepcopy(dict(model_config.get("params") or {}))
    config = {"target": model_config["target"], "params": params}
    for key in ("lossconfig", "ckpt_path", "ignore_keys"):
        params.pop(key, None)
    if isinstance(params.get("first_stage_config"), Mapping):
        params["first_stage_config"] = for_inference(params["first_stage_config"])
    return config


def expand_first_stage(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """`first_stage_config: runs/name` written out: the run's own config and its weights."""
    config = deepcopy(dict(model_config))
    params = dict(config.get("params") or {})
    named = params.get("first_stage_config")
    if isinstance(named, str) and not named.startswith("__"):
        folder, weights = _locate(named)
        section = for_inference(plain(load_config(folder / CONFIG))["model"])
        section = {key: section[key] for key in ("target", "params")}
        if not issubclass(get_obj_from_str(section["target"]), VQModel):
            raise ConfigError(
                f"first_stage_config names {named}, which is a {section['target']}; give the run "
                f"of a first stage"
            )
        section["params"]["ckpt_path"] = str(weights)
        params["first_stage_config"] = section
        config["params"] = params
    return config


def _download(hub_id: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError("models of the hub need: pip install huggingface_hub") from error
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{hub_id} is neither a folder here nor to be had from the Hugging Face hub ({reason})"
        ) from error
