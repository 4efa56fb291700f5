"""From a config to a run directory: builds everything, trains, leaves a model that stands alone.

    runs/<name>/  config.yaml  weights.safetensors  checkpoints/last.ckpt
                  images/  history.csv  train.log

The config that is written is the resolved one: vocabularies, sizes and the first stage's own config
are in it, so that `taming.load` needs nothing else.
"""

from __future__ import annotations

import inspect
import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import OmegaConf
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from torch import nn

from taming.checkpoint import CheckpointError, atomic_write, load_weights, read_state_dict
from taming.config import (
    ConfigError,
    check_arguments,
    from_mapping,
    get_obj_from_str,
    instantiate_from_config,
    load_config,
    nearest,
    plain,
    to_yaml,
)
from taming.first_stage.vqgan import VQModel
from taming.loading import CONFIG, expand_first_stage
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
from taming.training.progress import ProgressBar
from taming.training.report import report
from taming.training.settings import TrainingSettings
from taming.transformer.multi_task import MultiTaskTransformer

logger = logging.getLogger(__name__)

SECTIONS = ("name", "seed", "model", "data", "training", "trainer")
SECTION = ("target", "params")  # of an object; `model` has its learning rate beside them
RATES = ("learning_rate", "base_learning_rate")
RUNS = Path("runs")
RUN_VARIABLE = "TAMING_RUN"


def train(
    config: Mapping[str, Any],
    resume: str | Path | None = None,
    dry_run: bool = False,
    name: str | None = None,
    runs: str | Path = RUNS,  # folder in which the run directory is made
) -> Path:
    """Train what the config describes; returns the run directory.

    `resume` is a run directory: its own config is used, with the sections given here on top, and
    the loss sequence goes on as if it had never stopped.
    """
    folder = None if resume is None else Path(resume)
    if folder is not None:
        if not (folder / LAST).is_file():
            raise CheckpointError(f"{folder} cannot be resumed: {folder / LAST} does not exist")
        config = plain(
            OmegaConf.merge(load_config(folder / CONFIG), OmegaConf.create(plain(config)))
        )
    config = check_sections(plain(config))
    pl.seed_everything(config["seed"], verbose=False)
    config["data"] = seeded(config["data"], config["seed"])
    data = instantiate_from_config(config["data"])
    config["model"] = complete_model_config(config["model"], data)
    if folder is None:
        warn_without_first_stage(config["model"])
    if dry_run:
        report(config, data)
        return Path(runs) / (name or config["name"])
    model = instantiate_from_config({k: v for k, v in config["model"].items() if k in SECTION})
    # Only now, so that a config with a mistake leaves no run directory behind.
    checkpoint = None if folder is None else folder / LAST
    folder = folder or new_run_directory(name or config["name"], Path(runs))
    try:
        with logged_to(folder / "train.log"):
            _fit(model, data, config, folder, checkpoint)
    except (ValueError, OSError):
        # Nor does a mistake in what the config names, unless something was made that took time.
        if not any((folder / made).exists() for made in (LAST, HISTORY, CACHE)):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _fit(
    model: nn.Module, data: Any, config: dict[str, Any], folder: Path, checkpoint: Path | None
) -> None:
    if rank_zero_only.rank == 0:
        with atomic_write(folder / CONFIG) as partial:
            partial.write_text(to_yaml(for_reading(config)), encoding="utf-8")
    if checkpoint is not None:
        # Before the trainer does it: codes may be cached, and their first stage checked, earlier.
        load_weights(model, read_state_dict(checkpoint), source=str(checkpoint))
    if hasattr(data, "attach"):
        data.attach(model, folder)
    options = dict(config["trainer"])
    own = {key: options.pop(key) for key in OWN_OPTIONS if key in options and is_manual(model)}
    settings = from_mapping(TrainingSettings, config["training"], "training")
    trainer = make_trainer(
        {**DEFAULTS, "log_every_n_steps": settings.log_every, **options},
        default_root_dir=folder,
        logger=_loggers(folder),
        callbacks=_callbacks(folder, settings),
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    rate = learning_rate(config, data.batch_size, trainer.world_size)
    module = wrap(model, settings=settings, learning_rate=rate, **own)
    with warnings.catch_warnings():
        for message in NOT_SO:
            warnings.filterwarnings("ignore", message)
        # The checkpoint is read as tensors and plain values, never as code.
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)


def make_trainer(options: Mapping[str, Any], **ours: Any) -> pl.Trainer:
    """Lightning's trainer with the options of a config; what it refuses is a ConfigError."""
    for key in options:
        if key in ours:
            raise ConfigError(f"trainer.{key} belongs to the run directory; leave it out")
    check_arguments(pl.Trainer, options, "trainer")
    try:
        return pl.Trainer(**options, **ours)
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {error}") from error


