"""Published data sections: any data sets by their targets -> loaders for a trainer.

    data:
      target: main.DataModuleFromConfig
      params:
        batch_size: 12
        train: {target: taming.data.custom.CustomTrain, params: {size: 256, ...}}
        validation: {target: ...}

Samples and batches keep the layout of the data set (pictures H, W, C in [-1, 1]). Such sets draw
their crops from whatever stream of random numbers is at hand; here every sample is drawn with all
of them set by (seed, pass, index), so that a resumed training sees the same pictures, with any
number of workers.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from taming.config import (
    ConfigError,
    instantiate_from_config,
    instantiate_trusted,
    trusting,
)
from taming.data.datamodule import ResumableData, prepare_worker
from taming.data.sampler import BatchSampler, InOrder
from taming.data.unpacking import custom_collate

SPLITS = ("train", "validation", "test")
DEPTH = 5  # of objects within a data set that are searched for augmentations
FEW = 64  # entries of a list that is searched; longer ones are lists of files


class WrappedDataset(Dataset):
    """Anything with a length and items as a data set."""

    def __init__(self, dataset: Any) -> None:
        self.data = dataset

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, idx: int) -> Any:
        return self.data[idx]


class SeededDataset(Dataset):
    """Items (index, pass) of a data set that takes plain indices, as draws of their own.

    A data set that has `set_epoch` is told the pass; other draws are made exact by `seeded`.
    """

    def __init__(self, dataset: Any, seed: int) -> None:
        self.data, self.seed = dataset, seed
        self._augmentations: list[Any] | None = None  # found once in every worker

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, item: tuple[int, int]) -> Any:
        index, turn = item
        if self._augmentations is None:
            self._augmentations = list(augmentations(self.data))
        if hasattr(self.data, "set_epoch"):
            self.data.set_epoch(turn)
        with seeded((self.seed, turn, index), self._augmentations):
            return self.data[index]


@contextmanager
def seeded(entropy: tuple[int, ...], augmentations: list[Any]) -> Iterator[None]:
    """Inside, the streams of Python, NumPy, PyTorch and albumentations start from `entropy`.

    The first three belong to everybody and return to where they were.
    """
    kept = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
    words = np.random.SeedSequence(entropy).generate_state(3 + len(augmentations)).tolist()
    random.seed(words[0])
    np.random.seed(words[1])
    torch.random.default_generator.manual_seed(words[2])
    # One number each: with one for all, flip and crop would be drawn alike.
    for augmentation, word in zip(augmentations, words[3:], strict=True):
        augmentation.set_random_seed(word)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.random.set_rng_state(kept[2])


def augmentations(part: Any, depth: int = DEPTH, seen: set[int] | None = None) -> Iterator[Any]:
    """What albumentations keeps within a data set, pipelines before the steps they hold."""
    seen = set() if seen is None else seen
    if depth < 0 or id(part) in seen or isinstance(part, str | bytes | int | float | np.ndarray):
        return
    seen.add(id(part))
    if isinstance(part, Mapping):
        inner: Any = part.values() if len(part) <= FEW else ()
    elif isinstance(part, list | tuple):
        inner = part if len(part) <= FEW else ()
    else:
        if callable(getattr(part, "set_random_seed", None)) and not isinstance(part, type):
            yield part
        inner = getattr(part, "__dict__", {}).values() if not isinstance(part, type) else ()
    for entry in inner:
        yield from augmentations(entry, depth - 1, seen)


def collated(samples: list[Any]) -> Any:
    """A batch without float64, which some devices (MPS) refuse to hold and no model computes in."""
    return _singled(custom_collate(samples))


def _singled(batch: Any) -> Any:
    if isinstance(batch, torch.Tensor):
        return batch.float() if batch.dtype == torch.float64 else batch
    if isinstance(batch, Mapping):
        return {key: _singled(entry) for key, entry in batch.items()}
    return batch


class DataModuleFromConfig(ResumableData):
    """Loaders over the data sets of the sections `train`, `validation` and `test`.

    wrap: the sections give plain objects with a length and items, not data sets.
    num_workers: processes that read each set; None: as published, twice the batch size, but no
        more than there are processors.
    """

    def __init__(
        self,
        batch_size: int,
        train: Mapping[str, Any] | None = None,
        validation: Mapping[str, Any] | None = None,
        test: Mapping[str, Any] | None = None,
        wrap: bool = False,
        num_workers: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.batch_size, self.wrap, self.seed = batch_size, wrap, seed
        usual = min(2 * batch_size, os.cpu_count() or 1)
        self.num_workers = usual if num_workers is None else num_workers
        given = dict(zip(SPLITS, (train, validation, test), strict=True))
        self.dataset_configs = {name: section for name, section in given.items() if section}
        self.datasets: dict[str, Any] = {}
        self._build = instantiate_trusted if trusting() else instantiate_from_config

    def prepare_data(self) -> None:
        """Sets that fetch or index files do it when they are built: once, before all devices."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        for name, section in self.dataset_configs.items():
            if name not in self.datasets:
                built = self._build(section)
                self.datasets[name] = WrappedDataset(built) if self.wrap else built

    # --- loaders ---

    def train_dataloader(self) -> DataLoader:
        dataset = self._dataset("train")
        rank, replicas = self._device()
        sampler = BatchSampler(
            [len(dataset)], [(0, 0)], [1.0], self.batch_size,
            seed=self.seed, rank=rank, replicas=replicas,
        )  # fmt: skip
        return self._loader(dataset, self.resumed(sampler))

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        return self._in_order("validation") if "validation" in self.dataset_configs else []

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        return self._in_order("test") if "test" in self.dataset_configs else []

    def _in_order(self, split: str) -> DataLoader:
        dataset = self._dataset(split)
        rank, replicas = self._device()
        order = InOrder([len(dataset)], [(0, 0)], self.batch_size, rank=rank, replicas=replicas)
        return self._loader(dataset, order)

    def _dataset(self, split: str) -> Any:
        if split not in self.dataset_configs:
            raise ConfigError(
                f"data.params has no section '{split}'; give it a target and params of a data set"
            )
        self.setup()
        dataset = self.datasets[split]
        if len(dataset) == 0:
            target = self.dataset_configs[split]["target"]
            raise ConfigError(f"data.params.{split}: {target} is empty; check where it reads from")
        return dataset

    def _loader(self, dataset: Any, sampler: BatchSampler | InOrder) -> DataLoader:
        return DataLoader(
            SeededDataset(dataset, self.seed),
            batch_sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collated,
            worker_init_fn=prepare_worker,
            persistent_workers=self.num_workers > 0,
        )

    # --- samples to look at ---

    @property
    def drawn_from(self) -> Any:
        """The data set that knows what its samples mean: names of classes, how boxes are drawn."""
        split = "validation" if "validation" in self.dataset_configs else "train"
        dataset = self._dataset(split)
        return dataset.data if self.wrap else dataset

    def held_out(self, count: int) -> Any:
        """A batch of samples spread over the validation set; None where there is none."""
        if "validation" not in self.dataset_configs:
            return None
        dataset = SeededDataset(self._dataset("validation"), self.seed)
        chosen = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int)
        return collated([dataset[int(index), 0] for index in chosen])
