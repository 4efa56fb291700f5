"""Options that Lightning's trainer had in 2020 -> settings that do the same today.

One table for YAML (`lightning.trainer`) and for the words of the command line. Values may be text,
as on a command line. Pure: imports nothing but the trainer's own list of options, when asked.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from taming.config import ConfigError, nearest

# On several devices; the players of a first stage do not reach each other's weights, and in 2020
# this was what "ddp" did.
DDP = "ddp_find_unused_parameters_true"


class Modern(NamedTuple):
    settings: dict[str, Any]  # by dotted name, such as "trainer.devices"
    why: str = ""  # said where nothing, or something else, takes its place

    def __str__(self) -> str:
        words = " ".join(words_of(self.settings))
        return f"{words} ({self.why})" if words and self.why else words or self.why


def modern_option(key: str, value: Any) -> Modern:
    """What `lightning.trainer.<key>: value` means now; an unknown key is a ConfigError."""
    if key in GONE:
        return Modern({}, GONE[key])
    if key in CHANGED:
        try:
            return CHANGED[key](value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"lightning.trainer.{key}: {value!r} is not understood") from error
    if key not in current_options():
        raise ConfigError(f"lightning.trainer: unknown key '{key}'; {nearest(key, option_names())}")
    return Modern({f"trainer.{key}": value})


def option_names() -> list[str]:
    """Everything that Lightning's trainer takes today or took then."""
    return [*GONE, *CHANGED, *current_options()]


@functools.cache
def current_options() -> list[str]:
    """What it takes today."""
    from pytorch_lightning import Trainer

    return [name for name in inspect.signature(Trainer).parameters if name != "self"]


def words_of(settings: Mapping[str, Any]) -> list[str]:
    """Settings as words of a command line."""
    return [f"{key}={_text(value)}" for key, value in settings.items()]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


# --- what changed --------------------------------------------------------------------------------


def _gpus(value: Any) -> Modern:
    """A count, or numbers of devices: "0," is the first one, 0 is none."""
    if isinstance(value, str):
        text = value.strip()
        value = [int(n) for n in text.split(",") if n.strip()] if "," in text else int(text)
    if isinstance(value, list | tuple):
        devices: Any = [int(number) for number in value]
        several = len(devices) > 1
    else:
        devices, several = int(value), int(value) not in (0, 1)
    if not devices:
        return Modern({"trainer.accelerator": "cpu"})
    settings = {"trainer.accelerator": "gpu", "trainer.devices": devices}
    return Modern({**settings, "trainer.strategy": DDP} if several else settings)


def _tpu_cores(value: Any) -> Modern:
    return Modern({"trainer.accelerator": "tpu", "trainer.devices": int(value)})


def _processes(value: Any) -> Modern:
    """Of processors; with other devices there was one for each."""
    if int(value) == 1:
        return Modern({}, "one for each device")
    return Modern({"trainer.accelerator": "cpu", "trainer.devices": int(value)})


def _backend(value: Any) -> Modern:
    """Names of `distributed_backend`, which `accelerator` took over for a while."""
    name = str(value)
    if name in ("ddp", "ddp2", "dp", "horovod"):
        return Modern({"trainer.strategy": DDP}, "" if name == "ddp" else f"'{name}' is gone")
    if name == "ddp_spawn":
        return Modern({"trainer.strategy": name + DDP.removeprefix("ddp")})
    if name == "ddp_cpu":
        return Modern({"trainer.accelerator": "cpu", "trainer.strategy": DDP})
    return Modern({"trainer.accelerator": name})


def _precision(value: Any) -> Modern:
    bits = str(value)
    if bits in ("16", "bf16"):
        return Modern({"training.precision": "bf16"}, "" if bits == "bf16" else "never overflows")
    if bits == "32":
        return Modern({"training.precision": "float32"})
    return Modern({"trainer.precision": value})


def _every_epoch(value: Any) -> Modern:
    every = str(value).lower() in ("true", "1", "yes")
    return Modern({"trainer.reload_dataloaders_every_n_epochs": int(every)})


def _log_every(value: Any) -> Modern:
    return Modern({"training.log_every": int(value)})


def _weights(value: Any) -> Modern:
    return Modern({"model.params.ckpt_path": str(value)}, "weights alone; --resume goes on exactly")


CHANGED: dict[str, Callable[[Any], Modern]] = {
    "gpus": _gpus,
    "tpu_cores": _tpu_cores,
    "num_processes": _processes,
    "distributed_backend": _backend,
    "accelerator": _backend,
    "precision": _precision,
    "reload_dataloaders_every_epoch": _every_epoch,
    "log_every_n_steps": _log_every,
    "row_log_interval": _log_every,
    "resume_from_checkpoint": _weights,
}

_RUN = "the run directory has its own"
_TERMINAL = "the bar is shown on terminals"
_NEVER = "nothing takes its place"
GONE: dict[str, str] = {
    "logger": "loggers beside the run's own are sections in trainer.logger",
    "callbacks": "callbacks beside the run's own are sections in trainer.callbacks",
    "checkpoint_callback": _RUN,
    "default_root_dir": _RUN,
    "weights_save_path": _RUN,
    "enable_checkpointing": _RUN,
    "plugins": _NEVER,
    "replace_sampler_ddp": "batches are always divided among the devices",
    "use_distributed_sampler": "batches are always divided among the devices",
    "weights_summary": "--dry-run lists the parts of a model",
    "enable_model_summary": "--dry-run lists the parts of a model",
    "progress_bar_refresh_rate": _TERMINAL,
    "process_position": _TERMINAL,
    "enable_progress_bar": _TERMINAL,
    "flush_logs_every_n_steps": _NEVER,
    "log_gpu_memory": _NEVER,
    "track_grad_norm": _NEVER,
    "terminate_on_nan": "a loss that is no number always ends the run",
    "truncated_bptt_steps": _NEVER,
    "auto_lr_find": "set model.learning_rate or model.base_learning_rate",
    "auto_scale_batch_size": "set data.params.batch_size",
    "auto_select_gpus": "set trainer.devices",
    "prepare_data_per_node": _NEVER,
    "amp_backend": "set training.precision",
    "amp_level": "set training.precision",
    "automatic_optimization": "each stage knows how it is optimised",
    "move_metrics_to_cpu": _NEVER,
    "multiple_trainloader_mode": _NEVER,
    "stochastic_weight_avg": "set training.ema_decay",
    "early_stop_callback": "add a section of EarlyStopping, monitor: validation/loss, to "
    "trainer.callbacks",
}
