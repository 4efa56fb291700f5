"""The data section of a configuration: sets, sizes and weights -> loaders for a trainer.

    data:
      target: taming.data.datamodule.ImageData
      params:
        batch_size: 32
        sets:
          - {path: "${oc.env:TAMING_DATA,data}/camvid", size: [96, 128], weight: 2}
          - {path: ~/pictures, size: 128}
          - {path: ~/coco, size: 256, format: coco}

The only file outside `training/` that knows Lightning. Use it with
`Trainer(use_distributed_sampler=False)`: the batch sampler divides each step among the devices
itself, because the pictures of a step must have one size on all of them.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from taming.config import from_mapping
from taming.data.batch import collate
from taming.data.image_list import ImageList, expanded, pair
from taming.data.mix import Mix
from taming.data.paired_folder import open_set
from taming.data.pictures import NoPictures
from taming.data.sampler import BatchSampler, InOrder

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SetConfig:
    """One entry of `sets`; what is None is taken from the defaults of `ImageData`."""

    path: str
    size: int | tuple[int, int] | None = None  # height and width
    weight: float | None = None  # share among the pictures drawn; None: its number of pictures
    name: str | None = None  # in batches and logs; the folder's name
    format: str = "folder"  # or the name of a known set's layout, see taming.data.formats
    split: str = "train"
    validation_split: str | None = "validation"  # None: not used for validation
    annotations: tuple[str, ...] | None = None  # None: all
    ignore: tuple[str, ...] = ()  # label names that count as unlabelled
    flip: bool = True
    scale: tuple[float, float] = (1.0, 1.0)
    jitter: float = 0.0


class ResumableData(LightningDataModule):
    """Goes on at the batch where training was, whatever the workers had read ahead."""

    def __init__(self) -> None:
        super().__init__()
        self._sampler: BatchSampler | None = None
        self._resume: tuple[int, int] | None = None
        self._batches: int | None = None  # of an epoch, in the training that goes on

    def resumed(self, sampler: BatchSampler) -> BatchSampler:
        """The sampler of training, which is remembered, at the batch where training goes on."""
        batches = _limited(len(sampler), self.trainer)
        if self._batches not in (None, batches):
            raise ValueError(
                f"the training that goes on has epochs of {self._batches} batches, and these "
                f"settings make {batches}; resume with the same batch_size, sets, epoch_size and "
                f"devices, or begin a new run from its weights with model.params.ckpt_path"
            )
        if self._resume is not None:
            sampler.resume_at(*self._resume)
        self._sampler = sampler
        return sampler

    def resume_at(self, epoch: int, batch: int) -> None:
        """Training continues before this batch of this epoch, as if never interrupted."""
        self._resume = (epoch, batch)
        if self._sampler is not None:
            self._sampler.resume_at(epoch, batch)

    def state_dict(self) -> dict[str, Any]:
        """Where training is, from the trainer's own counters: workers are always ahead of it."""
        if self.trainer is None or self._sampler is None:
            return {}
        progress = self.trainer.fit_loop.epoch_loop.batch_progress.state_dict()
        done = int(progress["total"]["processed"])
        batches = int(self.trainer.num_training_batches)
        epoch, batch = divmod(done, batches)
        return {"epoch": epoch, "batch": batch, "batches": batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict:
            self._batches = state_dict.get("batches")
            self.resume_at(int(state_dict["epoch"]), int(state_dict["batch"]))

    def _device(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size


def _limited(batches: int, trainer: Any) -> int:
    """Batches of an epoch as Lightning counts them, by `trainer.limit_train_batches`."""
    limit = 1.0 if trainer is None else trainer.limit_train_batches
    return min(batches, limit) if isinstance(limit, int) else int(batches * limit)


def _overlap(split: str, held_out: str) -> bool:
    """Whether pictures may be in both; the same split twice is asked for on purpose."""
    parts, held = set(split.split("+")), set(held_out.split("+"))
    return parts != held and bool(parts & held or "all" in parts | held)


class ImageData(ResumableData):
    """Loaders over a mix of sets.

    sets: mappings with the fields of `SetConfig`, or plain paths.
    size: height and width where a set gives none.
    batch_size: pictures a step on each device.
    epoch_size: pictures in an epoch; None: as many as the sets have.
    validation_per_set: at most so many pictures of each set, spread over it; None: all.
    label_names, class_names, box_names: vocabularies; None merges those of the sets by name.
    start_method: "fork", "spawn" or "forkserver" for the workers; None: the platform's own.
    """

    def __init__(
        self,
        sets: Sequence[Mapping[str, Any] | str],
        batch_size: int = 16,
        size: int | Sequence[int] | None = None,
        num_workers: int = 0,
        seed: int = 0,
        epoch_size: int | None = None,
        validation_per_set: int | None = None,
        label_names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        box_names: Sequence[str] | None = None,
        start_method: str | None = None,
    ):
        super().__init__()
        entries = [{"path": entry} if isinstance(entry, str) else entry for entry in sets]
        self.sets = [from_mapping(SetConfig, e, f"sets[{i}]") for i, e in enumerate(entries)]
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self.default_size = None if size is None else pair(size)
        self.epoch_size, self.validation_per_set = epoch_size, validation_per_set
        self.start_method = start_method
        self._given = (label_names, class_names, box_names)
        self._train: Mix | None = None
        self._validation: Mix | None = None

    # --- sets ----------------------------------------------------------------------------------

    @property
    def train(self) -> Mix:
        """The sets to train on, built at the first use."""
        if self._train is None:
            parts = [self._open(entry, entry.split, random=True) for entry in self.sets]
            given = [entry.weight for entry in self.sets]
            weights = [
                float(len(part)) if weight is None else weight
                for part, weight in zip(parts, given, strict=True)
            ]
            if any(weight is not None for weight in given) and None in given:
                raise ValueError(f"weights {given}: give every set a weight, or none")
            self._train = Mix(parts, weights, *self._given)
            for part in parts:
                counts = part.annotated().items()
                found = ", ".join(f"{count} with {kind}" for kind, count in counts)
                logger.info("set '%s': %d pictures (%s), %s", part.name, len(part),
                            found or "no annotations", part.draw)  # fmt: skip
        return self._train

    @property
    def validation(self) -> Mix | None:
        """The held-out parts of the sets that have one, in the vocabulary of training.

        Where a set has nothing to train on, vocabularies that are not given are those of these.
        """
        if self._validation is None:
            parts = []
            for entry in self.sets:
                if entry.validation_split is None:
                    continue
                try:
                    parts.append(self._open(entry, entry.validation_split, random=False))
                except NoPictures as error:
                    logger.info("no validation on this set: %s", error)
                    continue
                if _overlap(entry.split, entry.validation_split):
                    logger.warning(
                        "set %s: split '%s' is trained on, '%s' of it is looked at for validation, "
                        "which then tells nothing of new pictures; set validation_split to null",
                        entry.path, entry.split, entry.validation_split,
                    )  # fmt: skip
            if parts:
                try:
                    names = (self.label_names, self.class_names, self.box_names)
                except NoPictures:
                    names = self._given
                self._validation = Mix(parts, None, *names)
        return self._validation

    def _open(self, entry: SetConfig, split: str, random: bool) -> ImageList:
        size = entry.size if entry.size is not None else self.default_size
        if size is None:
            raise ValueError(f"set {entry.path} has no size; give `size` there or for all sets")
        options = {
            k: asdict(entry)[k] for k in ("flip", "scale", "jitter", "ignore", "name", "format")
        }
        options |= {
            "annotations": entry.annotations,
            "seed": self.seed,
            "size": size,
            "random": random,
        }
        return open_set(expanded(entry.path), split, **options)

    @property
    def label_names(self) -> list[str]:
        """The label vocabulary, to be kept in the resolved configuration."""
        return self.train.label_names if self._given[0] is None else list(self._given[0])

    @property
    def class_names(self) -> list[str]:
        """The class vocabulary, to be kept in the resolved configuration."""
        return self.train.class_names if self._given[1] is None else list(self._given[1])

    @property
    def box_names(self) -> list[str]:
        """The vocabulary of things in boxes, to be kept in the resolved configuration."""
        return self.train.box_names if self._given[2] is None else list(self._given[2])

    # --- loaders -------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader:
        mix = self.train
        rank, replicas = self._device()
        sampler = BatchSampler(
            mix.lengths, mix.sizes, mix.weights, self.batch_size,
            seed=self.seed, epoch_size=self.epoch_size, rank=rank, replicas=replicas,
        )  # fmt: skip
        return self._loader(mix, self.resumed(sampler))

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        mix = self.validation
        if mix is None:
            return []
        rank, replicas = self._device()
        limit = self.validation_per_set
        order = InOrder(
            mix.lengths, mix.sizes, self.batch_size, limit=limit, rank=rank, replicas=replicas
        )
        return self._loader(mix, order)

    def _loader(self, mix: Mix, sampler: BatchSampler | InOrder) -> DataLoader:
        return DataLoader(
            mix,
            batch_sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=prepare_worker,
            persistent_workers=self.num_workers > 0,
            multiprocessing_context=self.start_method if self.num_workers > 0 else None,
        )

    def held_out(self, count: int) -> dict[str, Any] | None:
        """A batch of pictures spread over the held-out sets, of the size of the first."""
        return None if self.validation is None else self._spread(self.validation, count)

    @staticmethod
    def _spread(mix: Mix, count: int) -> dict[str, Any]:
        chosen = np.linspace(0, len(mix) - 1, count).round().astype(int)
        samples = [mix[int(index)] for index in chosen]
        size = samples[0]["image"].shape
        return collate([sample for sample in samples if sample["image"].shape == size])


def prepare_worker(worker: int) -> None:
    """One thread a worker: the pictures of a batch are already spread over the workers."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import cv2

    cv2.setNumThreads(0)
