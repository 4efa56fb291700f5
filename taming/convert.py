"""Any old checkpoint to a folder that stands alone: config.yaml and weights.safetensors.

    taming convert logs/2020-11-20T12-54-32_drin converted/drin

Targets are written as they are called today, losses and what only training needs are left out, and
the result is read back before it gets its name. A part of a transformer's checkpoint becomes a
folder of its own in the same way; a first stage whose decoder has learned on takes the place of the
one within. Knows nothing of what a model computes.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from taming.checkpoint import (
    DECODING,
    FIRST_STAGE,
    LOSS_KEYS,
    CheckpointError,
    load_weights,
    read_first_stage,
    read_shapes,
    read_state_dict,
    save_weights,
    without_prefix,
)
from taming.config import ConfigError, get_model_class, instantiate_model, to_yaml
from taming.finding import (
    CONFIG,
    WEIGHTS,
    find,
    first_stage_section,
    for_inference,
    model_section,
)

PARTS = {  # by name: section of the config, prefix of the keys
    "first_stage": ("first_stage_config", FIRST_STAGE),
    "cond_stage": ("cond_stage_config", "cond_stage_model."),
    "transformer": ("transformer_config", "transformer."),
}


def convert(
    source: str | Path,  # what `taming.load` opens: a checkpoint, a run directory, a hub id
    out: str | Path,  # the folder to be made
    config: str | Path | None = None,  # YAML of the model, where it is not found by itself
    part: str | None = None,  # one of PARTS
    keep_losses: bool = False,  # to go on training with the discriminator
    half: bool = False,  # bfloat16: half the size, weights rounded to three digits
    first_stage: str | Path | None = None,  # of the same codes, in place of the one within
    progress: Callable[[int, int], None] | None = None,  # MB written, of how many
) -> Path:
    """Writes the folder and returns it; on any error nothing is left behind.

    Raises CheckpointError where weights and configuration do not fit each other.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} exists already; name another folder, or remove it first")
    found = find(source, config)
    section = _with_new_targets(for_inference(model_section(found.config), keep_losses))
    state: Mapping[str, Tensor] = read_state_dict(found.weights)
    if first_stage is not None:
        section, state = with_first_stage(section, state, first_stage, keep_losses, str(source))
    if not keep_losses:
        state = {name: tensor for name, tensor in state.items() if not LOSS_KEYS.search(name)}
    if part is not None:
        section, state = extract(section, state, part, str(found.weights))
    model = _shapes_of(section)
    report = load_weights(model, state, source=str(found.weights))
    kept = {name: state[name] for name in report.matched}
    if half:
        kept = {name: _rounded(tensor) for name, tensor in kept.items()}

    partial = out.with_name(f".{out.name}.{secrets.token_hex(4)}.partial")
    try:
        save_weights(partial / WEIGHTS, kept, {"source": found.weights.name}, progress)
        text = to_yaml({"name": out.name, "model": section})
        (partial / CONFIG).write_text(text, encoding="utf-8")
        read_back = model_section(partial / CONFIG)
        load_weights(_shapes_of(read_back), read_shapes(partial / WEIGHTS), source=str(out))
        if out.exists():
            out.rmdir()  # empty; not every system replaces a folder
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return out


def extract(
    section: Mapping[str, Any], state: Mapping[str, Tensor], part: str, source: str = ""
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Section and weights of one part of a second stage, as a model of its own."""
    if part not in PARTS:
        raise ValueError(f"part is '{part}'; give one of {', '.join(PARTS)}")
    key, prefix = PARTS[part]
    described = section["params"].get(key)
    if described == "__is_first_stage__":
        described = section["params"]["first_stage_config"]
    if not isinstance(described, Mapping) or "target" not in described:
        holds = "it is a first stage by itself" if described is None else f"its {key} is no model"
        raise ConfigError(f"{source} has no {part} to extract: {holds}")
    weights = without_prefix(state, prefix)
    if not weights:
        raise CheckpointError(f"{source} holds no weights under {prefix}; its {part} has none")
    return dict(described), weights


def with_first_stage(
    section: Mapping[str, Any],
    state: Mapping[str, Tensor],
    other: str | Path,  # what `find` finds
    keep_losses: bool = False,
    source: str = "",
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Section and weights of a second stage around another first stage that makes the same codes.

    CheckpointError where it makes others, of which the second stage knows nothing.
    """
    key = PARTS["first_stage"][0]
    before = without_prefix(state, FIRST_STAGE)
    if not before or key not in section["params"]:
        raise CheckpointError(f"{source} holds no first stage that {other} could replace")
    found = find(other)
    weights = read_first_stage(found.weights)
    for name in sorted(before.keys() | weights.keys()):
        if name.startswith(DECODING) or LOSS_KEYS.search(name):
            continue
        old, new = before.get(name), weights.get(name)
        if old is None or new is None or not torch.equal(old.float(), new.float()):
            raise CheckpointError(
                f"{found.weights} makes other codes than {source} has learned: {name} is not the "
                f"same. Let only its decoder learn, by training.keep_codes=true"
            )
    others = {name: each for name, each in state.items() if not name.startswith(FIRST_STAGE)}
    others |= {FIRST_STAGE + name: each for name, each in weights.items()}
    described = _with_new_targets(first_stage_section(found.config, keep_losses))
    return {**section, "params": {**section["params"], key: described}}, others


def _with_new_targets(value: Any) -> Any:
    """The same with every target as it is called today."""
    if isinstance(value, list):
        return [_with_new_targets(entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    renamed = {key: _with_new_targets(entry) for key, entry in value.items()}
    if isinstance(value.get("target"), str):
        found = get_model_class(value["target"])
        renamed["target"] = f"{found.__module__}.{found.__qualname__}"
    return renamed


def _rounded(tensor: Tensor) -> Tensor:
    return tensor.bfloat16() if tensor.is_floating_point() else tensor


def _shapes_of(section: Mapping[str, Any]) -> nn.Module:
    """The model without memory for its parameters."""
    with torch.device("meta"):
        return instantiate_model(section)
