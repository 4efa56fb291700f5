"""Laws of run directories: what is left behind, and that a resumed run is the uninterrupted one."""

import csv
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from taming import training
from taming.checkpoint import CheckpointError, load_weights, read_state_dict
from taming.config import ConfigError, instantiate_from_config, load_config, plain
from taming.loading import for_inference, load_model
from taming.training import train
from taming.training.callbacks import LAST, WEIGHTS, StageCallback, was_stopped
from taming.training.first_stage import FirstStageTraining
from taming.training.run import make_trainer
from taming.training.run_directory import new_run_directory

Tiny = Callable[..., dict[str, Any]]


def history(folder: Path, name: str = "train/total_loss") -> dict[int, float]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == name]
    assert len({row["step"] for row in rows}) == len(rows), "a step is told twice"
    return {int(row["step"]): float(row["value"]) for row in rows}


def run(config: dict[str, Any], folder: Path, **options: Any) -> Path:
    return train(config, runs=folder, **options)


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Any]:
    return {}


# Batches of an epoch: 4. The cuts are inside an epoch, at its end, and just behind it.
@pytest.mark.parametrize(("cut", "workers"), [(3, 0), (4, 0), (5, 0), (6, 2)])
def test_resumed_run_is_the_uninterrupted_one(
    tiny: Tiny, tmp_path: Path, cut: int, workers: int, uninterrupted: dict[str, Any]
) -> None:
    if not uninterrupted:
        whole = run(tiny(), tmp_path)
        uninterrupted.update(losses=history(whole), weights=read_state_dict(whole / WEIGHTS))
    expected = uninterrupted["losses"]
    assert sorted(expected) == list(range(1, 11))
    data = {"num_workers": workers}
    folder = run(tiny({"max_steps": cut}, data=data), tmp_path / "cut")
    run({"trainer": {"max_steps": 10}}, folder, resume=folder)
    assert history(folder) == expected
    for name, weight in read_state_dict(folder / WEIGHTS).items():
        assert torch.equal(weight, uninterrupted["weights"][name])


def test_run_resumed_after_its_epochs_is_the_uninterrupted_one(tiny: Tiny, tmp_path: Path) -> None:
    """Saved behind the end of an epoch, where the trainer's counters have moved on."""
    whole = run(tiny({"max_steps": -1, "max_epochs": 2}), tmp_path)
    folder = run(tiny({"max_steps": -1, "max_epochs": 1}), tmp_path / "cut")
    run({"trainer": {"max_epochs": 2}}, folder, resume=folder)
    assert history(folder) == history(whole)
    assert max(history(folder)) == 8


def test_finished_run_is_left_alone_by_a_resume(tiny: Tiny, tmp_path: Path) -> None:
    folder = run(tiny({"max_steps": 3}), tmp_path)
    before = (folder / LAST).read_bytes()
    run({}, folder, resume=folder)
    assert (folder / LAST).read_bytes() == before
    assert max(history(folder)) == 3


def test_run_stops_after_max_steps_of_the_autoencoder(tiny: Tiny, tmp_path: Path) -> None:
    """Lightning counts the steps of both players and would stop early."""
    folder = run(tiny({"max_steps": 6}, loss={"disc_start": 0}), tmp_path)
    assert max(history(folder)) == 6
    assert torch.load(folder / LAST, weights_only=True)["first_stage"]["steps"] == 6


def test_run_directory_holds_what_is_promised(tiny: Tiny, tmp_path: Path) -> None:
    folder = run(tiny({"max_steps": 4}), tmp_path)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    promised = {"config.yaml", WEIGHTS, LAST, "history.csv", "train.log"}
    assert promised <= found
    assert "images/reconstructions_0000004.png" in found
    assert not [name for name in found if "partial" in name]
    assert "validation/psnr" in (folder / "train.log").read_text("utf-8")


