"""From a name to a model: a run directory, a file of weights, a hub id or the bundled model.

A model on disk is a configuration and a file of weights, and stands alone: a second stage contains
its first stage. Runs and published models of the original open as they are; finding.py says which
files belong together. Files are read without running code from them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from taming.checkpoint import load_weights, read_state_dict
from taming.config import ConfigError, get_obj_from_str, instantiate_from_config
from taming.finding import CONFIG, WEIGHTS, Found, find, for_inference, model_section
from taming.first_stage.vqgan import VQModel
from taming.pipeline import Pipeline
from taming.prefix_pipeline import PrefixPipeline
from taming.transformer.multi_task import MultiTaskTransformer
from taming.transformer.net2net import Net2NetTransformer

__all__ = ["CONFIG", "WEIGHTS", "expand_first_stage", "for_inference", "load", "load_model"]

logger = logging.getLogger(__name__)

PRECISIONS = {"float32": torch.float32, "bf16": torch.bfloat16}
Model = MultiTaskTransformer | Net2NetTransformer | VQModel


def load(
    what: str | Path,
    *,
    config: str | Path | None = None,  # where it does not lie beside the weights
    device: str = "cpu",
    precision: str = "float32",
) -> Pipeline | PrefixPipeline:
    """A pipeline from "bundled", a run directory, a file of weights, or a hub id "owner/name".

    `precision` is "float32" or "bf16" (half the memory, several times faster on processors with
    bf16 units; pictures differ by rounding).
    """
    if precision not in PRECISIONS:
        raise ValueError(f'precision is "{precision}"; give one of {", ".join(PRECISIONS)}')
    found = find(what, config)
    model = load_model(found).to(device, PRECISIONS[precision])
    if isinstance(model, Net2NetTransformer):
        return PrefixPipeline(model, name=found.name)
    return Pipeline(model, name=found.name)


def load_model(what: str | Path | Found) -> Model:
    """The model itself on the CPU, in evaluation mode."""
    found = what if isinstance(what, Found) else find(what)
    model = instantiate_from_config(for_inference(model_section(found.config)))
    if not isinstance(model, Model):
        raise ConfigError(f"{found.config} describes a {type(model).__name__}, which cannot paint")
    load_weights(model, read_state_dict(found.weights), source=str(found.weights))
    return model.eval().requires_grad_(False)


def expand_first_stage(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """`first_stage_config: runs/name` written out: the run's own config and its weights."""
    config = deepcopy(dict(model_config))
    params = dict(config.get("params") or {})
    named = params.get("first_stage_config")
    if isinstance(named, str) and not named.startswith("__"):
        found = find(named)
        section = for_inference(model_section(found.config))
        if not issubclass(get_obj_from_str(section["target"]), VQModel):
            raise ConfigError(
                f"first_stage_config names {named}, which is a {section['target']}; give the run "
                f"of a first stage"
            )
        section["params"]["ckpt_path"] = str(found.weights)
        params["first_stage_config"] = section
        config["params"] = params
    return config
