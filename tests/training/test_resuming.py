"""Laws of going on: a resumed run is the uninterrupted one, and nothing good is ever lost."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taming.checkpoint import CheckpointError, read_state_dict
from taming.config import load_config, plain
from taming.training import train
from taming.training.second_stage import SecondStageTraining

Config = dict[str, Any]
Second = Callable[..., Config]
LAST, WEIGHTS = "checkpoints/last.ckpt", "weights.safetensors"


def history(folder: Path, name: str = "train/loss") -> dict[int, float]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == name]
    return {int(row["step"]): float(row["value"]) for row in rows}


def run(config: Config, folder: Path, **options: Any) -> Path:
    return train(config, runs=folder, **options)


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, Any]:
    return {}


# Batches of an epoch: 4. The cuts are inside an epoch, at its end, and just behind it.
@pytest.mark.parametrize(("cut", "workers"), [(3, 0), (4, 2), (5, 0), (6, 2)])
def test_a_resumed_run_is_the_uninterrupted_one(
    quick: Second, tmp_path: Path, cut: int, workers: int, uninterrupted: dict[str, Any]
) -> None:
    if not uninterrupted:
        whole = run(quick(dropout=0.1), tmp_path)
        uninterrupted.update(losses=history(whole), weights=read_state_dict(whole / WEIGHTS))
    expected = uninterrupted["losses"]
    assert sorted(expected) == list(range(1, 11))
    config = quick({"max_steps": cut}, data={"num_workers": workers}, dropout=0.1)
    folder = run(config, tmp_path / "cut")
    run({"trainer": {"max_steps": 10}}, folder, resume=folder)
    assert history(folder) == expected
    for name, weight in read_state_dict(folder / WEIGHTS).items():
        assert torch.equal(weight, uninterrupted["weights"][name]), name


def test_a_finished_run_that_is_resumed_stays_finished(quick: Second, tmp_path: Path) -> None:
    folder = run(quick({"max_steps": 3}), tmp_path)
    before = read_state_dict(folder / WEIGHTS)
    run({}, folder, resume=folder)
    assert max(history(folder)) == 3
    for name, weight in read_state_dict(folder / WEIGHTS).items():
        assert torch.equal(weight, before[name])


def test_settings_given_at_a_resume_are_used(quick: Second, tmp_path: Path) -> None:
    """A scheduler's state would bring the old learning rate back."""
    folder = run(quick({"max_steps": 4}), tmp_path)
    changed = {"model": {"learning_rate": 1e-5}, "trainer": {"max_steps": 6}}
    changed["training"] = {"betas": [0.8, 0.9], "weight_decay": 0.2}
    run(changed, folder, resume=folder)
    assert history(folder, "learning_rate")[6] == pytest.approx(1e-5)
    decayed, plainly = torch.load(folder / LAST, weights_only=True)["optimizer_states"][0][
        "param_groups"
    ]
    assert decayed["betas"] == plainly["betas"] == (0.8, 0.9)
    assert (decayed["weight_decay"], plainly["weight_decay"]) == (0.2, 0.0)
    assert plain(load_config(folder / "config.yaml"))["training"]["warmup_steps"] == 2


def test_a_checkpoint_of_another_architecture_is_refused(quick: Second, tmp_path: Path) -> None:
    folder = run(quick({"max_steps": 1}), tmp_path)
    wider = {"model": {"params": {"transformer_config": {"params": {"width": 64}}}}}
    with pytest.raises(CheckpointError, match=r"last\.ckpt does not fit this MultiTaskTransformer"):
        run(wider, folder, resume=folder)
    assert (folder / LAST).is_file(), "a run that could not be resumed was removed"


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_weights(
    quick: Second, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(quick({"max_steps": 2}), tmp_path)
    before = (folder / WEIGHTS).read_bytes()
    forward = SecondStageTraining._loss

    def break_down(self: Any, batch: Any) -> Any:
        loss, logs = forward(self, batch)
        return loss * torch.nan, {**logs, "loss": loss.detach() * torch.nan}

    monkeypatch.setattr(SecondStageTraining, "_loss", break_down)
    with pytest.raises(ValueError, match=r"train/loss is nan at step 6, .*lower the learning rate"):
        run({"trainer": {"max_steps": 6}, "training": {"log_every": 50}}, folder, resume=folder)
    run_on = {"trainer": {"max_steps": 6}, "training": {"log_every": 1}}
    with pytest.raises(ValueError, match="train/loss is nan at step 3"):
        run(run_on, folder, resume=folder)
    assert (folder / WEIGHTS).read_bytes() == before


def test_a_damaged_checkpoint_is_refused(quick: Second, tmp_path: Path) -> None:
    folder = run(quick({"max_steps": 1}), tmp_path)
    content = (folder / LAST).read_bytes()
    (folder / LAST).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"last\.ckpt .*damaged"):
        run({}, folder, resume=folder)


def test_a_full_disk_keeps_the_checkpoint_before(
    quick: Second, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run(quick({"max_steps": 2}), tmp_path)
    before = (folder / LAST).read_bytes()

    def fail(content: Any, path: Path) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=r"no space left.*last\.ckpt"):
        run({"trainer": {"max_steps": 4}}, folder, resume=folder)
    assert (folder / LAST).read_bytes() == before
    assert not [path for path in folder.rglob("*") if "partial" in path.name]