def test_run_directory_is_a_model(tiny: Tiny, tmp_path: Path) -> None:
    folder = run(tiny({"max_steps": 2}), tmp_path)
    model = load_model(folder)
    assert model.indices(torch.zeros(1, 3, 16, 16)).shape == (1, 8, 8)


def test_checkpoint_has_published_names(tiny: Tiny, tmp_path: Path) -> None:
    """So that whoever reads published checkpoints reads these."""
    folder = run(tiny({"max_steps": 2}), tmp_path)
    config = plain(load_config(folder / "config.yaml"))
    model = instantiate_from_config(for_inference(config["model"]))
    report = load_weights(model, read_state_dict(folder / LAST))
    assert report.missing == []
    assert all(name.startswith("loss.") for name in report.left_over)


def test_resolved_config_reads_back(tiny: Tiny, tmp_path: Path) -> None:
    folder = run(tiny({"max_steps": 1}), tmp_path)
    config = plain(load_config(folder / "config.yaml"))
    assert config["seed"] == config["data"]["params"]["seed"] == 3
    assert config["training"]["ema_decay"] == 0.999


def test_a_second_run_of_a_name_has_its_own_directory(tiny: Tiny, tmp_path: Path) -> None:
    first, second = (run(tiny({"max_steps": 1}), tmp_path) for _ in range(2))
    assert (first.name, second.name) == ("tiny", "tiny-2")


def test_processes_from_outside_share_the_named_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    monkeypatch.setenv("TAMING_RUN", str(shared))
    assert new_run_directory("a", tmp_path) == shared  # the first process
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    (shared / "config.yaml").touch()
    assert new_run_directory("a", tmp_path) == shared
    monkeypatch.setattr(rank_zero_only, "rank", 0)
    with pytest.raises(ConfigError, match=r"TAMING_RUN is .*shared, which is not empty"):
        new_run_directory("a", tmp_path)


def test_a_process_from_outside_that_is_told_nothing_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 2)
    with pytest.raises(ConfigError, match=r"not the first process .* set TAMING_RUN"):
        new_run_directory("a", tmp_path)


def test_a_second_machine_is_not_first_although_its_process_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before there is a trainer, only the number of the machine says so."""
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(ConfigError, match="set TAMING_RUN"):
        new_run_directory("a", tmp_path)
    monkeypatch.setenv("NODE_RANK", "0")
    assert new_run_directory("a", tmp_path) == tmp_path / "a"


def test_the_directory_is_told_while_a_run_lasts(tiny: Tiny, tmp_path: Path) -> None:
    folder = run(tiny({"max_steps": 1}), tmp_path)
    assert "TAMING_RUN" not in os.environ
    assert run(tiny({"max_steps": 1}), tmp_path) != folder


def test_time_limit_stops_and_saves(tiny: Tiny, tmp_path: Path) -> None:
    folder = run(tiny({"max_steps": -1}, {"max_minutes": 1e-6}), tmp_path)
    assert max(history(folder)) == 1
    assert (folder / LAST).is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_the_run_goes_on(
    tiny: Tiny, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(number)
    after_step = StageCallback.on_train_batch_end

    def interrupt(self: Any, trainer: Any, module: Any, *args: Any) -> None:
        if module.steps_done() == 3 and type(self).__name__ == "WriteHistory":
            signal.raise_signal(number)
        after_step(self, trainer, module, *args)

    with monkeypatch.context() as patch:
        patch.setattr(StageCallback, "on_train_batch_end", interrupt)
        folder = run(tiny(), tmp_path)
    assert signal.getsignal(number) is before
    stopped = max(history(folder))
    assert stopped in (3, 4)
    assert was_stopped(folder)
    run({}, folder, resume=folder)
    assert sorted(history(folder)) == list(range(1, 11))
    assert not was_stopped(folder)


def test_a_run_is_saved_before_its_last_pictures(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All was lost where painting them failed."""

    def fail(self: Any) -> Any:
        raise OSError("No space left on device")

    monkeypatch.setattr(FirstStageTraining, "pictures", fail)
    with pytest.raises(OSError, match="No space"):
        run(tiny({"max_steps": -1, "max_epochs": 1}), tmp_path)
    assert (tmp_path / "tiny" / LAST).is_file()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"data": {"params": {"batch_size": 8}}}, "epochs of 4 batches, and these settings make 2"),
        ({"trainer": {"limit_train_batches": 2}}, "epochs of 4 batches, and these settings make 2"),
        ({"trainer": {"accelerator": "gpu"}}, "trainer.accelerator=cpu"),
    ],
)
def test_a_resume_that_fails_leaves_the_config_as_it_was(
    tiny: Tiny, tmp_path: Path, given: dict[str, Any], told: str
) -> None:
    """The next one, without a mistake, found the mistake in the config."""
    if "cpu" in told and (torch.cuda.is_available() or torch.backends.mps.is_available()):
        pytest.skip("there is a GPU")
    folder = run(tiny({"max_steps": 3}), tmp_path)
    before = (folder / "config.yaml").read_text("utf-8")
    with pytest.raises(ValueError, match=told):
        run(given, folder, resume=folder)
    assert (folder / "config.yaml").read_text("utf-8") == before


