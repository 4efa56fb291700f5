"""Trains the published second stage: from cached tokens, or on pictures encoded in the step.

One AdamW over the transformer's weights: decay for the weights of linear layers, none for biases,
norms, embeddings and positions, as in minGPT (A. Karpathy) and as published. Both stages around the
transformer are frozen. Batches may be published ones, channels last, or ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from taming.cond_stage.drawing import text_card
from taming.cond_stage.sources import to_uint8
from taming.training.base import TransformerTraining, grid_picture, picture_count
from taming.training.muon import MuonAdamW
from taming.training.sequences import SequenceBatch
from taming.transformer.net2net import Net2NetTransformer

COLUMNS = 4  # of a grid
CLASS_NAMES = "human_label"  # what published data sets call the name of a picture's class


class Net2NetTraining(TransformerTraining):
    """Wires a `Net2NetTransformer`."""

    model: Net2NetTransformer
    usual_weight_decay = 0.01
    latest: Any = None  # the last batch, looked at where nothing is held out

    def configure_optimizers(self) -> AdamW | MuonAdamW:
        groups = linear_groups(self.model.transformer, self.weight_decay)
        return self.optimizer(groups)

    def training_step(self, batch: Mapping[str, Any] | SequenceBatch, _: int) -> Tensor:
        loss = self._loss(batch)
        self.latest = None if isinstance(batch, SequenceBatch) else batch
        self.log("train/loss", loss.detach())
        self.log("learning_rate", self.rate())
        return loss

    def validation_step(self, batch: Mapping[str, Any] | SequenceBatch, _: int) -> None:
        is_cached = isinstance(batch, SequenceBatch)
        count = len(batch.codes) if is_cached else picture_count(batch)
        self.log("validation/loss", self._loss(batch), batch_size=count, sync_dist=True)

    def _loss(self, batch: Mapping[str, Any] | SequenceBatch) -> Tensor:
        """Cross-entropy in nats per image token."""
        if isinstance(batch, SequenceBatch):
            codes, prefix = self.model.permuter(batch.codes), batch.prefix
        else:
            x, c = self.model.get_xc(batch)
            with self.exact():
                codes, prefix = self.model.encode_to_z(x)[1], self.model.encode_to_c(c)[1]
        with self.mixed():
            return self.model.loss_of_codes(codes, prefix)

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """The published grids: pictures, conditions, and what is painted from half, from nothing.

        The same draws every time, so that two grids differ by what was learned between them.
        """
        count = self.settings.pictures
        batch = self.held_out(count)
        batch = self.latest if batch is None else batch
        if batch is None:
            return {}
        was_training = self.model.training
        devices = [self.device] if self.device.type == "cuda" else []
        with self.ema.swapped(), torch.random.fork_rng(devices), self.mixed():
            torch.manual_seed(self.seed)
            shown = self.model.eval().log_images(batch, count=count)
        self.model.train(was_training)
        height, width = shown["inputs"].shape[-2:]
        conditions = self._drawn(batch, count, (height, width))
        grids = {name: to_uint8(images) for name, images in shown.items()}
        if conditions is not None:
            grids["conditioning"] = conditions
        return {name: _grid(images) for name, images in grids.items()}

    def _drawn(
        self, batch: Mapping[str, Any], count: int, size: tuple[int, int]
    ) -> np.ndarray | None:
        """Conditions that the data set alone can name: classes, and boxes of things."""
        key = self.model.cond_stage_key
        if self.model.be_unconditional:
            return None
        if key == "class_label" and CLASS_NAMES in batch:
            return np.stack([text_card(str(name), size) for name in batch[CLASS_NAMES][:count]])
        source = getattr(getattr(self.trainer, "datamodule", None), "drawn_from", None)
        builders = getattr(source, "conditional_builders", {})
        if source is None or key not in builders:
            return None
        plot, name = builders[key].plot, source.get_textual_label_for_category_no
        tokens = batch[key][:count].cpu()
        return to_uint8(torch.stack([plot(row, name, size[::-1]) for row in tokens]))


def _grid(images: np.ndarray) -> np.ndarray:
    return grid_picture([images[i : i + COLUMNS] for i in range(0, len(images), COLUMNS)])


def linear_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: decay for the weights of linear layers, none for everything else."""
    linear = {id(part.weight) for part in model.modules() if isinstance(part, nn.Linear)}
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if id(p) in linear], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) not in linear], "weight_decay": 0.0},
    ]