def encode(
    config: Mapping[str, Any],
    out: str | Path | None = None,  # None: what the config says, else cache/<name>
    progress: Progress | None = None,
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
    built = instantiate_from_config({key: model[key] for key in SECTION if key in model})
    folder = Path(out or data.settings.cache or Path("cache") / config["name"])
    data.attach(built, folder, cache=folder)
    data.caches(progress)
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
    raise TypeError(
        f"there is no training for {type(model).__name__}; wrap a VQModel or a MultiTaskTransformer"
    )


def check_sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with every section there; unknown ones are errors."""
    for key in config:
        if key not in SECTIONS:
            raise ConfigError(f"unknown section '{key}' of the config; {nearest(key, SECTIONS)}")
    for key in ("model", "data"):
        if key not in config:
            raise ConfigError(f"the config has no section '{key}'")
    for key in config["model"]:
        if key not in (*SECTION, *RATES):
            raise ConfigError(f"model: unknown key '{key}'; {nearest(key, (*SECTION, *RATES))}")
    settings = from_mapping(TrainingSettings, config.get("training") or {}, "training")
    trainer = dict(config.get("trainer") or {})
    if settings.decay == "cosine" and settings.decay_steps is None:
        if int(trainer.get("max_steps") or -1) < 1:
            raise ConfigError(
                "training.decay is cosine, but nothing says how long: give training.decay_steps "
                "or trainer.max_steps"
            )
        settings = replace(settings, decay_steps=int(trainer["max_steps"]))
    return {
        "name": str(config.get("name") or "run"),
        "seed": int(config.get("seed", 0)),
        "model": deepcopy(dict(config["model"])),
        "data": dict(config["data"]),
        "training": vars(settings).copy(),
        "trainer": trainer,
    }


def seeded(data: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The data section with the config's seed, where it takes one and has none of its own."""
    params = dict(data.get("params") or {})
    accepted = inspect.signature(get_obj_from_str(data["target"])).parameters.values()
    if any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in accepted):
        params.setdefault("seed", seed)
    return {**data, "params": params}


def complete_model_config(model: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """What the data decides, written into the model's config: vocabularies and picture sizes."""
    model = expand_first_stage(model)
    params = model.get("params") or {}
    if "cond_stage_config" not in params:
        return model
    for name, section in params["cond_stage_config"].items():
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
        data.settings.check(params["cond_stage_config"])
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
    config = deepcopy(dict(config))
    params = config["model"].get("params") or {}
    first_stage = params.get("first_stage_config")
    inner = (first_stage.get("params") or {}) if isinstance(first_stage, Mapping) else {}
    for section in (params, inner):
        for key in ("ckpt_path", "ignore_keys"):
            section.pop(key, None)
    return config


def learning_rate(config: Mapping[str, Any], batch_size: int, devices: int) -> float:
    """Base rate x batch x devices x accumulation, as it always was here; or `learning_rate`."""
    model, trainer = config["model"], config["trainer"]
    fixed = model.get("learning_rate")
    if fixed is not None:
        logger.info("learning rate %.2e", fixed)
        return float(fixed)
    base = float(model.get("base_learning_rate", 4.5e-6))
    accumulation = int(trainer.get("accumulate_grad_batches", 1))
    rate = base * batch_size * devices * accumulation
    logger.info(
        "learning rate %.1e x %d images x %d devices x %d accumulated = %.2e",
        base, batch_size, devices, accumulation, rate,
    )  # fmt: skip
    return rate


def new_run_directory(name: str, runs: Path = RUNS) -> Path:
    """runs/name, or runs/name-2, -3, ... where that exists; one for all devices."""
    if rank_zero_only.rank > 0:
        return Path(os.environ.get(RUN_VARIABLE) or runs / name)
    for number in range(1, 10_000):
        folder = runs / (name if number == 1 else f"{name}-{number}")
        if not folder.exists():
            folder.mkdir(parents=True)
            os.environ[RUN_VARIABLE] = str(folder)  # for the processes that Lightning starts
            return folder
    raise OSError(f"{runs} has ten thousand runs named {name}; remove some")


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """Everything `taming` logs on the first device also goes into this file."""
    if rank_zero_only.rank > 0:
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger("taming")
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.removeHandler(handler)
        root.setLevel(before)
        handler.close()


def _loggers(folder: Path) -> list[Any] | bool:
    try:
        from pytorch_lightning.loggers import TensorBoardLogger

        return [TensorBoardLogger(folder, name="", version="tensorboard")]
    except (ImportError, ModuleNotFoundError):
        logger.warning('no curves in TensorBoard: pip install "taming[train]"')
        return False


def _callbacks(folder: Path, settings: TrainingSettings) -> list[pl.Callback]:
    callbacks: list[pl.Callback] = [
        StopWhenAsked(),
        WriteHistory(folder, settings.log_every),
        WritePictures(folder, settings.pictures_every),
        ProgressBar(folder.name),
    ]
    if settings.max_minutes is not None:
        callbacks.insert(0, TimeLimit(settings.max_minutes))
    # Last, so that it sees whether another has asked to stop
    return [*callbacks, SaveRun(folder, settings.checkpoint_minutes, settings.keep)]