def test_a_run_that_goes_on_for_longer_decays_for_longer(tiny: Tiny, tmp_path: Path) -> None:
    """The cosine ended where the run had been meant to end at first."""
    folder = run(tiny({"max_steps": 4}, {"decay": "cosine", "warmup_steps": 0}), tmp_path)
    run({"trainer": {"max_steps": 12}}, folder, resume=folder)
    whole = run(tiny({"max_steps": 12}, {"decay": "cosine", "warmup_steps": 0}), tmp_path)
    rates, expected = (history(each, "learning_rate") for each in (folder, whole))
    assert [rates[step] for step in range(5, 13)] == [expected[step] for step in range(5, 13)]
    assert rates[4] < expected[4]


def test_a_dry_run_counts_the_devices_that_are_asked_for(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny({"devices": 2, "strategy": "ddp", "accumulate_grad_batches": None})
    del config["model"]["learning_rate"]
    config["model"]["base_learning_rate"] = 1e-4
    with caplog.at_level("INFO", logger="taming"):
        run(config, tmp_path, dry_run=True)
    assert "x 4 images x 2 devices x 1 accumulated = 8.00e-04" in caplog.text


def test_learning_rate_is_base_times_batch_times_accumulation(
    tiny: Tiny, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny({"max_steps": 1, "accumulate_grad_batches": 3}, {"warmup_steps": 0})
    del config["model"]["learning_rate"]
    config["model"]["base_learning_rate"] = 1e-4
    folder = run(config, tmp_path)
    assert history(folder, "learning_rate")[1] == pytest.approx(1e-4 * 4 * 3)
    assert "1.0e-04 x 4 images x 1 devices x 3 accumulated = 1.20e-03" in (
        folder / "train.log"
    ).read_text("utf-8")


def test_dry_run_leaves_nothing(tiny: Tiny, tmp_path: Path, capsys: Any) -> None:
    run(tiny(), tmp_path / "runs", dry_run=True)
    assert not (tmp_path / "runs").exists()
    shown = capsys.readouterr().out
    assert "n_embed: 16" in shown
    assert "4 batches of 4 an epoch" in shown


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("model", "learning_rate", "fast", "model.learning_rate is 'fast'; give a number"),
        ("trainer", "max_steps", "abc", "trainer.max_steps is 'abc'; give a whole number"),
        ("trainer", "max_stepz", 3, "did you mean 'max_steps'"),
        ("training", "decay", "linear", "training.decay"),
    ],
)
def test_a_dry_run_refuses_what_training_would(
    tiny: Tiny, tmp_path: Path, section: str, key: str, value: Any, told: str
) -> None:
    config = tiny()
    config[section] = {**config.get(section, {}), key: value}
    for dry_run in (True, False):
        with pytest.raises(ConfigError, match=told):
            run(config, tmp_path / "runs", dry_run=dry_run)
    assert not list(tmp_path.glob("runs/*"))


