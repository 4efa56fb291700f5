"""From a name to two files: the configuration of a model and its weights. Builds nothing.

What may be named: a folder, a file of either kind in it, "bundled", or a hub id "owner/name".

    runs/name/       config.yaml, weights.safetensors               what training leaves
    anything/        config.json, model.safetensors                 what `save_pretrained` leaves
    logs/time_name/  configs/time-project.yaml, checkpoints/last.ckpt       the original's runs
    anywhere/        configs/model.yaml, ckpts/last.ckpt            its published models
    anywhere/        name.ckpt beside name.yaml, model.yaml or config.yaml  the same
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

from taming.checkpoint import CheckpointError
from taming.config import ConfigError, load_config, plain

CONFIG = "config.yaml"
WEIGHTS = "weights.safetensors"
HUB_CONFIG = "config.json"
HUB_WEIGHTS = "model.safetensors"
BUNDLED = Path(__file__).parent / "bundled"

CONFIG_SUFFIXES = (".yaml", ".yml", ".json")
WEIGHT_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth")
# Patterns in a folder, the best first; of several files, the last by name, which is the newest.
CONFIGS = (
    CONFIG,
    HUB_CONFIG,
    "*-project.yaml",  # its neighbour *-lightning.yaml describes the trainer
    "model.yaml",
    "configs/*-project.yaml",
    "configs/model.yaml",
    "configs/config.yaml",
)
# First parts of paths that mean a folder, whoever may be called so on the hub
HERE = ("runs", "logs", "converted", "checkpoints", "models", "data", "results")
STAGES = ("first_stage_config", "cond_stage_config")  # parts that are models of their own
CHECKPOINT_FOLDERS = ("checkpoints", "ckpts")
WEIGHT_FILES = (
    WEIGHTS,
    HUB_WEIGHTS,
    "last.ckpt",
    *(f"{folder}/last.ckpt" for folder in CHECKPOINT_FOLDERS),
)


class Found(NamedTuple):
    name: str  # to show: of the run, or of the file
    config: Path
    weights: Path


def find(what: str | Path, config: str | Path | None = None, **hub: Any) -> Found:
    """The files of a model; CheckpointError says which one is not there.

    `config` names the configuration, where it lies elsewhere; `hub` are options of the download,
    `huggingface_hub.snapshot_download`.
    """
    path = BUNDLED if str(what) == "bundled" else Path(what)
    if not path.exists() and isinstance(what, str) and _is_hub_id(what):
        path = _download(what, hub)
    if path == BUNDLED and not path.is_dir():
        raise CheckpointError(
            "no model is bundled with this installation; name one, such as a run directory: "
            "--model runs/mine"
        )
    if not path.exists():
        raise _no_model(what, path)
    is_config = path.is_file() and path.suffix in CONFIG_SUFFIXES
    if is_config and config is None:
        config = path
    weights = path if path.is_file() and not is_config else _weights_near(path, what)
    if not weights.is_file():
        raise _no_model(what, weights)
    found = Path(config) if config is not None else _config_near(weights)
    if not found.is_file():
        raise _no_model(what, found)
    is_alone = found.stem == weights.stem and weights.stem not in ("model", "weights", "last")
    return Found(weights.stem if is_alone else run_folder(weights).name, found, weights)


def _is_hub_id(what: str) -> bool:
    """Whether "owner/name" can be meant for the hub, where anybody may be called "runs".

    A run that is misspelt, or looked for from the wrong folder, is no model of a stranger.
    """
    owner, slash, name = what.partition("/")
    is_here = not owner or owner in HERE or owner.startswith((".", "~")) or Path(owner).is_dir()
    return bool(slash and name) and "/" not in name and not is_here


def run_folder(weights: Path) -> Path:
    """The folder that a file of weights belongs to."""
    parent = weights.absolute().parent
    return parent.parent if parent.name in CHECKPOINT_FOLDERS else parent


def _weights_near(path: Path, what: str | Path) -> Path:
    """The weights of a folder, or of a configuration."""
    if path.is_dir():
        folder, stems = path, []
    else:
        folder = path.parent.parent if path.parent.name == "configs" else path.parent
        stems = [path.with_suffix(suffix) for suffix in WEIGHT_SUFFIXES]
    for candidate in [*stems, *(folder / name for name in WEIGHT_FILES)]:
        if candidate.is_file():
            return candidate
    patterns = ("*.ckpt", *(f"{inside}/*.ckpt" for inside in CHECKPOINT_FOLDERS))
    others = [found for pattern in patterns for found in folder.glob(pattern)]
    if len(others) > 1:
        listed = ", ".join(str(other.relative_to(folder)) for other in sorted(others)[:6])
        raise CheckpointError(f"{what} holds several checkpoints; name one of them: {listed}")
    return others[0] if others else folder / WEIGHTS


def _config_near(weights: Path) -> Path:
    """The configuration of a file of weights: of the same name, beside it, or of its run."""
    for candidate in _configs(weights):
        return candidate
    if weights.suffix == ".safetensors":
        return run_folder(weights) / CONFIG
    raise CheckpointError(
        f"{weights} has no configuration; put its YAML beside it as "
        f"{weights.with_suffix('.yaml').name}"
    )


def _configs(weights: Path) -> Iterator[Path]:
    beside = weights.absolute().parent
    yield from _files(beside, [f"{weights.stem}{suffix}" for suffix in CONFIG_SUFFIXES])
    yield from _files(beside, CONFIGS)
    yield from _files(run_folder(weights), CONFIGS)


def _files(folder: Path, patterns: Iterable[str]) -> Iterator[Path]:
    for pattern in patterns:
        parent, _, name = pattern.rpartition("/")
        if "*" in name:
            yield from sorted((folder / parent).glob(name), reverse=True)
        elif (folder / pattern).is_file():
            yield folder / pattern


def _no_model(what: str | Path, needed: Path) -> CheckpointError:
    folder, hint = Path(what), ""
    if not folder.exists() and folder.parent.is_dir() and folder.parent != folder:
        names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
        close = difflib.get_close_matches(folder.name, names, n=1, cutoff=0.5)
        hint = f"; did you mean {folder.parent / close[0]}?" if close else ""
    remedy = hint or f"; give a run directory, which holds {CONFIG} and {WEIGHTS}"
    return CheckpointError(f"{what} is no model: {needed} does not exist{remedy}")


def _download(hub_id: str, options: Mapping[str, Any]) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ImportError("models of the hub need: pip install huggingface_hub") from error
    try:
        files = [CONFIG, WEIGHTS, HUB_CONFIG, HUB_WEIGHTS]
        return Path(snapshot_download(hub_id, allow_patterns=files, **options))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{hub_id} is neither a folder here nor to be had from the Hugging Face hub ({reason})"
        ) from error


# --- what a configuration says of the model ----------------------------------------------------


def model_section(path: Path) -> dict[str, Any]:
    """`{target, params, ...}` of a configuration; ConfigError if it describes no model."""
    section = plain(load_config(path).get("model"))  # other sections may name what is not here
    if not isinstance(section, Mapping) or "target" not in section:
        raise ConfigError(
            f"{path} has no section `model` with a target; it is not a model's configuration"
        )
    return dict(section)


def first_stage_section(path: Path, keep_losses: bool = False) -> dict[str, Any]:
    """`{target, params}` for inference: of a first stage, or of the one within a second stage."""
    section = for_inference(model_section(path), keep_losses)
    within = section["params"].get(STAGES[0])
    return dict(within) if isinstance(within, Mapping) else section


def for_inference(model_config: Mapping[str, Any], keep_losses: bool = False) -> dict[str, Any]:
    """A model's config without what only training needs: rates, losses, weights to start from."""
    params = deepcopy(dict(model_config.get("params") or {}))
    for key in ("ckpt_path", "ignore_keys", *(() if keep_losses else ("lossconfig",))):
        params.pop(key, None)
    for stage in STAGES:
        if isinstance(params.get(stage), Mapping) and "target" in params[stage]:
            params[stage] = for_inference(params[stage], keep_losses)
    return {"target": model_config["target"], "params": params}
