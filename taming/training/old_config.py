"""The published layout of configs and run directories -> ours, in one place.

    model: {base_learning_rate, target, params}       the same
    data: {target: main.DataModuleFromConfig, ...}    the same, by its present target
    lightning:
      trainer: {gpus: "0,", max_epochs: 5, ...}       trainer.*, training.precision, ...
      callbacks: {image_logger: {...}, ...}           training.pictures_every, training.pictures
      modelcheckpoint, logger                         the run directory has its own

Every translation is told once, in the spelling of today; what is unknown is an error that names the
nearest word. What the published code did without being told (no averaged weights, a constant
learning rate, Adam of its own for each stage) is set as well, so that an old config trains as it
always did; the sections `training` and `trainer`, which old configs do not have, overrule it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from taming._old_paths import MAIN, new_target
from taming.checkpoint import CheckpointError
from taming.config import ConfigError, get_obj_from_str, load_config, nearest, plain
from taming.finding import CONFIG
from taming.first_stage.vqgan import VQModel
from taming.training.callbacks import MONITOR
from taming.training.old_trainer import modern_option, words_of
from taming.training.sections import without_weights

logger = logging.getLogger(__name__)

LIGHTNING = ("trainer", "modelcheckpoint", "callbacks", "logger")
# What the callbacks were that came with a name alone.
CALLBACKS = {"image_logger": "ImageLogger", "setup_callback": "SetupCallback"} | {
    "learning_rate_logger": "LearningRateMonitor"
}
IMAGE_LOGGER = ("batch_frequency", "max_images", "clamp", "increase_log_steps")
LOSS = "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator"
LOGGERS = ("TestTubeLogger", "TensorBoardLogger")  # what the run's own replaces
CHECKPOINTS = (
    *("dirpath", "filepath", "filename", "prefix", "verbose", "monitor", "mode", "save_last"),
    *("save_top_k", "save_weights_only", "period", "every_n_train_steps", "every_n_epochs"),
    *("every_n_val_epochs", "train_time_interval", "auto_insert_metric_name"),
)
PUBLISHED: dict[str, Any] = {
    "seed": 23,
    "training.ema_decay": 0.0,
    "training.decay": "constant",
    "training.warmup_steps": 0,
    "training.restart_every": 0,
    "training.precision": "float32",
    "training.pictures_every": 750,
    "training.pictures": 4,
}
FIRST_STAGE = {"training.betas": [0.5, 0.9], "training.weight_decay": 0.0}
# Of the trainer, where nothing else is said: how long, and on how many devices.
LENGTH, LENGTHS = {"trainer.max_epochs": 1000}, ("max_epochs", "max_steps", "max_time")
DEVICES, PLACES = {"trainer.devices": 1}, ("devices", "strategy", "num_nodes")


def is_old(config: Mapping[str, Any]) -> bool:
    """Whether a config has the published layout."""
    data = config.get("data") or {}
    target = data.get("target") if isinstance(data, Mapping) else None
    return "lightning" in config or str(target).startswith((f"{MAIN}.", f"taming.{MAIN}."))


def modern_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config in our layout; ConfigError for a key that no version of it knew."""
    rest = dict(config)
    lightning = rest.pop("lightning", None) or {}
    _check(lightning, LIGHTNING, "lightning")
    rest["data"] = _data(rest.get("data"))
    translated: dict[str, Any] = {}
    for key, value in (lightning.get("trainer") or {}).items():
        if value is not None:
            _tell(f"lightning.trainer.{key}", modern := modern_option(key, value))
            translated |= modern.settings
    more = _callbacks(lightning.get("callbacks") or {})
    more += _logger(lightning.get("logger") or {})
    more += _checkpoints(lightning.get("modelcheckpoint") or {})
    for settings in more:
        translated |= settings
    own = {key: rest.pop(key) for key in ("training", "trainer") if rest.get(key)}
    merged = _merged(nested(_usual(rest)), rest, nested(translated), own)
    _drop_pixel_weight(merged)
    return _told_defaults(merged, config)


def _data(section: Any) -> Any:
    if not isinstance(section, Mapping) or "target" not in section:
        return section
    try:
        return {**section, "target": new_target(section["target"]) or section["target"]}
    except KeyError:
        return section  # whoever builds it says what is known


def _drop_pixel_weight(config: Mapping[str, Any]) -> None:
    """The published loss kept this weight and never used it; ours does."""
    where = "model.params.lossconfig"
    params = _at(config, f"{where}.params") or {}
    if _at(config, f"{where}.target") == LOSS and "pixelloss_weight" in params:
        del params["pixelloss_weight"]
        _tell(f"{where}.params.pixelloss_weight", "left out, as it changed nothing")


