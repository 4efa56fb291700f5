"""Laws of published configs: what they mean today, told once, and that they train."""

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from taming.checkpoint import CheckpointError, read_state_dict
from taming.config import ConfigError, load_config, plain, to_yaml
from taming.training import train
from taming.training.old_config import find_old_run, is_old, modern_config, nested
from taming.training.old_trainer import DDP, modern_option

Config = dict[str, Any]
ACCELERATOR, DEVICES, STRATEGY = "trainer.accelerator", "trainer.devices", "trainer.strategy"
VQ, GPT = "taming.models.vqgan.VQModel", "taming.models.cond_transformer.Net2NetTransformer"


def old(trainer: Config | None = None, target: str = GPT, **lightning: Any) -> Config:
    """A config as it was published."""
    section = {"target": "taming.data.custom.CustomTrain", "params": {"size": 256}}
    data = {"batch_size": 2, "train": section}
    return {
        "model": {"base_learning_rate": 4.5e-6, "target": target, "params": {}},
        "data": {"target": "main.DataModuleFromConfig", "params": data},
        "lightning": {"trainer": trainer or {}, **lightning},
    }


@pytest.mark.parametrize(
    ("key", "value", "settings"),
    [
        ("gpus", "0,", {ACCELERATOR: "gpu", DEVICES: [0]}),
        ("gpus", "2, 3,", {ACCELERATOR: "gpu", DEVICES: [2, 3], STRATEGY: DDP}),
        ("gpus", 1, {ACCELERATOR: "gpu", DEVICES: 1}),
        ("gpus", "-1", {ACCELERATOR: "gpu", DEVICES: -1, STRATEGY: DDP}),
        ("gpus", [1], {ACCELERATOR: "gpu", DEVICES: [1]}),
        ("gpus", 0, {ACCELERATOR: "cpu"}),
        ("tpu_cores", 8, {ACCELERATOR: "tpu", DEVICES: 8}),
        ("num_processes", 1, {}),
        ("num_processes", "2", {ACCELERATOR: "cpu", DEVICES: 2}),
        ("distributed_backend", "ddp", {STRATEGY: DDP}),
        ("distributed_backend", "dp", {STRATEGY: DDP}),
        ("accelerator", "ddp_spawn", {STRATEGY: "ddp_spawn_find_unused_parameters_true"}),
        ("accelerator", "ddp_cpu", {ACCELERATOR: "cpu", STRATEGY: DDP}),
        ("accelerator", "gpu", {ACCELERATOR: "gpu"}),
        ("precision", 16, {"training.precision": "bf16"}),
        ("precision", "32", {"training.precision": "float32"}),
        ("precision", "64-true", {"trainer.precision": "64-true"}),
        ("row_log_interval", 10, {"training.log_every": 10}),
        ("reload_dataloaders_every_epoch", True, {"trainer.reload_dataloaders_every_n_epochs": 1}),
        ("resume_from_checkpoint", "a/b.ckpt", {"model.params.ckpt_path": "a/b.ckpt"}),
        ("weights_summary", "top", {}),
        ("terminate_on_nan", True, {}),
        ("max_epochs", 5, {"trainer.max_epochs": 5}),
        ("accumulate_grad_batches", 4, {"trainer.accumulate_grad_batches": 4}),
        ("benchmark", True, {"trainer.benchmark": True}),
    ],
)  # fmt: skip
def test_options_of_the_trainer_of_then(key: str, value: Any, settings: Config) -> None:
    modern = modern_option(key, value)
    assert modern.settings == settings
    assert str(modern), "nothing to tell"


