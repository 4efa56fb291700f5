"""From a config to a run directory: builds everything, trains, leaves a model that stands alone.

    runs/<name>/  config.yaml  weights.safetensors  checkpoints/last.ckpt
                  images/  history.csv  train.log

The config that is written is the resolved one: vocabularies, sizes and the first stage's own config
are in it, so that `taming.load` needs nothing else.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import nn

from taming.checkpoint import CheckpointError, load_weights, read_state_dict
from taming.config import (
    ConfigError,
    check_arguments,
    from_mapping,
    instantiate_from_config,
    instantiate_model,
    load_config,
    plain,
)
from taming.first_stage.vqgan import VQModel
from taming.loading import CONFIG
from taming.training.cache import Progress
from taming.training.callbacks import (
    HISTORY,
    LAST,
    AtomicCheckpointIO,
    SaveRun,
    StopWhenAsked,
    TimeLimit,
    WriteHistory,
    WritePictures,
)
from taming.training.codes_data import CACHE, CodesData
from taming.training.old_config import find_old_run, is_old, modern_config, old_run_config
from taming.training.progress import ProgressBar
from taming.training.report import report
from taming.training.run_directory import (
    RUNS,
    is_first_process,
    logged_to,
    new_run_directory,
    run_directory,
    told_to_processes,
    written_config,
)
from taming.training.sections import (
    SECTION,
    check_sections,
    complete_model_config,
    learning_rate,
    seeded,
    warn_without_first_stage,
)
from taming.training.settings import TrainingSettings
from taming.transformer.multi_task import MultiTaskTransformer
from taming.transformer.net2net import Net2NetTransformer

logger = logging.getLogger(__name__)

WHOLE = ("max_steps", "min_steps", "max_epochs", "min_epochs", "accumulate_grad_batches")


def train(
    config: Mapping[str, Any],
    resume: str | Path | None = None,
    dry_run: bool = False,
    name: str | None = None,
    runs: str | Path = RUNS,  # folder in which the run directory is made
) -> Path:
    """Train what the config describes; returns the run directory.

    `resume` is a run directory: its own config is used, with the sections given here on top, and
    the loss sequence goes on as if it had never stopped. A folder or checkpoint that was left by
    the published `main.py` is where a new run takes its config and weights from.
    """
    old = None if resume is None else find_old_run(resume)
    if old is not None:
        config, resume = old_run_config(old, plain(config)), None
    folder = None if resume is None else run_directory(Path(resume))
    if folder is not None:
        if name is not None:
            raise ConfigError(
                f"{folder} goes on under its own name, not as '{name}'; leave the name out, or "
                "begin a new run from its weights with model.params.ckpt_path"
            )
        if not (folder / LAST).is_file():
            raise CheckpointError(f"{folder} cannot be resumed: {folder / LAST} does not exist")
        config = resumed_config(load_config(folder / CONFIG), config)
    config = plain(config)
    config = check_sections(modern_config(config) if is_old(config) else config)
    pl.seed_everything(config["seed"], verbose=False)
    config["data"] = seeded(config["data"], config["seed"])
    data = instantiate_from_config(config["data"])
    config["model"] = complete_model_config(config["model"], data)
    if folder is None:
        warn_without_first_stage(config["model"])
    from_mapping(TrainingSettings, config["training"], "training")
    check_trainer(config["trainer"])
    if dry_run:
        report(config, data)
        learning_rate(config, batch_size(config, data), stated_devices(config["trainer"]))
        return folder or Path(runs) / (name or config["name"])
    model = instantiate_model({k: v for k, v in config["model"].items() if k in SECTION})
    # Only now, so that a config with a mistake leaves no run directory behind.
    checkpoint = None if folder is None else folder / LAST
    folder = folder or new_run_directory(name or config["name"], Path(runs))
    try:
        log = logged_to(folder / "train.log")
        with told_to_processes(folder), log, written_config(folder, config):
            _fit(model, data, config, folder, checkpoint)
    except (ValueError, OSError):
        # Nor does a mistake in what the config names, unless something was made that took time.
        has_begun = any((folder / made).exists() for made in (LAST, HISTORY, CACHE))
        if is_first_process() and not has_begun:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def resumed_config(begun: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The config that a run was begun with, and what is given on top of it."""
    config = plain(OmegaConf.merge(begun, OmegaConf.create(plain(given))))
    had, wanted = (
        (plain(each).get("training") or {}).get("optimizer", "adamw") for each in (begun, config)
    )
    if had != wanted:
        raise ConfigError(
            f"training.optimizer is {wanted}, and the run was begun with {had}; go on with that, "
            f"or start a new run from its weights with model.params.ckpt_path"
        )
    return config