def _usual(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the published code did for this model without being told."""
    model = config.get("model") or {}
    kind = get_obj_from_str(model["target"]) if "target" in model else None
    is_first = isinstance(kind, type) and issubclass(kind, VQModel)
    return {**PUBLISHED, **FIRST_STAGE} if is_first else dict(PUBLISHED)


def _told_defaults(config: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Length and devices where nothing is said; pictures are counted in steps, not in batches."""
    trainer, training = config.get("trainer") or {}, config["training"]
    settings: dict[str, Any] = {}
    if training.get("max_minutes") is None and not any(trainer.get(key) for key in LENGTHS):
        settings |= LENGTH
    if not any(key in trainer for key in PLACES):
        settings |= DEVICES
    batches = int(trainer.get("accumulate_grad_batches") or 1)
    if "pictures_every" not in (given.get("training") or {}):
        settings["training.pictures_every"] = -(-training["pictures_every"] // batches)
    config = _merged(config, nested(settings))
    shown = {**PUBLISHED, **FIRST_STAGE, **settings}
    values = {key: _at(config, key) for key in shown if _at(config, key) is not None}
    logger.info("as published, unless said otherwise: %s", " ".join(words_of(values)))
    return config


# --- callbacks, loggers, checkpoints -------------------------------------------------------------


def _callbacks(sections: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    others = []
    for name, section in sections.items():
        where = f"lightning.callbacks.{name}"
        section = dict(section or {})
        params = section.get("params") or {}
        target = str(section.get("target") or CALLBACKS.get(name, ""))
        kind = target.rpartition(".")[2]
        if not target:
            raise ConfigError(f"{where} has no target; {nearest(name, CALLBACKS)}")
        if kind == "ImageLogger":
            found.append(_image_logger(params, where))
        elif kind in CALLBACKS.values():
            _tell(where, "the run directory and its history.csv hold this")
        else:
            others.append({"target": target, "params": _monitoring(params)})
            _tell(where, f"a section in trainer.callbacks: {others[-1]['params']}")
    return [*found, {"trainer.callbacks": others}] if others else found


def _monitoring(params: Mapping[str, Any]) -> dict[str, Any]:
    """What is watched, under the name by which it is logged today."""
    is_old = str(params.get("monitor", "")).startswith("val/")
    return {**params, "monitor": MONITOR} if is_old else dict(params)


def _image_logger(params: Mapping[str, Any], where: str) -> dict[str, Any]:
    _check(params, IMAGE_LOGGER, f"{where}.params")
    names = {"batch_frequency": "training.pictures_every", "max_images": "training.pictures"}
    settings = {names[key]: int(value) for key, value in params.items() if key in names}
    if settings.get("training.pictures") == 0:
        settings = {"training.pictures_every": 0}
    _tell(where, " ".join(words_of(settings)) or "the run's own grids")
    return settings


def _logger(section: Mapping[str, Any]) -> list[dict[str, Any]]:
    if not section:
        return []
    target = str(section.get("target") or LOGGERS[0])
    if target.rpartition(".")[2] in LOGGERS:
        _tell("lightning.logger", "curves are in tensorboard/ and history.csv of the run")
        return []
    _tell("lightning.logger", "a section in trainer.logger")
    params = dict(section.get("params") or {})
    return [{"trainer.logger": [{"target": target, "params": params}]}]


def _checkpoints(section: Mapping[str, Any]) -> list[dict[str, Any]]:
    params = section.get("params") or {}
    _check(params, CHECKPOINTS, "lightning.modelcheckpoint.params")
    if not section:
        return []
    settings = {"training.keep": "best"} if params.get("monitor") else {}
    always = "the run directory keeps the last checkpoint and the weights"
    _tell("lightning.modelcheckpoint", " ".join([*words_of(settings), f"({always})"]))
    return [settings]


# --- run directories of main.py ------------------------------------------------------------------


class OldRun(NamedTuple):
    folder: Path
    configs: list[Path]
    checkpoint: Path


def find_old_run(what: str | Path) -> OldRun | None:
    """The run of `main.py` that a folder or a checkpoint in it belongs to; None if it is none."""
    path = Path(what)
    folders = [path] if path.is_dir() else list(path.parents)[:2] if path.is_file() else []
    for folder in folders:
        configs = sorted((folder / "configs").glob("*.yaml"))
        # Other folders have configs, too, such as that of this project.
        is_run = bool(configs) and (folder / "checkpoints").is_dir()
        if is_run and not (folder / CONFIG).is_file():
            checkpoint = path if path.is_file() else folder / "checkpoints" / "last.ckpt"
            if not checkpoint.is_file():
                others = [file.name for file in (folder / "checkpoints").glob("*.ckpt")]
                raise CheckpointError(
                    f"{checkpoint} does not exist; "
                    + (f"name one of {', '.join(sorted(others))}" if others else "nothing to go on")
                )
            return OldRun(folder, configs, checkpoint)
    return None


def old_run_config(run: OldRun, given: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a new run that starts from the weights of an old one; `given` on top."""
    left = plain(load_config(run.configs))
    # What that run had once gone on from is not what was named now.
    ((left.get("lightning") or {}).get("trainer") or {}).pop("resume_from_checkpoint", None)
    config = _merged(left, given)
    config["model"] = without_weights(config["model"])
    config["model"]["params"]["ckpt_path"] = str(run.checkpoint)
    config.setdefault("name", run.folder.name)
    logger.info(
        "%s is a run of the published main.py: a new run starts from the weights of %s; the state "
        "of its optimisers and its step are not restored",
        run.folder, run.checkpoint.name,
    )  # fmt: skip
    return config


# --- small parts ---------------------------------------------------------------------------------


def _tell(old: str, new: Any) -> None:
    logger.info("%s is now: %s", old, new)


def _check(section: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in section:
        if key not in known:
            raise ConfigError(f"{where}: unknown key '{key}'; {nearest(str(key), known)}")


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name as sections in sections."""
    sections: dict[str, Any] = {}
    for dotted, value in settings.items():
        *folders, last = dotted.split(".")
        inner = sections
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[last] = value
    return sections


def _at(config: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        config = config.get(key) if isinstance(config, Mapping) else None
    return config


def _merged(*configs: Mapping[str, Any]) -> dict[str, Any]:
    return plain(OmegaConf.merge(*(OmegaConf.create(dict(config)) for config in configs)))
