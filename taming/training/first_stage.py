"""Trains a first stage: two players, two optimisers, one forward of the autoencoder for both.

Manual optimisation, as Lightning wants it for two optimisers. Lightning then counts the steps of
both and refuses to accumulate or clip, so both are done here, under the trainer's usual names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from taming.first_stage.losses import VQLPIPSWithDiscriminator
from taming.first_stage.quantize_base import code_counts, perplexity, usage
from taming.first_stage.vqgan import VQModel
from taming.training.base import StageTraining, as_pixels, decayed_groups, grid_picture
from taming.training.settings import TrainingSettings


class FirstStageTraining(StageTraining):
    """Wires a `VQModel` with its `.loss`."""

    model: VQModel
    counts: Tensor

    def __init__(
        self,
        model: VQModel,
        settings: TrainingSettings,
        learning_rate: float,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        max_steps: int = -1,  # steps of the autoencoder's optimiser; -1: no limit
    ) -> None:
        super().__init__(model, settings, learning_rate)
        if not isinstance(model.loss, VQLPIPSWithDiscriminator):
            raise ValueError(
                f"a first stage is trained with VQLPIPSWithDiscriminator, this one has the loss "
                f"{type(model.loss).__name__}; give model.params.lossconfig"
            )
        self.loss = model.loss
        self.automatic_optimization = False
        self.accumulate, self.clip = accumulate_grad_batches, gradient_clip_val
        self.max_steps = max_steps
        self.steps, self.micro = 0, 0
        self.generator = torch.Generator().manual_seed(0)  # draws features for dead codes
        self.register_buffer("counts", torch.zeros(model.codebook_size), persistent=False)

    def steps_done(self) -> int:
        return self.steps

    def configure_optimizers(self) -> list[AdamW]:
        settings, rate = self.settings, self.learning_rate
        players = [module for name, module in self.model.named_children() if name != "loss"]
        autoencoder = torch.nn.ModuleList(players)
        first = AdamW(decayed_groups(autoencoder, settings.weight_decay), rate, settings.betas)
        return [
            first,
            AdamW(self.loss.discriminator.parameters(), rate, (0.5, 0.9), weight_decay=0.0),
        ]

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        images = self.images(batch)
        with self.mixed():
            quantized = self.model.encode(images)
            reconstructions = self.model.decode(quantized.z_q)
            loss, logs = self.loss.generator_loss(
                quantized.loss, images, reconstructions, self.steps, self.model.get_last_layer()
            )
        self._backward(loss, 0)
        share = self.loss.disc_share(self.steps)
        if share > 0:
            with self.mixed():
                loss_d, logs_d = self.loss.discriminator_loss(images, reconstructions, self.steps)
            self._backward(loss_d, 1)
            logs |= logs_d
        self.counts += code_counts(quantized.info.indices, self.model.codebook_size)
        self.micro += 1
        if self.micro % self.accumulate == 0:
            self._step(share > 0)
        self.log_dict({f"train/{name}": value for name, value in logs.items()})
        return loss.detach()

    def _backward(self, loss: Tensor, player: int) -> None:
        """Gradients of one player only; the other's parameters are left out."""
        players: Any = self.optimizers()
        optimizer = players[player]
        self.toggle_optimizer(optimizer)
        self.manual_backward(loss / self.accumulate)
        self.untoggle_optimizer(optimizer)

    def _step(self, both: bool) -> None:
        """One step of the optimisers, the average and, now and then, the codebook."""
        share = self.settings.rate(self.steps)
        players: Any = self.optimizers()
        for player, optimizer in enumerate(players[: 1 + both]):
            scale = 1.0 if player == 0 else self.settings.discriminator_rate
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * share * scale
            if self.clip is not None:
                self.clip_gradients(optimizer, gradient_clip_val=self.clip)
            optimizer.step()
            optimizer.zero_grad()
        self.steps += 1
        self.ema.update()
        self._restart_dead_codes()
        self.log("learning_rate", self.learning_rate * share)
        if self.steps == self.max_steps:
            self.trainer.should_stop = True

    def _restart_dead_codes(self) -> None:
        restart = getattr(self.model.quantize, "restart_dead", None)
        if restart is None or not self.settings.restarts(self.steps):
            return
        rows = restart(generator=self.generator)
        self.ema.copy_rows("quantize.embedding.weight", rows)
        self.log("codebook/restarted", float(len(rows)))
        self.log("codebook/usage", usage(self.counts))
        self.log("codebook/perplexity", perplexity(self.counts))
        self.counts.zero_()

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        images = self.images(batch)
        with self.mixed():
            reconstructions, _loss = self.model(images)
        error = (reconstructions.float().clamp(-1, 1) - images).square().mean(dim=(1, 2, 3))  # (B,)
        psnr = 10 * torch.log10(4.0 / error.clamp(min=1e-10))  # dB, of the range -1..1
        count = len(images)
        self.log("validation/psnr", psnr.mean(), batch_size=count, prog_bar=True)
        self.log("validation/l1", (reconstructions.float() - images).abs().mean(), batch_size=count)

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """Held-out pictures above their reconstructions."""
        loaders: Any = self.trainer.val_dataloaders or self.trainer.train_dataloader
        images = self.images(next(iter(loaders)))[: 2 * self.settings.pictures].to(self.device)
        with self.ema.swapped():
            reconstructions, _loss = self.model.eval()(images)
        self.model.train()
        return {"reconstructions": grid_picture([as_pixels(images), as_pixels(reconstructions)])}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        parts = {"quantize": self.model.quantize, "loss": self.model.loss}
        checkpoint["first_stage"] = {
            "steps": self.steps,
            "micro": self.micro,
            "generator": self.generator.get_state(),
            "counts": self.counts.clone(),
            "parts": {
                name: part.training_state()
                for name, part in parts.items()
                if hasattr(part, "training_state")
            },
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["first_stage"]
        self.steps, self.micro = state["steps"], state["micro"]
        self.generator.set_state(state["generator"])
        self.counts.copy_(state["counts"])
        for name, kept in state["parts"].items():
            getattr(self.model, name).load_training_state(kept)
