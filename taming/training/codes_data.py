"""The data section of a second stage: the sets of pictures, as cached codes with drawn conditions.

    data:
      target: taming.training.codes_data.CodesData
      params:
        sets: [{path: data/rooms, size: 128}]     # as in taming.data.datamodule.ImageData
        batch_size: 32
        codes: {draws: 8}

Every picture is drawn and encoded `draws` times into a cache before the first step. For the
any-order transformer, orders, known regions and dropping are drawn at each reading; the published
one reads its tokens as they are. Resuming and dividing among devices are those of `ImageData`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from taming.cond_stage.base import Condition
from taming.config import ConfigError, check_arguments, from_mapping
from taming.console import progress_bar
from taming.data.datamodule import ImageData, prepare_worker
from taming.data.marks import mark_of
from taming.data.mix import Mix
from taming.data.sampler import BatchSampler, Index, InOrder
from taming.training.cache import CodesCache, Encode, Progress, build_cache, encode, fingerprint
from taming.training.codes import Dropping, Example, OrderShares, draw_example, stack_examples
from taming.training.sequences import Sequences, described, encode_sequences, stack_sequences
from taming.transformer.multi_task import MultiTaskTransformer
from taming.transformer.net2net import Net2NetTransformer

logger = logging.getLogger(__name__)

CACHE = "cache"  # folder in a run directory


@dataclass(frozen=True)
class CodesSettings:
    """The `codes` of the data section."""

    draws: int = 8  # records of each training picture
    cache: str | None = None  # folder; None: `cache` in the run directory
    orders: OrderShares = field(default_factory=OrderShares)
    dropping: Dropping = field(default_factory=Dropping)
    encode_batch: int = 32  # pictures encoded at a time

    def check(self, conditions: Collection[str]) -> None:
        """ValueError where these settings do not fit a model with these conditions."""
        self.orders.probabilities("known" in conditions)
        self.dropping.check(conditions)


class Examples(Dataset):
    """Examples of a cache; item (index, pass) is drawn from (seed, pass, index) alone."""

    def __init__(
        self,
        cache: CodesCache,
        conditions: Mapping[str, Condition],
        settings: CodesSettings,
        seed: int,
    ) -> None:
        self.cache, self.settings, self.seed = cache, settings, seed
        # Workers get modules of their own, on the CPU; they derive values and embed nothing.
        self.conditions = {name: copy.deepcopy(each).cpu() for name, each in conditions.items()}

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: Index) -> Example:
        record, turn = index
        rng = np.random.default_rng((self.seed, turn, record))
        settings = self.settings
        return draw_example(
            self.cache[record], self.conditions, settings.orders, settings.dropping, rng
        )


@contextmanager
def moved(model: nn.Module, device: torch.device | str | None) -> Iterator[None]:
    """The model on this device, and back where it was; None leaves it there."""
    before = next(model.parameters()).device
    model.to(before if device is None else device)
    try:
        yield
    finally:
        model.to(before)


class CodesData(ImageData):
    """Loaders of `CodesBatch`, for the published second stage of `SequenceBatch`.

    `codes` has the fields of `CodesSettings`, the rest are ImageData's. `attach` gives it the model
    whose first stage encodes.
    """

    def __init__(
        self,
        sets: Sequence[Mapping[str, Any] | str],
        codes: Mapping[str, Any] | None = None,
        **images: Any,
    ) -> None:
        check_arguments(ImageData, {"sets": sets, **images}, "data.params")
        super().__init__(sets, **images)
        self.settings = from_mapping(CodesSettings, codes or {}, "data.params.codes")
        self._model: MultiTaskTransformer | Net2NetTransformer | None = None
        self._caches: dict[str, CodesCache] = {}

    def attach(
        self,
        model: MultiTaskTransformer | Net2NetTransformer,
        run: str | Path,
        cache: str | Path | None = None,
    ) -> None:
        """Use this model: its first stage encodes. The cache is `cache`, or as set, or in `run`."""
        if isinstance(model, MultiTaskTransformer):
            self.settings.check(model.conditions)
        elif (self.settings.orders, self.settings.dropping) != (OrderShares(), Dropping()):
            raise ConfigError(
                "data.params.codes: orders and dropping are for a MultiTaskTransformer; a "
                "Net2NetTransformer has one order and one condition, leave them out"
            )
        self._model = model
        self._folder = Path(cache or self.settings.cache or Path(run) / CACHE)

    def caches(
        self, progress: Progress | None = None, device: torch.device | str | None = None
    ) -> dict[str, CodesCache]:
        """The caches "train" and "validation", built where they do not exist yet.

        Pictures are encoded on `device`, else where the trainer trains, else where the model is.
        """
        model = self._model
        assert model is not None, "attach a model first"
        mixes = {"train": self.train, "validation": self.validation}
        for split, mix in mixes.items():
            if split in self._caches or mix is None:
                continue
            folder = self._folder / split
            draws = self.settings.draws if split == "train" else 1
            mark = fingerprint(model.first_stage_model, self._described(split, mix, draws))
            if folder.exists():
                self._caches[split] = CodesCache(folder, mark)
                continue
            logger.info("encoding %d pictures %d times into %s", len(mix), draws, folder)
            with moved(model, device or self._training_device()):
                self._caches[split] = build_cache(
                    folder,
                    mix,
                    self._encode(),
                    draws=draws,
                    mark=mark,
                    batch_size=self.settings.encode_batch,
                    num_workers=self.num_workers,
                    progress=progress,
                )
        return self._caches

    def _training_device(self) -> torch.device | None:
        """Lightning moves the model there only after data is prepared."""
        return None if self.trainer is None else self.trainer.strategy.root_device

    def prepare_data(self) -> None:
        """Lightning calls this on one process of each machine, before the others read."""
        with progress_bar("encoding") as progress:
            self.caches(progress)

    def _encode(self) -> Encode:
        """How samples become records, which the model decides."""
        model = self._model
        if isinstance(model, Net2NetTransformer):
            return partial(encode_sequences, model=model)
        assert model is not None, "attach a model first"
        return partial(encode, first_stage=model.first_stage_model, conditions=model.conditions)

    def _described(self, split: str, mix: Mix, draws: int) -> dict[str, Any]:
        """Everything but the first stage's weights that decides what a record holds."""
        return {
            "split": split,
            "draws": draws,
            "sets": [asdict(entry) for entry in self.sets],
            "pictures": [mark_of(part) for part in mix.sets],
            "size": self.default_size,
            "seed": self.seed,
            "label_names": self.label_names,
            "class_names": self.class_names,
            "box_names": self.box_names,
            **self._described_conditions(),
        }

    def _described_conditions(self) -> dict[str, Any]:
        model = self._model
        if isinstance(model, Net2NetTransformer):
            return {"sequence": described(model)}
        assert model is not None, "attach a model first"
        once = {name: each for name, each in model.conditions.items() if each.precomputed}
        # What is computed once, and by what: the name of a text encoder, say.
        return {
            "once": {
                name: {key: value for key, value in vars(each).items() if isinstance(value, str)}
                for name, each in once.items()
            }
        }

    def train_dataloader(self) -> DataLoader:
        cache = self.caches()["train"]
        rank, replicas = self._device()
        sampler = BatchSampler(
            cache.lengths,
            cache.sizes,
            cache.weights,
            self.batch_size,
            seed=self.seed,
            epoch_size=self.epoch_size,
            rank=rank,
            replicas=replicas,
        )
        return self._examples(cache, self.resumed(sampler))

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        cache = self.caches().get("validation")
        if cache is None:
            return []
        rank, replicas = self._device()
        order = InOrder(
            cache.lengths,
            cache.sizes,
            self.batch_size,
            limit=self.validation_per_set,
            rank=rank,
            replicas=replicas,
        )
        return self._examples(cache, order)

    def _examples(self, cache: CodesCache, sampler: BatchSampler | InOrder) -> DataLoader:
        model = self._model
        assert model is not None, "attach a model first"
        if isinstance(model, Net2NetTransformer):
            examples, stack = Sequences(cache), stack_sequences
        else:
            examples = Examples(cache, model.conditions, self.settings, self.seed)
            stack = partial(stack_examples, conditions=examples.conditions)
        return DataLoader(
            examples,
            batch_sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=stack,
            worker_init_fn=prepare_worker,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context=self.start_method if self.num_workers > 0 else None,
        )

    def held_out(self, count: int) -> dict[str, Any] | None:
        """Pictures to look at: batches have none, hence of training where none are held out."""
        return super().held_out(count) or self._spread(self.train, count)
