"""Trains the second stage on cached codes: one optimiser, the loss told for every kind of order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from taming.cond_stage.sources import to_pixels
from taming.pipeline import Pipeline
from taming.training.base import TransformerTraining, decayed_groups, grid_picture
from taming.training.codes import ORDER_KINDS, CodesBatch, training_codes
from taming.training.codes_data import CodesData
from taming.training.muon import MuonAdamW
from taming.transformer.multi_task import MultiTaskTransformer


class SecondStageTraining(TransformerTraining):
    """Wires a `MultiTaskTransformer`."""

    model: MultiTaskTransformer

    def configure_optimizers(self) -> AdamW | MuonAdamW:
        groups = decayed_groups(self.model, self.weight_decay)
        return self.optimizer(groups)

    def training_step(self, batch: CodesBatch, _: int) -> Tensor:
        loss, logs = self._loss(batch)
        self.log_dict({f"train/{name}": value for name, value in logs.items()})
        self.log("learning_rate", self.rate())
        return loss

    def validation_step(self, batch: CodesBatch, _: int) -> None:
        loss, logs = self._loss(batch)
        count = len(batch.codes)
        self.log("validation/loss", loss, batch_size=count, sync_dist=True)
        # Not over all devices: which kinds of order there were may differ from one to the next.
        kinds = {f"validation/{name}": each for name, each in logs.items() if name != "loss"}
        self.log_dict(kinds, batch_size=count)

    def _loss(self, batch: CodesBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy in nats over the cells asked for, and the same by kind of order."""
        with self.exact():
            codes = training_codes(batch, self.model.first_stage_model)
        with self.mixed():
            nats = self.model(codes, batch.values, batch.present, batch.grid)  # (B, T)
        asked = nats.shape[1] - batch.known  # (B,)
        loss = nats.sum() / asked.sum()
        logs = {"loss": loss.detach()}
        for index, kind in enumerate(ORDER_KINDS):
            rows = batch.kind == index
            if bool(rows.any()):
                logs[f"loss_{kind}"] = nats[rows].detach().sum() / asked[rows].sum()
        return loss, logs

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """For every condition: what was given, a sample, the truth; held-out pictures."""
        data = self.trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(data, CodesData)
        cache = data.caches().get("validation") or data.caches()["train"]
        was_training = self.model.training
        grids: dict[str, np.ndarray] = {}
        with self.ema.swapped():
            pipeline = Pipeline(self.model)
            for name in [*self.model.conditions, "nothing"]:
                columns = list(self._columns(name, cache, pipeline))
                if columns:
                    grids[name] = grid_picture(
                        [np.stack(row) for row in zip(*columns, strict=True)]
                    )
        self.model.train(was_training)
        return grids

    def _columns(self, name: str, cache: Any, pipeline: Pipeline) -> Any:
        """(condition, sample, truth) of some held-out records that have this condition."""
        condition = self.model.conditions.get(name)
        found, size = 0, None
        for index in np.linspace(0, len(cache) - 1, min(len(cache), 64)).round().astype(int):
            sample = cache[int(index)]
            height, width = sample["image"].shape[-2:]
            if size not in (None, (height, width)):
                continue
            value = (
                condition.derive(sample, np.random.default_rng(int(index))) if condition else None
            )
            if condition is not None and value is None:
                continue
            size = (height, width)
            truth = to_pixels(sample["image"])
            values = {name: value} if value is not None else {}
            painted = pipeline.paint_values(
                values,
                size,
                seeds=[int(index)],
                steps=self.settings.sampling_steps,
                guidance=self.settings.guidance if values else 1.0,
            )[0]
            shown = truth
            if condition is not None and value is not None:
                shown = condition.show(value, size)
            yield shown, np.asarray(painted), truth
            found += 1
            if found == self.settings.pictures:
                return
