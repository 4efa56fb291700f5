"""Laws of callbacks: the published ones, and those that a config adds to the run's own."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from taming.config import ConfigError, instantiate_from_config, load_config, plain
from taming.training import train, wrap
from taming.training.published_callbacks import ImageLogger, SetupCallback
from taming.training.run import batch_size

Config = dict[str, Any]
Net2Net = Callable[..., Config]


def fit(config: Config, folder: Path, *callbacks: pl.Callback) -> None:
    """As people do who bring their own trainer."""
    data = instantiate_from_config(config["data"])
    model = instantiate_from_config({k: config["model"][k] for k in ("target", "params")})
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, default_root_dir=folder, callbacks=list(callbacks),
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(wrap(model, {"precision": "float32"}), datamodule=data)


@pytest.mark.parametrize(("grows", "due"), [(True, [0, 1, 2, 4, 8, 10, 20]), (False, [0, 10, 20])])
def test_grids_come_at_powers_of_two_first(grows: bool, due: list[int]) -> None:
    logger = ImageLogger(10, 4, increase_log_steps=grows)
    assert [batch for batch in range(25) if logger.is_due(batch)] == due


def test_the_image_logger_writes_the_grids_of_a_wrapped_model(
    net2net: Net2Net, tmp_path: Path
) -> None:
    fit(net2net(), tmp_path, ImageLogger(batch_frequency=2, max_images=4))
    written = {path.name for path in (tmp_path / "images" / "train").iterdir()}
    # Two batches: 0 is due, and 1 as a power of two; a step was made by then.
    assert "inputs_gs-000001_e-000000_b-000000.png" in written
    assert "samples_nopix_gs-000002_e-000000_b-000001.png" in written


def test_no_images_are_no_files(net2net: Net2Net, tmp_path: Path) -> None:
    fit(net2net(), tmp_path, ImageLogger(batch_frequency=1, max_images=0))
    assert list(tmp_path.iterdir()) == []


def test_the_setup_callback_writes_both_parts_of_a_config(net2net: Net2Net, tmp_path: Path) -> None:
    folders = [str(tmp_path / name) for name in ("log", "log/checkpoints", "log/configs")]
    parts = {"model": {"target": "a"}}, {"trainer": {"max_epochs": 1}}
    fit(net2net(), tmp_path, SetupCallback("", "now", *folders, *parts))
    written = tmp_path / "log" / "configs"
    merged = load_config([written / "now-project.yaml", written / "now-lightning.yaml"])
    assert plain(merged) == {"model": {"target": "a"}, "lightning": parts[1]}


def section(name: str, **params: Any) -> list[Config]:
    return [{"target": f"pytorch_lightning.{name}", "params": params}]


def test_callbacks_of_a_config_run_beside_the_runs_own(net2net: Net2Net, tmp_path: Path) -> None:
    stop = section("callbacks.EarlyStopping", monitor="validation/loss", stopping_threshold=1e9)
    folder = train(net2net(trainer={"max_steps": 9, "callbacks": stop}), runs=tmp_path)
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        assert max(int(row["step"]) for row in csv.DictReader(file)) == 2  # one epoch
    assert (folder / "weights.safetensors").is_file()


def test_loggers_of_a_config_write_beside_the_runs_own(net2net: Net2Net, tmp_path: Path) -> None:
    more = section("loggers.CSVLogger", save_dir=str(tmp_path / "csv"))
    folder = train(net2net(trainer={"logger": more}), runs=tmp_path / "runs")
    assert list((tmp_path / "csv").rglob("metrics.csv"))
    assert (folder / "history.csv").is_file()


def test_callbacks_that_are_no_sections_are_refused(net2net: Net2Net, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.callbacks is True; .*list of sections"):
        train(net2net(trainer={"callbacks": True}), runs=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_batch_size_of_a_data_module_of_others_is_that_of_its_config() -> None:
    assert batch_size({"data": {"params": {"batch_size": 7}}}, object()) == 7
    with pytest.raises(ConfigError, match="no batch_size"):
        batch_size({"data": {}}, object())
