"""Loaders draw alike with any number of workers, and a resumed training as if uninterrupted."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from taming.config import ConfigError
from taming.data.batch import ANNOTATIONS
from taming.data.datamodule import ImageData


class Recorder(LightningModule):
    """Learns next to nothing and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3))
        self.seen: list[tuple[int, tuple[str, ...], float]] = []

    def training_step(self, batch: dict[str, Any], index: int) -> torch.Tensor:
        loss = (batch["image"].mean(dim=(0, 2, 3)) - self.weight).square().sum()
        self.seen.append((self.current_epoch, tuple(batch["name"]), float(loss)))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class SaveEveryStep(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, *unused: Any) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")

    def on_train_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        trainer.save_checkpoint(self.folder / f"epoch{trainer.current_epoch}.ckpt")


def fit(data: ImageData, callbacks: list[Callback], resume: Path | None = None) -> Recorder:
    module = Recorder()
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=3,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, data, ckpt_path=resume, weights_only=False)
    return module


def rooms(path: Path, **options: Any) -> ImageData:
    entry = {"path": str(path), "size": 16, "scale": [1.0, 1.5], "jitter": 0.2}
    return ImageData([entry], batch_size=2, seed=7, **options)


def as_lists(loader: Any) -> list[Any]:
    return [(b["name"], b["caption"], b["image"].tolist(), b["keypoints"].tolist()) for b in loader]


@pytest.mark.filterwarnings("ignore")
def test_resumed_training_continues_the_uninterrupted_sequence(make_set, tmp_path) -> None:
    data = make_set(count=7)  # 3 batches an epoch and one picture left over
    whole = fit(rooms(data), [SaveEveryStep(tmp_path)]).seen
    assert len(whole) == 9
    for done in range(1, 9):
        resumed = fit(rooms(data), [], tmp_path / f"{done}.ckpt").seen
        assert resumed == whole[done:], f"after {done} batches"
    for name, done in (("epoch0", 3), ("epoch1", 6)):
        assert fit(rooms(data), [], tmp_path / f"{name}.ckpt").seen == whole[done:], name


@pytest.mark.filterwarnings("ignore")
def test_resumed_training_with_workers_continues_too(make_set, tmp_path) -> None:
    data = make_set(count=7)
    whole = fit(rooms(data), [SaveEveryStep(tmp_path)]).seen
    resumed = fit(rooms(data, num_workers=2), [], tmp_path / "4.ckpt").seen
    assert resumed == whole[4:]


def test_zero_and_two_workers_draw_alike(make_set) -> None:
    data = make_set()
    alone = as_lists(rooms(data).train_dataloader())
    assert as_lists(rooms(data, num_workers=2).train_dataloader()) == alone


def test_sets_survive_the_journey_to_a_spawned_worker(make_set) -> None:
    mix = rooms(make_set()).train
    here = mix.sample(3, epoch=2)
    there = pickle.loads(pickle.dumps(mix)).sample(3, epoch=2)
    assert torch.equal(here["image"], there["image"])


def test_two_epochs_differ_and_repeat_under_the_same_number(make_set) -> None:
    loader = rooms(make_set()).train_dataloader()
    epochs = []
    for epoch in (0, 1, 0):
        loader.batch_sampler.set_epoch(epoch)
        epochs.append(as_lists(loader))
    assert epochs[0] != epochs[1]
    assert epochs[0] == epochs[2]


def test_validation_takes_the_centre_in_the_vocabulary_of_training(make_set) -> None:
    split = {"train": ["000", "001"], "validation": ["002", "003", "004"]}
    data = rooms(make_set(split=split), validation_per_set=2)
    batches = list(data.val_dataloader())
    assert [batch["name"] for batch in batches] == [["002", "004"]]
    assert as_lists(data.val_dataloader()) == as_lists(data.val_dataloader())
    assert data.validation.label_names == data.label_names == ["sky", "ground"]


def test_training_is_random_whatever_its_split_is_called(make_set) -> None:
    root = str(make_set())
    entry = {"path": root, "size": 16, "split": "all", "validation_split": "all"}
    data = ImageData([entry], seed=7)
    assert not torch.equal(data.train.sample(0, 0)["image"], data.train.sample(0, 1)["image"])
    held = data.validation
    assert torch.equal(held.sample(0, 0)["image"], held.sample(0, 1)["image"])


@pytest.mark.parametrize(
    ("splits", "is_told"),
    [
        ({"split": "all"}, True),
        ({"split": "train+validation"}, True),
        ({"split": "all", "validation_split": None}, False),
        ({"split": "train", "validation_split": "train"}, False),  # as it is written
        ({}, False),
    ],
)
def test_validation_by_what_is_trained_on_is_told(make_set, caplog, splits, is_told) -> None:
    data = ImageData([{"path": str(make_set("a", 40)), "size": 16, **splits}])
    assert (data.validation is None) == (splits.get("validation_split", "") is None)
    assert ("tells nothing of new pictures" in caplog.text) == is_told


def test_sets_without_validation_give_no_validation_loader(make_set) -> None:
    assert rooms(make_set()).val_dataloader() == []


def test_a_given_vocabulary_is_used_as_it_is(make_set) -> None:
    names = ["ground", "sea", "sky"]
    data = rooms(make_set(), label_names=names, class_names=["winter"])
    batch = next(iter(data.train_dataloader()))
    assert data.label_names == names
    assert set(batch["labels"].unique().tolist()) <= {0, 2, 255}
    winter = [int(name) % 2 == 1 for name in batch["name"]]
    assert batch["present"]["class_label"].tolist() == winter


def test_environment_variables_in_paths_are_expanded(make_set, monkeypatch) -> None:
    monkeypatch.setenv("SOME_PICTURES", str(make_set().parent))
    data = ImageData(["$SOME_PICTURES/rooms"], size=[16, 8], batch_size=2)
    assert next(iter(data.train_dataloader()))["image"].shape == (2, 3, 16, 8)


def test_a_batch_says_which_annotations_are_present(make_set, tmp_path) -> None:
    rooms_path, plain = make_set(), make_set("plain")
    for file in plain.glob("*.json"):
        file.unlink()
    for folder in ("labels", "depth"):
        (plain / folder).rename(tmp_path / folder)
    data = ImageData([str(rooms_path), str(plain)], size=16, batch_size=12)
    batch = next(iter(data.train_dataloader()))
    for key in ANNOTATIONS:
        assert batch["present"][key].tolist() == [name == "rooms" for name in batch["set"]]


def test_misspelt_keys_of_a_set_name_the_nearest(make_set) -> None:
    with pytest.raises(ConfigError, match=r"sets\[0\].*wieght.*weight"):
        ImageData([{"path": str(make_set()), "wieght": 2}], size=16)


def test_a_set_without_a_size_is_an_error(make_set) -> None:
    with pytest.raises(ValueError, match="size"):
        ImageData([str(make_set())]).train_dataloader()