def test_a_dry_run_knows_sizes_and_batches(tiny: Tiny, tmp_path: Path, capsys: Any) -> None:
    config = tiny()
    config["data"]["params"]["batch_size"] = 64  # more than there are pictures
    run(config, tmp_path, dry_run=True)
    assert "1 batches of 64 an epoch" in capsys.readouterr().out
    config["data"]["params"]["batch_size"] = 0
    with pytest.raises(ValueError, match="batch_size 0 must be at least 1"):
        run(config, tmp_path, dry_run=True)
    config["data"]["params"] |= {"batch_size": 4, "size": 17}
    with pytest.raises(ConfigError, match=r"are 17x17.*multiples of"):
        run(config, tmp_path, dry_run=True)


def test_a_mistake_in_the_config_leaves_no_directory(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'n_embed'"):
        run(tiny(model={"n_embd": 3}), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_unknown_sections_and_settings_are_named(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'trainer'"):
        run({**tiny(), "trainr": {}}, tmp_path)
    with pytest.raises(ConfigError, match="did you mean 'warmup_steps'"):
        run(tiny(training={"warmup_step": 3}), tmp_path)


def test_a_run_goes_on_under_its_own_name(tiny: Tiny, tmp_path: Path) -> None:
    """A new name read as a fork, and wrote over the run."""
    folder = run(tiny({"max_steps": 1}), tmp_path)
    longer = {"trainer": {"max_steps": 2}}
    with pytest.raises(ConfigError, match="not as 'other'; leave the name out"):
        run(longer, tmp_path, resume=folder, name="other")
    assert run(longer, tmp_path / "elsewhere", resume=folder, dry_run=True) == folder


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"data": None}, "data is None; give a section with a target"),
        ({"data": {"params": {}}}, r"data is {'params': {}}; give a section with a target"),
        (
            {"model": {"target": "taming.first_stage.vqgan.VQModel", "params": [1]}},
            "model.params is",
        ),
        ({"seed": "today"}, "seed is 'today'; give a whole number"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_sections_of_another_form_are_named(
    tiny: Tiny, tmp_path: Path, section: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        run({**tiny(), **section}, tmp_path)


def test_resuming_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        train({}, resume=tmp_path)


def test_kept_weights_are_the_best(tiny: Tiny, tmp_path: Path) -> None:
    """A learning rate beyond reason: the first validation has the best weights."""
    config = tiny({"max_steps": 12}, {"keep": "best", "ema_decay": 0.0, "warmup_steps": 0})
    config["model"]["learning_rate"] = 0.3
    folder = run(config, tmp_path)
    losses = history(folder, "validation/loss")
    best = min(losses, key=lambda step: losses[step])
    saved = torch.load(folder / LAST, weights_only=True)["callbacks"]["SaveRun"]["best"]
    assert math.isclose(saved, losses[best])
    weights = read_state_dict(folder / WEIGHTS)
    last = read_state_dict(folder / LAST)
    same = all(torch.equal(weights[name], last[name]) for name in weights)
    assert same == (best == max(losses))


def test_a_device_that_is_not_here_names_settings_that_are() -> None:
    """A run of then may ask for four GPUs in a file that nobody wrote by hand."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"trainer\.accelerator=cpu trainer\.devices=1"):
        make_trainer({"accelerator": "gpu", "devices": [0, 1]})


def test_a_lightning_that_does_not_import_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torchvision for another PyTorch raises RuntimeError, which ended in a traceback."""

    def fail(name: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(training.importlib, "import_module", fail)
    with pytest.raises(ImportError, match=r"torchvision::nms.* taming doctor"):
        _ = training.wrap