def _fit(
    model: nn.Module, data: Any, config: dict[str, Any], folder: Path, checkpoint: Path | None
) -> None:
    if checkpoint is not None:
        # Before the trainer does it: codes may be cached, and their first stage checked, earlier.
        load_weights(model, read_state_dict(checkpoint), source=str(checkpoint))
    if hasattr(data, "attach"):
        data.attach(model, folder)
    options = {key: value for key, value in config["trainer"].items() if value is not None}
    own = {key: options.pop(key) for key in OWN_OPTIONS if key in options and is_manual(model)}
    settings = from_mapping(TrainingSettings, config["training"], "training")
    callbacks, loggers = (_built(options, key) for key in ("callbacks", "logger"))
    trainer = make_trainer(
        {**DEFAULTS, "log_every_n_steps": settings.log_every, **options},
        default_root_dir=folder,
        logger=[*_loggers(folder), *loggers] or False,
        callbacks=[*callbacks, *_callbacks(folder, settings)],
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    rate = learning_rate(config, batch_size(config, data), trainer.world_size)
    module = wrap(model, settings=settings, learning_rate=rate, **own)
    with warnings.catch_warnings():
        for message in NOT_SO:
            warnings.filterwarnings("ignore", message)
        # The checkpoint is read as tensors and plain values, never as code.
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)


def _built(options: dict[str, Any], key: str) -> list[Any]:
    """What a config adds to the run's own callbacks and loggers: a list of sections."""
    sections = options.pop(key, None)
    sections = [] if sections is None else sections
    if not isinstance(sections, list):
        raise ConfigError(
            f"trainer.{key} is {sections!r}; the run directory has its own, more are given as a "
            f"list of sections with target and params"
        )
    return [instantiate_from_config(section) for section in sections]


def stated_devices(options: Mapping[str, Any]) -> int:
    """How many devices a config asks for; 1 where it leaves that to the machine."""
    devices, nodes = options.get("devices"), options.get("num_nodes") or 1
    if isinstance(devices, list | tuple):
        return len(devices) * nodes
    number = str(devices)
    return (int(number) if number.isdigit() else 1) * nodes


def batch_size(config: Mapping[str, Any], data: Any) -> int:
    """Pictures a step on each device; data modules of others may not say, their config does."""
    found = getattr(data, "batch_size", None)
    found = (config["data"].get("params") or {}).get("batch_size") if found is None else found
    if found is None:
        raise ConfigError("data.params has no batch_size, which the learning rate depends on")
    return int(found)


def make_trainer(options: Mapping[str, Any], **ours: Any) -> pl.Trainer:
    """Lightning's trainer with the options of a config; what it refuses is a ConfigError."""
    for key in options:
        if key in ours:
            raise ConfigError(f"trainer.{key} belongs to the run directory; leave it out")
    check_arguments(pl.Trainer, options, "trainer")
    # It announces devices and gives tips. Here, because its import sets the level.
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    try:
        return pl.Trainer(**options, **ours)
    except (MisconfigurationException, TypeError, ValueError) as error:
        remedy = "; without one: trainer.accelerator=cpu trainer.devices=1"
        is_absent = "backend found" in str(error)
        raise ConfigError(f"trainer: {error}{remedy if is_absent else ''}") from error