def test_translated_options_are_those_of_todays_trainer() -> None:
    """What is written must not be refused afterwards."""
    from taming.training.old_trainer import CHANGED, current_options
    from taming.training.settings import TrainingSettings

    for key in CHANGED:
        value = "1"
        for dotted in modern_option(key, value).settings:
            section, _, name = dotted.partition(".")
            known = {"trainer": current_options(), "training": vars(TrainingSettings())}
            assert section == "model" or name in known[section], dotted


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (old({"max_epoch": 5}), r"lightning\.trainer: unknown key 'max_epoch'.*'max_epochs'"),
        (old({"gpus": "first"}), r"lightning\.trainer\.gpus: 'first' is not understood"),
        (old(callback={}), r"lightning: unknown key 'callback'.*'callbacks'"),
        (
            old(callbacks={"image_logger": {"params": {"batch_freq": 5}}}),
            r"lightning\.callbacks\.image_logger\.params: unknown key 'batch_freq'",
        ),
        (old(callbacks={"image_loger": {}}), r"image_loger has no target.*'image_logger'"),
        (
            old(modelcheckpoint={"params": {"save_top": 3}}),
            r"lightning\.modelcheckpoint\.params: unknown key 'save_top'.*'save_top_k'",
        ),
    ],
)
def test_what_no_version_knew_is_an_error(config: Config, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        modern_config(config)


def test_the_published_layout_is_recognised() -> None:
    assert is_old(old())
    assert is_old({"data": {"target": "main.DataModuleFromConfig"}})
    assert is_old({"lightning": {}})
    assert not is_old(modern_config(old()))


def test_what_was_never_said_is_as_published() -> None:
    first, second = modern_config(old(target=VQ)), modern_config(old(target=GPT))
    for config in (first, second):
        assert config["seed"] == 23
        assert config["trainer"] == {"max_epochs": 1000, "devices": 1}
        assert config["training"]["ema_decay"] == 0.0
        assert config["training"]["warmup_steps"] == 0
        assert config["training"]["precision"] == "float32"
        assert config["training"]["pictures_every"] == 750
    assert first["training"]["betas"] == [0.5, 0.9]
    assert first["training"]["weight_decay"] == 0.0
    assert "betas" not in second["training"]


def test_targets_of_models_stay_as_they_are_written() -> None:
    config = modern_config(old())
    assert config["model"] == old()["model"]
    assert config["data"]["target"] == "taming.training.published_data.DataModuleFromConfig"
    assert config["data"]["params"] == old()["data"]["params"]


def weighed(target: str) -> Config:
    config = old(target=VQ)
    params = {"disc_start": 0, "pixelloss_weight": 5.0}
    config["model"]["params"]["lossconfig"] = {"target": target, "params": params}
    return config


def test_the_weight_of_pixels_that_never_acted_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = weighed("taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator")
    with caplog.at_level(logging.INFO, logger="taming"):
        loss = modern_config(config)["model"]["params"]["lossconfig"]
    assert loss["params"] == {"disc_start": 0}
    assert "pixelloss_weight is now: left out" in caplog.text
    assert config["model"]["params"]["lossconfig"]["params"]["pixelloss_weight"] == 5.0


def test_the_weight_of_pixels_of_another_loss_stays() -> None:
    loss = modern_config(weighed("mine.Loss"))["model"]["params"]["lossconfig"]
    assert loss["params"]["pixelloss_weight"] == 5.0


def test_sections_of_today_overrule() -> None:
    config = old({"max_epochs": 5, "gpus": "0,"})
    config |= {"training": {"ema_decay": 0.9}, "trainer": {"devices": [3]}, "seed": 1}
    modern = modern_config(config)
    assert modern["training"]["ema_decay"] == 0.9
    assert modern["trainer"] == {"max_epochs": 5, "accelerator": "gpu", "devices": [3]}
    assert modern["seed"] == 1


def test_pictures_are_counted_in_steps() -> None:
    logger = {"target": "main.ImageLogger", "params": {"batch_frequency": 100, "max_images": 8}}
    config = old({"accumulate_grad_batches": 4}, callbacks={"image_logger": logger})
    training = modern_config(config)["training"]
    assert (training["pictures_every"], training["pictures"]) == (25, 8)


def test_no_images_are_no_pictures() -> None:
    logger = {"params": {"batch_frequency": 100, "max_images": 0}}
    assert modern_config(old(callbacks={"image_logger": logger}))["training"]["pictures_every"] == 0


def test_other_callbacks_and_loggers_stay() -> None:
    stopper = {"target": "pytorch_lightning.callbacks.EarlyStopping", "params": {"monitor": "x"}}
    csv_logger = {"target": "pytorch_lightning.loggers.CSVLogger", "params": {"save_dir": "x"}}
    config = modern_config(old(callbacks={"stop": stopper}, logger=csv_logger))
    assert config["trainer"]["callbacks"] == [stopper]
    assert config["trainer"]["logger"] == [csv_logger]


def test_what_callbacks_watch_has_its_present_name() -> None:
    """Lightning ended the training at its first validation."""
    target = "pytorch_lightning.callbacks.EarlyStopping"
    stopper = {"target": target, "params": {"monitor": "val/rec_loss", "patience": 3}}
    [section] = modern_config(old(callbacks={"stop": stopper}))["trainer"]["callbacks"]
    assert section["params"] == {"monitor": "validation/loss", "patience": 3}


def test_a_monitored_checkpoint_keeps_the_best_weights() -> None:
    config = old(modelcheckpoint={"params": {"monitor": "val/rec_loss", "save_top_k": 3}})
    assert modern_config(config)["training"]["keep"] == "best"


def test_every_translation_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    config = old({"gpus": "0,", "weights_summary": "full"}, logger={"params": {"name": "x"}})
    with caplog.at_level(logging.INFO, logger="taming"):
        modern_config(config)
    told = [message.partition(" is now: ") for message in caplog.messages]
    assert [entry[0] for entry in told[:3]] == [
        "lightning.trainer.gpus", "lightning.trainer.weights_summary", "lightning.logger"
    ]  # fmt: skip
    assert told[0][2] == "trainer.accelerator=gpu trainer.devices=[0]"
    assert len(told) == 4
    assert "training.ema_decay=0.0" in caplog.messages[3]


def test_dotted_names_become_sections() -> None:
    assert nested({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


# --- trained -----------------------------------------------------------------------------------


def losses(folder: Path) -> list[float]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["name"] == "train/loss"]


@pytest.fixture
def published(net2net: Callable[..., Config]) -> Callable[..., Config]:
    """The tiny second stage in the published layout, with paths of then."""

    def build(trainer: Config | None = None) -> Config:
        config = net2net()
        model = config["model"]
        del model["learning_rate"]
        model |= {"base_learning_rate": 1e-3, "target": GPT}
        gpt = model["params"]["transformer_config"]
        model["params"]["first_stage_config"]["target"] = VQ
        gpt["target"] = "taming.modules.transformer.mingpt.GPT"
        data = {"target": "main.DataModuleFromConfig", "params": config["data"]["params"]}
        usual = {"distributed_backend": None, "gpus": 0, "max_epochs": 2, "row_log_interval": 1}
        lightning = {"trainer": {**usual, **(trainer or {})}}
        return {"model": model, "data": data, "lightning": lightning}

    return build


def test_a_published_config_trains_and_its_run_is_one_of_ours(
    published: Callable[..., Config], tmp_path: Path
) -> None:
    folder = train(published(), runs=tmp_path)
    assert len(losses(folder)) == 4  # two epochs of two batches
    written = plain(load_config(folder / "config.yaml"))
    assert set(written) == {"name", "seed", "model", "data", "training", "trainer"}
    assert not is_old(written)
    train({"trainer": {"max_epochs": 3}}, resume=folder / "checkpoints" / "last.ckpt")
    assert len(losses(folder)) == 6


def old_run(folder: Path, config: Config, weights: dict[str, torch.Tensor]) -> Path:
    """A run directory as `main.py` left it."""
    (folder / "configs").mkdir(parents=True)
    (folder / "checkpoints").mkdir()
    parts = {"lightning": {"lightning": config["lightning"]}}
    parts["project"] = {key: config[key] for key in ("model", "data")}
    for name, part in parts.items():
        (folder / "configs" / f"now-{name}.yaml").write_text(to_yaml(part), encoding="utf-8")
    content = {"state_dict": weights, "epoch": 3, "global_step": 99, "optimizer_states": [{}]}
    content["callbacks"] = {pl.callbacks.ModelCheckpoint: {"best_model_score": 1.0}}
    torch.save(content, folder / "checkpoints" / "last.ckpt")
    return folder


@pytest.mark.parametrize("what", ["", "checkpoints/last.ckpt"])
def test_a_run_of_main_py_gives_its_config_and_weights(
    published: Callable[..., Config], tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    trained = train(published(), runs=tmp_path / "runs")
    weights = read_state_dict(trained / "weights.safetensors")
    config = published({"max_epochs": 1})
    # A path that was right on the machine of then
    config["model"]["params"]["first_stage_config"]["params"]["ckpt_path"] = "logs/gone/last.ckpt"
    # That run had once gone on from another
    config["lightning"]["trainer"]["resume_from_checkpoint"] = "logs/gone/last.ckpt"
    left = old_run(tmp_path / "logs" / "2020_shapes", config, weights)
    still = {"model": {"learning_rate": 0.0}}
    with caplog.at_level(logging.INFO, logger="taming"):
        folder = train(still, resume=left / what, runs=tmp_path / "runs")
    assert folder == tmp_path / "runs" / "2020_shapes"
    assert "optimisers" in caplog.text
    for name, weight in read_state_dict(folder / "weights.safetensors").items():
        assert torch.equal(weight, weights[name]), name


def test_a_folder_of_configs_is_no_run(tmp_path: Path) -> None:
    """In a checkout of this project every path that was not there was taken for one."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mine.yaml").write_text("name: mine")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "model.ckpt").write_bytes(b"")
    for what in ("runs/typo", "runs/model.ckpt", "."):
        assert find_old_run(tmp_path / what) is None


def test_a_run_of_main_py_without_its_checkpoint_names_the_others(tmp_path: Path) -> None:
    folder = old_run(tmp_path / "logs" / "x", old(), {"a": torch.zeros(1)})
    (folder / "checkpoints" / "last.ckpt").rename(folder / "checkpoints" / "epoch=000003.ckpt")
    with pytest.raises(CheckpointError, match=r"last\.ckpt does not exist; name one of epoch=0000"):
        find_old_run(folder)
    named = find_old_run(folder / "checkpoints" / "epoch=000003.ckpt")
    assert named is not None
    assert named.checkpoint.name == "epoch=000003.ckpt"


def test_a_run_of_ours_is_no_old_one(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "a.yaml").touch()
    (tmp_path / "config.yaml").touch()
    assert find_old_run(tmp_path) is None
