"""The config of a run: its sections checked, completed by what the data decides, and as written.

Knows the layout of `taming train`; the published one is brought to it by `old_config`.
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from taming.config import RATES, ConfigError, from_mapping, get_obj_from_str, nearest, plain
from taming.finding import for_inference
from taming.loading import expand_names
from taming.training.codes_data import CodesData
from taming.training.settings import TrainingSettings

logger = logging.getLogger(__name__)

SECTIONS = ("name", "seed", "model", "data", "training", "trainer")
SECTION = ("target", "params")  # of an object; `model` has its learning rate beside them


def check_sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with every section there; unknown ones are errors."""
    for key in config:
        if key not in SECTIONS:
            raise ConfigError(f"unknown section '{key}' of the config; {nearest(key, SECTIONS)}")
    for key in ("model", "data"):
        if key not in config:
            raise ConfigError(f"the config has no section '{key}'")
        check_object(config[key], key)
    for key in config["model"]:
        if key not in (*SECTION, *RATES):
            raise ConfigError(f"model: unknown key '{key}'; {nearest(key, (*SECTION, *RATES))}")
    settings = from_mapping(TrainingSettings, config.get("training") or {}, "training")
    trainer = dict(config.get("trainer") or {})
    # A cosine is as long as the training, also of one that goes on for longer: None stays here.
    is_open = settings.decay == "cosine" and settings.decay_steps is None
    if is_open and int(trainer.get("max_steps") or -1) < 1:
        raise ConfigError(
            "training.decay is cosine, but nothing says how long: give training.decay_steps or "
            "trainer.max_steps"
        )
    return {
        "name": str(config.get("name") or "run"),
        "seed": _seed(config.get("seed")),
        "model": deepcopy(dict(config["model"])),
        "data": dict(config["data"]),
        "training": vars(settings).copy(),
        "trainer": trainer,
    }


def check_object(section: Any, where: str) -> None:
    """ConfigError where a section is not one of an object: a target, with its params or without."""
    if not isinstance(section, Mapping) or not isinstance(section.get("target"), str):
        raise ConfigError(
            f"{where} is {plain(section)!r:.60}; give a section with a target, the path of "
            "a class, and params"
        )
    if not isinstance(section.get("params") or {}, Mapping):
        raise ConfigError(f"{where}.params is {section['params']!r:.60}; give a section of them")


def _seed(value: Any) -> int:
    """A whole number; 0 where none is given."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise ConfigError(f"seed is {value!r}; give a whole number from 0 to 4294967295")
    return value


def seeded(data: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The data section with the config's seed, where it takes one and has none of its own."""
    params = dict(data.get("params") or {})
    accepted = inspect.signature(get_obj_from_str(data["target"])).parameters.values()
    if any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in accepted):
        params.setdefault("seed", seed)
    return {**data, "params": params}


def complete_model_config(model: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """What the data decides, written into the model's config: vocabularies and picture sizes."""
    model = expand_names(model)
    params = model.get("params") or {}
    conditions = params.get("cond_stage_config")
    if not isinstance(conditions, Mapping) or SECTION[0] in conditions:
        return model  # a first stage, or the published second stage, which has one condition
    for name, section in conditions.items():
        check_object(section, f"cond_stage_config.{name}")
        words = get_obj_from_str(section["target"]).vocabulary
        if words is None:
            continue
        section["params"] = own = dict(section.get("params") or {})
        if list(own.setdefault("names", getattr(data, words))) != list(getattr(data, words)):
            raise ConfigError(
                f"cond_stage_config.{name} has {len(own['names'])} names, data.params.{words} "
                f"{len(getattr(data, words))} others, so that one id would mean two things; give "
                f"both the same list, or neither"
            )
    if isinstance(data, CodesData):
        data.settings.check(conditions)
    if "sizes" not in params:
        params["sizes"] = sorted({tuple(size) for size in data.train.sizes})
    return model


def warn_without_first_stage(model: Mapping[str, Any]) -> None:
    """A second stage would learn the codes of an untrained first one without complaint."""
    params = model.get("params") or {}
    first_stage = params.get("first_stage_config")
    if not isinstance(first_stage, Mapping):
        return
    sections = (params, first_stage.get("params") or {})
    if not any(section.get("ckpt_path") for section in sections):
        logger.warning("the first stage has no weights; name its run in first_stage_config")


def for_reading(config: Mapping[str, Any]) -> dict[str, Any]:
    """The resolved config without weights to start from: the run directory carries its own."""
    return {**config, "model": without_weights(config["model"])}


def without_weights(model: Mapping[str, Any]) -> dict[str, Any]:
    """A model's config that starts afresh, and so do the stages within it."""
    return {**model, **for_inference(model, keep_losses=True)}


def learning_rate(config: Mapping[str, Any], batch_size: int, devices: int) -> float:
    """Base rate x batch x devices x accumulation, as it always was here; or `learning_rate`."""
    model, trainer = config["model"], config["trainer"]
    if model.get("learning_rate") is not None:
        fixed = _rate(model, "learning_rate")
        if model.get("base_learning_rate") is not None:
            logger.warning("model.base_learning_rate means nothing beside model.learning_rate")
        logger.info("learning rate %.2e", fixed)
        return fixed
    base = _rate({"base_learning_rate": 4.5e-6, **model}, "base_learning_rate")
    accumulation = int(trainer.get("accumulate_grad_batches") or 1)
    rate = base * batch_size * devices * accumulation
    logger.info(
        "learning rate %.1e x %d images x %d devices x %d accumulated = %.2e",
        base, batch_size, devices, accumulation, rate,
    )  # fmt: skip
    return rate


def _rate(model: Mapping[str, Any], key: str) -> float:
    """A learning rate of the model section; YAML takes 1e-4 for a word."""
    try:
        rate = float(model[key])
    except (TypeError, ValueError):
        rate = math.nan
    if not 0.0 <= rate < math.inf:
        raise ConfigError(f"model.{key} is {model[key]!r}; give a number such as 4.5e-6")
    return rate