def check_trainer(options: Mapping[str, Any]) -> None:
    """ConfigError for what Lightning's trainer does not know, or would only stumble over later."""
    check_arguments(pl.Trainer, options, "trainer")
    for key in WHOLE:
        if not isinstance(options.get(key), int | None):
            raise ConfigError(f"trainer.{key} is {options[key]!r}; give a whole number")


def encode(
    config: Mapping[str, Any],
    out: str | Path | None = None,  # None: what the config says, else cache/<name>
    progress: Progress | None = None,
    device: str = "cpu",
) -> Path:
    """Write the codes that a second stage reads, without training; returns their folder."""
    config = check_sections(plain(config))
    pl.seed_everything(config["seed"], verbose=False)
    data = instantiate_from_config(seeded(config["data"], config["seed"]))
    if not isinstance(data, CodesData):
        raise ConfigError(
            f"data.target is {config['data']['target']}, which reads no codes; a second stage has "
            f"taming.training.codes_data.CodesData"
        )
    model = complete_model_config(config["model"], data)
    warn_without_first_stage(model)
    built = instantiate_model({key: model[key] for key in SECTION if key in model})
    folder = Path(out or data.settings.cache or Path("cache") / config["name"])
    data.attach(built, folder, cache=folder)
    data.caches(progress, device)
    return folder


# Warnings of Lightning: our sampler does resume, and small pictures need few workers.
NOT_SO = (r".*your dataloader is not resumable", r".*does not have many workers")
# Of the trainer. A training has no length but in steps or minutes.
DEFAULTS = {"num_sanity_val_steps": 0, "max_epochs": -1}
# Manual optimisation leaves these to the module; see `taming.training.first_stage`.
OWN_OPTIONS = ("accumulate_grad_batches", "gradient_clip_val", "max_steps")


def is_manual(model: nn.Module) -> bool:
    return isinstance(model, VQModel)


def wrap(
    model: nn.Module,
    settings: TrainingSettings | Mapping[str, Any] | None = None,
    learning_rate: float = 3e-4,
    **options: Any,
) -> Any:
    """A LightningModule for this model, for those who bring their own `pl.Trainer`.

    `settings` are those of the `training` section. A first stage optimises manually, so its
    `accumulate_grad_batches`, `gradient_clip_val` and `max_steps` are given here, not to the
    trainer, which should be made with `use_distributed_sampler=False`.
    """
    if not isinstance(settings, TrainingSettings):
        settings = from_mapping(TrainingSettings, settings or {}, "training")
    if isinstance(model, VQModel):
        from taming.training.first_stage import FirstStageTraining

        return FirstStageTraining(model, settings, learning_rate, **options)
    if isinstance(model, MultiTaskTransformer):
        from taming.training.second_stage import SecondStageTraining

        return SecondStageTraining(model, settings, learning_rate, **options)
    if isinstance(model, Net2NetTransformer):
        from taming.training.net2net import Net2NetTraining

        return Net2NetTraining(model, settings, learning_rate, **options)
    raise TypeError(
        f"there is no training for {type(model).__name__}; wrap a VQModel, a MultiTaskTransformer "
        f"or a Net2NetTransformer"
    )


def _loggers(folder: Path) -> list[Any]:
    try:
        from pytorch_lightning.loggers import TensorBoardLogger

        return [TensorBoardLogger(folder, name="", version="tensorboard")]
    except (ImportError, ModuleNotFoundError):
        logger.warning('no curves in TensorBoard: pip install "taming[train]"')
        return []


def _callbacks(folder: Path, settings: TrainingSettings) -> list[pl.Callback]:
    callbacks: list[pl.Callback] = [
        StopWhenAsked(),
        WriteHistory(folder, settings.log_every),
        ProgressBar(folder.name),
        # Behind all that may ask to stop, and before what takes long and may fail
        SaveRun(folder, settings.checkpoint_minutes, settings.keep),
        WritePictures(folder, settings.pictures_every),
    ]
    limit = settings.max_minutes
    return callbacks if limit is None else [TimeLimit(limit), *callbacks]
