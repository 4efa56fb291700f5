"""From a name to a model: a run directory, a file of weights, a hub id or the bundled model.

A model on disk is a configuration and a file of weights, and stands alone: a second stage contains
its first stage. Runs and published models of the original open as they are; finding.py says which
files belong together. Files are read without running code from them.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from taming.checkpoint import FIRST_STAGE, load_weights, read_state_dict
from taming.config import ConfigError, get_model_class, instantiate_model, load_config, plain
from taming.data.image_list import pair
from taming.finding import (
    CONFIG,
    STAGES,
    WEIGHTS,
    Found,
    find,
    first_stage_section,
    for_inference,
    model_section,
)
from taming.first_stage.vqgan import VQModel
from taming.pipeline import Pipeline
from taming.prefix_pipeline import PrefixPipeline
from taming.transformer.gpt_decoder import pack_gpt
from taming.transformer.multi_task import MultiTaskTransformer
from taming.transformer.net2net import Net2NetTransformer
from taming.transformer.prepared import can_pack, pack

__all__ = ["CONFIG", "WEIGHTS", "expand_names", "for_inference", "load", "load_model"]

logger = logging.getLogger(__name__)

PRECISIONS = ("float32", "bf16", "int8")
Model = MultiTaskTransformer | Net2NetTransformer | VQModel


def load(
    what: str | Path,
    *,
    config: str | Path | None = None,  # where it does not lie beside the weights
    device: str = "cpu",  # or cuda, cuda:1, mps; auto: cuda or cpu
    precision: str = "float32",
) -> Pipeline | PrefixPipeline:
    """A pipeline from "bundled", a run directory, a file of weights, or a hub id "owner/name".

    `precision` is "float32", "bf16" (half the memory, faster; pictures differ by rounding) or
    "int8" (8 bits for the weights of the transformer's layers, on x86 processors; they differ
    more). Smaller weights are read in less time, which is what painting waits for.
    """
    if precision not in PRECISIONS:
        raise ValueError(f'precision is "{precision}"; give one of {", ".join(PRECISIONS)}')
    chosen = torch.device(usable_device(device))
    found = find(what, config)
    model = lighten(load_model(found), precision, chosen)
    if isinstance(model, Net2NetTransformer):
        sizes = trained_sizes(load_config(found.config))
        return PrefixPipeline(model, name=found.name, sizes=sizes, precision=precision)
    return Pipeline(model, name=found.name, precision=precision)


def trained_sizes(config: Mapping[str, Any]) -> list[tuple[int, int]]:
    """H x W of the pictures that a run's config trained on, where its data section says so.

    Nothing else of that section is looked at: it may name what is not here.
    """
    try:
        default = config["data"]["params"].get("size")
        sets = config["data"]["params"].get("sets") or [{}]
        own = [each.get("size") if hasattr(each, "get") else None for each in sets]
        given = [plain(default if size is None else size) for size in own]
        sizes = [pair(size) for size in given if not isinstance(size, str)]
    except (AttributeError, KeyError, TypeError, ValueError, OmegaConfBaseException):
        return []  # the section of a data module of another kind
    return list(dict.fromkeys(sizes))


def usable_device(name: str) -> str:
    """`auto` is the graphics card if there is one; ValueError where a device cannot be used."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device '{name}' cannot be used here ({reason}); try cpu") from error
    return name


def lighten(model: Model, precision: str, device: torch.device) -> Model:
    """The model on its device, in less memory, changed in place; it cannot be trained any more."""
    if precision == "int8":
        if device.type != "cpu" or not can_pack():
            raise ValueError('precision "int8" needs an x86 processor; use "bf16"')
        if isinstance(model, VQModel):
            raise ValueError('precision "int8" is for second stages; use "bf16" for a first stage')
    parts: list[nn.Module] = [model]
    if isinstance(model, Net2NetTransformer) and device.type == "cpu" and can_pack():
        if precision != "float32":
            pack_gpt(model.transformer, "int8" if precision == "int8" else "bf16")
            parts = [part for part in model.children() if part is not model.transformer]
    elif isinstance(model, MultiTaskTransformer) and precision == "int8":
        pack(model.transformer.content, "int8")
        pack(model.transformer.query_blocks, "int8")
    for part in parts:
        part.to(device, torch.bfloat16 if precision == "bf16" else None)
    return model


def load_model(what: str | Path | Found) -> Model:
    """The model itself on the CPU, in evaluation mode."""
    found = what if isinstance(what, Found) else find(what)
    section = for_inference(model_section(found.config))
    kind = get_model_class(section["target"])
    if not (inspect.isclass(kind) and issubclass(kind, Model)):
        raise ConfigError(f"{found.config} describes a {section['target']}, which cannot paint")
    with _Unfilled():
        model: Model = instantiate_model(section)
    # Shared with the file, which is mapped: in memory once, and read when they are used.
    load_weights(model, read_state_dict(found.weights), source=str(found.weights), share=True)
    return model.eval().requires_grad_(False)


class _Unfilled(TorchFunctionMode):
    """Parameters built here get no random numbers: all are read from a file, which fits or fails.

    Memory that nothing has been written to is not taken yet.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_) and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))


def expand_names(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """Models that a config names, written out as their own configs and files of weights.

    `first_stage_config: runs/name` is that run, or the first stage within it; so is "bundled".
    `ckpt_path` may name a run as well as a file.
    """
    config = deepcopy(dict(model_config))
    params = dict(config.get("params") or {})
    named = params.get("first_stage_config")
    if isinstance(named, str) and not named.startswith("__"):
        found = find(named)
        section = first_stage_section(found.config)
        if not issubclass(get_model_class(section["target"]), VQModel):
            raise ConfigError(
                f"first_stage_config names {named}, which is a {section['target']}; give the run "
                f"of a first stage, or of a second one that holds one"
            )
        section["params"]["ckpt_path"] = str(found.weights)
        params["first_stage_config"] = section
        if params.get("ckpt_path") and not _ignores(params, FIRST_STAGE):
            logger.warning(
                "%s brings a first stage, which replaces %s where it fits; to keep that, give "
                "model.params.ignore_keys=[%s]", params["ckpt_path"], named, FIRST_STAGE,
            )  # fmt: skip
    for part in (params, *(_params(params.get(stage)) for stage in STAGES)):
        begun = str(part.get("ckpt_path") or "")
        if begun == "bundled" or (begun and Path(begun).is_dir()):
            part["ckpt_path"] = str(find(begun).weights)
    return {**config, "params": params} if params else config


def _ignores(params: Mapping[str, Any], prefix: str) -> bool:
    """Whether tensors of this prefix are not read from `ckpt_path`."""
    keys = params.get("ignore_keys") or ()
    return prefix.startswith((keys,) if isinstance(keys, str) else tuple(keys))


def _params(section: Any) -> dict[str, Any]:
    """The params of a section that is a model's, to be changed."""
    return section.get("params") or {} if isinstance(section, Mapping) else {}
