"""Laws of published data sections: layout, shuffling, and draws that can be repeated."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taming.checkpoint import read_state_dict
from taming.config import ConfigError, instantiate_from_config
from taming.data.batch import channels_first
from taming.training import train
from taming.training.published_data import (
    DataModuleFromConfig,
    SeededDataset,
    WrappedDataset,
    augmentations,
)

Config = dict[str, Any]


@pytest.fixture
def data(shapes: str) -> Callable[..., DataModuleFromConfig]:
    def build(batch_size: int = 3, noise: float = 0.0, **options: Any) -> DataModuleFromConfig:
        section = {"target": shapes, "params": {"noise": noise}}
        options = {"train": section, "validation": section, "num_workers": 0, **options}
        return DataModuleFromConfig(batch_size, **options)

    return build


def classes(loader: Any) -> list[float]:
    """Which samples came: their last colour channel is their index."""
    return [round(float(v) * 8) for batch in loader for v in batch["image"][:, 0, 0, 2]]


def test_batches_keep_the_layout_of_the_set(data: Callable[..., DataModuleFromConfig]) -> None:
    batch = next(iter(data().train_dataloader()))
    assert batch["image"].shape == (3, 16, 16, 3)
    assert batch["segmentation"].shape == (3, 16, 16, 4)
    assert batch["class_label"].dtype == torch.int64
    assert all(isinstance(name, str) for name in batch["human_label"])


def test_validation_and_test_are_in_order_and_whole(
    data: Callable[..., DataModuleFromConfig],
) -> None:
    module = data()
    assert classes(module.val_dataloader()) == list(range(8))
    assert module.test_dataloader() == []


def test_training_is_shuffled_by_the_seed_and_anew_in_every_epoch(
    data: Callable[..., DataModuleFromConfig],
) -> None:
    loader = data(batch_size=4).train_dataloader()
    first = classes(loader)
    assert sorted(first) == list(range(8))
    loader.batch_sampler.set_epoch(1)  # pyright: ignore[reportAttributeAccessIssue]
    assert classes(loader) != first
    assert classes(data(batch_size=4).train_dataloader()) == first
    assert classes(data(batch_size=4, seed=1).train_dataloader()) != first


def test_draws_do_not_depend_on_the_workers(data: Callable[..., DataModuleFromConfig]) -> None:
    here, there = (
        [batch["image"] for batch in data(noise=1.0, num_workers=n).train_dataloader()]
        for n in (0, 2)
    )
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a, b)


def test_draws_follow_seed_and_pass_and_leave_the_streams_alone(shapes: str) -> None:
    noisy = instantiate_from_config({"target": shapes, "params": {"noise": 1.0}})
    states = random.getstate(), np.random.get_state()[1].copy(), torch.random.get_rng_state()
    sets = SeededDataset(noisy, 0), SeededDataset(noisy, 1)
    drawn = [sets[0][2, 0], sets[0][2, 0], sets[0][2, 1], sets[1][2, 0]]
    first, again, later, other = (sample["image"] for sample in drawn)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, later)
    assert not np.array_equal(first, other)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.random.get_rng_state(), states[2])


class Cropping:
    """As people write data sets: a pipeline of albumentations, made once."""

    def __init__(self) -> None:
        import albumentations

        steps = [albumentations.RandomCrop(4, 4), albumentations.HorizontalFlip(p=0.5)]
        self.parts = [{"preprocessor": albumentations.Compose(steps)}]
        self.files = ["a.png"] * 1000

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3)
        return {"image": self.parts[0]["preprocessor"](image=image)["image"]}


def test_crops_of_albumentations_are_drawn_alike() -> None:
    dataset = SeededDataset(WrappedDataset(Cropping()), 0)
    crops = [dataset[index, turn]["image"] for turn in (0, 1) for index in range(8)]
    again = [dataset[index, turn]["image"] for turn in (0, 1) for index in range(8)]
    assert all(np.array_equal(a, b) for a, b in zip(crops, again, strict=True))
    assert len({crop.tobytes() for crop in crops}) > 8


def test_augmentations_are_found_within_a_set_containers_first() -> None:
    names = [type(part).__name__ for part in augmentations(Cropping())]
    assert names == ["Compose", "RandomCrop", "HorizontalFlip"]


class Counting:
    """A set that draws by the pass it is told."""

    turn = -1

    def set_epoch(self, epoch: int) -> None:
        self.turn = epoch

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        return self.turn


def test_a_set_that_counts_passes_is_told_them() -> None:
    dataset = SeededDataset(Counting(), 0)
    assert [dataset[0, 3], dataset[0, 1]] == [3, 1]


def test_plain_objects_are_wrapped_where_asked(data: Callable[..., DataModuleFromConfig]) -> None:
    module = data(wrap=True)
    module.setup()
    assert isinstance(module.datasets["train"], WrappedDataset)
    assert len(module.datasets["train"]) == 8
    assert hasattr(module.drawn_from, "conditional_builders")


def test_workers_are_as_published_but_no_more_than_processors(
    data: Callable[..., DataModuleFromConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 12)
    assert data(batch_size=2, num_workers=None).num_workers == 4
    assert data(batch_size=9, num_workers=None).num_workers == 12
    assert data(batch_size=9, num_workers=30).num_workers == 30


def test_a_set_that_is_missing_or_empty_is_named(
    data: Callable[..., DataModuleFromConfig], shapes: str
) -> None:
    with pytest.raises(ConfigError, match="no section 'train'"):
        data(train=None).train_dataloader()
    empty = {"target": shapes, "params": {"count": 0}}
    with pytest.raises(ConfigError, match=r"data\.params\.train: published_sets\.Shapes is empty"):
        data(train=empty).train_dataloader()


def test_held_out_samples_are_spread_over_the_set(
    data: Callable[..., DataModuleFromConfig],
) -> None:
    assert classes([data().held_out(3)]) == [0, 4, 7]
    assert len(data().held_out(20)["image"]) == 8
    assert data(validation=None).held_out(3) is None


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (2, 3, 4, 6)])
def test_either_layout_becomes_channels_first(shape: tuple[int, ...]) -> None:
    assert channels_first(torch.zeros(shape), 3).shape == (2, 3, 4, 6)


def test_planes_gain_a_channel_and_doubles_become_floats() -> None:
    planes = channels_first(torch.zeros(2, 4, 6, dtype=torch.float64), 1)
    assert planes.shape == (2, 1, 4, 6)
    assert planes.dtype == torch.float32


def test_pictures_with_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4, 6, 4\) have no axis of 3 channels"):
        channels_first(torch.zeros(2, 4, 6, 4), 3)


def first_stage(net2net: Callable[..., Config], kinds: Config, **trainer: Any) -> Config:
    """A published first stage of label maps, on the data of the second stage."""
    config = net2net(trainer=trainer)
    model = kinds["segmentation"][0]
    loss = {"target": "taming.first_stage.segmentation.BCELossWithQuant", "params": {}}
    model["params"] |= {"lossconfig": loss, "image_key": "segmentation"}
    return {**config, "model": {"learning_rate": 1e-2, **model}}


def test_a_first_stage_of_label_maps_trains_on_published_batches_and_resumes(
    net2net: Callable[..., Config], kinds: Config, tmp_path: Path
) -> None:
    whole = train(first_stage(net2net, kinds, max_steps=4), runs=tmp_path / "whole")
    folder = train(first_stage(net2net, kinds, max_steps=3), runs=tmp_path / "cut")
    train({"trainer": {"max_steps": 4}}, resume=folder)
    expected = read_state_dict(whole / "weights.safetensors")
    for name, weight in read_state_dict(folder / "weights.safetensors").items():
        assert torch.equal(weight, expected[name]), name
    assert (whole / "images" / "reconstructions_0000004.png").is_file()


def test_a_dry_run_counts_the_samples(
    net2net: Callable[..., Config], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(net2net(), runs=tmp_path, dry_run=True)
    assert "published_sets.Shapes" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
