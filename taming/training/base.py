"""What the training of both stages shares: averaged weights, precision, validation, export."""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from taming.checkpoint import FIRST_STAGE, LOSS_KEYS, without_prefix
from taming.cond_stage.drawing import draw_planes
from taming.cond_stage.sources import to_uint8
from taming.config import ConfigError
from taming.data.published_batch import read_input
from taming.first_stage.ema import EMA
from taming.training.memory import keep_freed_memory
from taming.training.muon import MuonAdamW, hidden_matrices, split_groups
from taming.training.settings import TrainingSettings

COMPILED = ("encoder", "decoder", "transformer")  # parts worth compiling, where a model has them


class StageTraining(pl.LightningModule):
    """Wires a plain model to Lightning. A subclass states its steps, optimisers and pictures.

    In a `.ckpt` the weights have the names they have in the model alone, so that it is read like a
    published one; their averages stand beside them.
    """

    usual_weight_decay = 0.05  # where the settings say nothing

    def __init__(self, model: nn.Module, settings: TrainingSettings, learning_rate: float) -> None:
        super().__init__()
        self.model = model
        self.settings = settings
        self.learning_rate = learning_rate
        self.ema = EMA(model, settings.ema_decay, exclude=("loss.", FIRST_STAGE))
        self.seed = torch.initial_seed() % 2**32
        self.batches = 0  # trained on so far, those before a resume included

    def setup(self, stage: str) -> None:
        if self.trainer.strategy.root_device.type == "cpu":
            keep_freed_memory()
        settings = self.settings
        if settings.decay == "cosine" and settings.decay_steps is None:
            limit = self.step_limit()
            if limit is None:
                raise ConfigError(
                    "training.decay is cosine, but nothing says how long it is; give "
                    "training.decay_steps or trainer.max_steps"
                )
            self.settings = replace(settings, decay_steps=limit)
        if settings.channels_last:
            self.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if settings.compile:
            for name, part in self.model.named_children():
                if name in COMPILED:
                    part.compile()

    def on_train_start(self) -> None:
        """What is asked for now counts, not the options that a checkpoint's optimisers bring."""
        self.train()  # a model that was loaded is in evaluation mode
        asked: Any = self.configure_optimizers()
        wanted = asked if isinstance(asked, list) else [asked]
        for optimizer, new in zip(self.trainer.optimizers, wanted, strict=True):
            for group, options in zip(optimizer.param_groups, new.param_groups, strict=True):
                group.update({name: v for name, v in options.items() if name != "params"})

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Noise within a step comes from (seed, batch, device): a resumed run draws the same."""
        source = np.random.SeedSequence((self.seed, self.batches, self.global_rank))
        torch.manual_seed(int(source.generate_state(1)[0]))
        self.batches += 1

    def mixed(self) -> contextlib.AbstractContextManager[Any]:
        """bf16 autocast where it pays, else nothing."""
        if self.settings.autocasts(self.device):
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def exact(self) -> contextlib.AbstractContextManager[Any]:
        """float32, whatever else is mixed: the codes of a frozen encoder are those it will give."""
        return torch.autocast(self.device.type, enabled=False)

    @property
    def fused(self) -> bool:
        """One pass over weights and moments, where single operations make eight.

        Beside it, Lightning's mixed precision cannot clip gradients.
        """
        return self._trainer is None or not str(self.trainer.precision).endswith("-mixed")

    @property
    def weight_decay(self) -> float:
        given = self.settings.weight_decay
        return self.usual_weight_decay if given is None else given

    @property
    def image_key(self) -> str:
        """The name of the pictures in a batch; published configs may say another."""
        return getattr(self.model, "image_key", "image")

    def images(self, batch: dict[str, Any]) -> Tensor:
        """The pictures of a batch (B, C, H, W), laid out as the convolutions like them."""
        layout = torch.channels_last if self.settings.channels_last else torch.contiguous_format
        config = getattr(self.model, "config", None)
        images = read_input(batch, self.image_key, getattr(config, "in_channels", 3))
        return images.contiguous(memory_format=layout)

    def held_out(self, count: int) -> Any:
        """A batch of so many held-out samples on this device; None where nothing is held out."""
        find = getattr(getattr(self.trainer, "datamodule", None), "held_out", None)
        batch = None if find is None else find(count)
        return None if batch is None else self.transfer_batch_to_device(batch, self.device, 0)

    def steps_done(self) -> int:
        """Optimiser steps of the model, whatever Lightning counts."""
        return self.global_step

    def step_limit(self) -> int | None:
        """How many of them there will be, where that is known."""
        return self.trainer.max_steps if self.trainer.max_steps > 0 else None

    @abstractmethod
    def pictures(self) -> dict[str, np.ndarray]:
        """Grids to look at, uint8 (H, W, 3), by name; with the averaged weights."""

    def export(self) -> dict[str, Tensor]:
        """The weights that are kept: averaged, without losses."""
        frozen = self.model.state_dict()
        kept = {name: tensor for name, tensor in frozen.items() if not LOSS_KEYS.search(name)}
        return {**kept, **self.ema.weights()}

    def on_validation_start(self) -> None:
        self.ema.swap()

    def on_validation_end(self) -> None:
        self.ema.swap()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        weights = without_prefix(checkpoint["state_dict"], "model.")
        averages = self.ema.state_dict()
        if self.ema.is_swapped:  # others' callbacks may save where a validation ends
            with self.ema.swapped():
                trained = {name: each.clone() for name, each in self.model.state_dict().items()}
                weights, averages = {**weights, **trained}, self.ema.state_dict()
        checkpoint["state_dict"], checkpoint["ema"] = weights, averages
        checkpoint["stage"] = {"seed": self.seed, "batches": self.batches}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {f"model.{name}": tensor for name, tensor in state.items()}
        self.ema.load_state_dict(checkpoint["ema"])
        self.seed, self.batches = checkpoint["stage"]["seed"], checkpoint["stage"]["batches"]


class TransformerTraining(StageTraining):
    """One optimiser; accumulation, clipping and max_steps are the trainer's."""

    def __init__(self, model: nn.Module, settings: TrainingSettings, learning_rate: float) -> None:
        super().__init__(model, settings, learning_rate)
        transformer: Any = model.transformer
        transformer.recompute_activations(settings.checkpoint_activations)

    def optimizer(self, groups: list[dict[str, Any]]) -> AdamW | MuonAdamW:
        """The optimiser that the settings name, over these groups."""
        rate, betas = self.learning_rate, self.settings.betas
        if self.settings.optimizer == "muon":
            transformer: Any = self.model.transformer
            return MuonAdamW(*split_groups(groups, hidden_matrices(transformer)), rate, betas)
        return AdamW(groups, rate, betas, fused=self.fused)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Lightning calls this for steps alone, not for batches that are accumulated."""
        # Set here, not by a scheduler: its state would bring the old rate back at a resume.
        for group in optimizer.param_groups:
            group["lr"] = self.rate()
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.ema.update()

    def rate(self) -> float:
        """The learning rate of this step."""
        return self.learning_rate * self.settings.rate(self.global_step)


def picture_count(batch: Mapping[str, Any]) -> int:
    """How many pictures a batch holds, whatever it calls them."""
    return next(len(entry) for entry in batch.values() if isinstance(entry, Tensor))


def decayed_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: weight decay for matrices, none for vectors, embeddings and norms."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.ndim >= 2 and id(p) not in tables]
    rest = [p for p in trained if p.ndim < 2 or id(p) in tables]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]


def as_colours(values: Tensor) -> np.ndarray:
    """What (B, C, H, W) looks like, uint8 (B, H, W, 3): pictures, planes or scores of labels.

    Three channels are a picture and one a plane, both in [-1, 1]; more are a label each, shown in
    the colours of label maps.
    """
    return to_uint8(values) if values.shape[1] == 3 else draw_planes(values)


def grid_picture(rows: list[np.ndarray], gap: int = 2) -> np.ndarray:
    """Rows of pictures (n, H, W, 3) of one size as one picture, uint8."""
    height, width = rows[0].shape[1:3]
    columns = max(len(row) for row in rows)
    canvas = np.full(
        (len(rows) * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8
    )
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            top, left = gap + r * (height + gap), gap + c * (width + gap)
            canvas[top : top + height, left : left + width] = picture
    return canvas
