"""Trains a first stage: two players, two optimisers, one forward of the autoencoder for both.

Where the loss has no adversary, as that of label maps, there is one player and one optimiser.

Manual optimisation, as Lightning wants it for two optimisers. Lightning then counts the steps of
both and refuses to accumulate or clip, so both are done here, under the trainer's usual names.
On several devices: `trainer.strategy=ddp_find_unused_parameters_true`, because neither player's
backward reaches the other's weights.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
import torch._functorch.config as functorch_config
from torch import Tensor
from torch.optim import AdamW

from taming.config import ConfigError
from taming.first_stage.devices import sum_over_devices
from taming.first_stage.losses import AdversarialLoss, FirstStageLoss
from taming.first_stage.perceptual import LPIPS
from taming.first_stage.quantize_base import Quantized, code_counts, perplexity, usage
from taming.first_stage.vqgan import GumbelVQ, VQModel
from taming.training.base import StageTraining, as_colours, decayed_groups, grid_picture
from taming.training.settings import TrainingSettings

CODEBOOK = "quantize.embedding.weight"
IN_THE_END = sys.maxsize  # a step at which every adversary plays that ever does
PARTS = ("pixel_loss", "p_loss", "bce_loss", "quant_loss")  # of the loss, logged in validation


class FirstStageTraining(StageTraining):
    """Wires a `VQModel` with its `.loss`."""

    model: VQModel
    counts: Tensor
    held_out_counts: Tensor

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
        loss = getattr(model, "loss", None)
        if not isinstance(loss, FirstStageLoss):
            raise ValueError(
                f"a first stage is trained with a FirstStageLoss, such as VQLPIPSWithDiscriminator "
                f"or BCELossWithQuant, this one has the loss {type(loss).__name__}; give "
                f"model.params.lossconfig"
            )
        if hasattr(loss, "discriminator_loss") and not isinstance(loss, AdversarialLoss):
            raise ValueError(
                f"{type(loss).__name__} has a discriminator_loss, which nobody would minimise; "
                f"derive it from AdversarialLoss"
            )
        if getattr(loss, "disc_conditional", False):
            raise ConfigError(
                "disc_conditional is set, but the training of a first stage gives its loss no "
                "condition; leave it out"
            )
        if accumulate_grad_batches < 1:
            raise ValueError(
                f"accumulate_grad_batches is {accumulate_grad_batches}; give at least 1"
            )
        if settings.optimizer != "adamw":
            raise ConfigError(
                f"training.optimizer is {settings.optimizer}, which is for transformers; a first "
                f"stage learns with adamw"
            )
        self.automatic_optimization = False
        self.kept = [model.encoder, model.quant_conv, model.quantize] if settings.keep_codes else []
        for part in self.kept:
            part.requires_grad_(False)
        for network in (model.encoder, model.decoder):
            network.recompute_activations(settings.checkpoint_activations)
        self.accumulate, self.clip = accumulate_grad_batches, gradient_clip_val
        self.max_steps = max_steps
        self.steps = 0
        self.has_tried = False  # the adversary, which may start to play after days
        self.latest: Tensor | None = None  # pictures of the last batch, where nothing is held out
        for name in ("counts", "held_out_counts"):
            self.register_buffer(name, torch.zeros(model.codebook_size), persistent=False)

    @property
    def loss(self) -> FirstStageLoss:
        assert isinstance(self.model.loss, FirstStageLoss)
        return self.model.loss

    def adversarial(self) -> AdversarialLoss | None:
        """The loss, where it has a second player."""
        return self.loss if isinstance(self.loss, AdversarialLoss) else None

    def steps_done(self) -> int:
        return self.steps

    def step_limit(self) -> int | None:
        return self.max_steps if self.max_steps > 0 else None

    def configure_optimizers(self) -> list[AdamW]:
        settings, rate = self.settings, self.learning_rate
        players = [module for name, module in self.model.named_children() if name != "loss"]
        groups = decayed_groups(torch.nn.ModuleList(players), self.weight_decay)
        optimizers = [AdamW(groups, rate, settings.betas, fused=self.fused)]
        adversarial = self.adversarial()
        if adversarial is not None:
            weights = adversarial.adversary().parameters()
            optimizers.append(AdamW(weights, rate, (0.5, 0.9), weight_decay=0.0, fused=self.fused))
        return optimizers

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if str(self.trainer.precision).startswith("16"):
            raise ConfigError(
                f"trainer.precision is {self.trainer.precision}, in which the gradients of a first "
                f"stage vanish; leave it out and set training.precision to bf16 or float32"
            )
        if self.settings.compile:
            # The adaptive weight and the training both go backward through the decoder
            functorch_config.donated_buffer = False

    def on_train_start(self) -> None:
        super().on_train_start()
        self._rest_frozen()
        for part in self.loss.children():
            if isinstance(part, LPIPS):
                part.prepare()
        if self.max_steps > 0 and self.steps >= self.max_steps:
            self.trainer.should_stop = True

    # --- a step ---

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        images = self.images(batch)
        if isinstance(self.model, GumbelVQ):
            self.log("codebook/temperature", self.model.set_step(self.steps))
        with self.mixed():
            quantized = self.encoded(images)
            reconstructions = self.model.decode(quantized.z_q)
            loss, logs = self.loss.generator_loss(
                quantized.loss, images, reconstructions, self.steps, self.model.get_last_layer()
            )
        self.manual_backward(loss / self.accumulate)
        adversarial = self.adversarial()
        plays = False
        if not self.has_tried:
            self._try_adversary(images, reconstructions)
        if adversarial is not None and adversarial.disc_share(self.steps) > 0:
            plays = True
            with self.mixed():
                loss_d, logs_d = adversarial.discriminator_loss(images, reconstructions, self.steps)
            self.manual_backward(loss_d / self.accumulate)
            logs |= logs_d
        self.counts += code_counts(quantized.info.indices, self.model.codebook_size)
        self.latest = images.detach()
        if self.batches % self.accumulate == 0:
            self._step(plays)
        self.log_dict({f"train/{name}": value for name, value in logs.items()})
        return loss.detach()

    def encoded(self, images: Tensor) -> Quantized:
        """Codes that the training does not touch are those that the finished model will give."""
        if not self.kept:
            return self.model.encode(images)
        for part in self.kept:
            part.eval()
        with torch.no_grad(), self.exact():
            return self.model.encode(images)

    def _rest_frozen(self) -> None:
        """Networks of the loss that only compare pictures do so in evaluation mode."""
        for part in self.loss.children():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()

    @torch.no_grad()
    def _try_adversary(self, images: Tensor, reconstructions: Tensor) -> None:
        """Lets it judge once, and learn nothing: what is wrong with it is an error at once."""
        self.has_tried = True
        adversarial = self.adversarial()
        if adversarial is not None and adversarial.disc_share(IN_THE_END) > 0:
            adversarial.eval()
            with self.mixed():
                adversarial.discriminator_loss(images, reconstructions, IN_THE_END)
            adversarial.train()
            self._rest_frozen()

    def _step(self, both: bool) -> None:
        """One step of the optimisers, the average and, now and then, the codebook."""
        share = self.settings.rate(self.steps)
        players: Any = self.optimizers()
        players = players if isinstance(players, list) else [players]
        for player, optimizer in enumerate(players[: 1 + both]):
            scale = 1.0 if player == 0 else self.settings.discriminator_rate
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * share * scale
            if self.clip:
                self.clip_gradients(optimizer, self.clip)  # by norm, or as the trainer says
            optimizer.step()
            optimizer.zero_grad()
        self.steps += 1
        self.ema.update()
        self._restart_dead_codes(players[0])
        self.log("learning_rate", self.learning_rate * share)
        if self.steps % self.settings.log_every == 0:
            self._log_codes("codebook", self.counts)
            self.counts.zero_()
        if self.steps == self.max_steps:
            self.trainer.should_stop = True

    def _restart_dead_codes(self, optimizer: Any) -> None:
        restart = getattr(self.model.quantize, "restart_dead", None)
        if restart is None or not self.settings.restarts(self.steps):
            return
        rows = restart(generator=torch.Generator().manual_seed(self.seed + self.steps))
        self.ema.copy_rows(CODEBOOK, rows)
        codes = dict(self.model.named_parameters()).get(CODEBOOK)
        if codes is not None:
            for moment in ("exp_avg", "exp_avg_sq"):  # a code that moved starts without momentum
                optimizer.state[codes][moment][rows] = 0.0
        self.log("codebook/restarted", float(len(rows)))

    # --- validation, with the averaged weights ---

    def on_validation_model_zero_grad(self) -> None:
        """Gradients that are being accumulated, of which Lightning knows nothing, are kept."""
        if self.batches % self.accumulate == 0:
            super().on_validation_model_zero_grad()

    def on_validation_start(self) -> None:
        super().on_validation_start()
        self.held_out_counts.zero_()

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        images = self.images(batch)
        with self.mixed():
            quantized = self.model.encode(images)
            reconstructions = self.model.decode(quantized.z_q)
            _loss, logs = self.loss.generator_loss(quantized.loss, images, reconstructions, step=-1)
        self.held_out_counts += code_counts(quantized.info.indices, self.model.codebook_size)
        numbers = self.loss.quality(images, reconstructions)
        numbers["loss"] = logs["rec_loss"]
        numbers |= {name: logs[name] for name in PARTS if name in logs}
        named = {f"validation/{name}": value for name, value in numbers.items()}
        self.log_dict(named, batch_size=len(images), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        self._log_codes("validation", self.held_out_counts)

    def _log_codes(self, name: str, counts: Tensor) -> None:
        """How much of the codebook all devices have used."""
        counts = sum_over_devices(counts)
        self.log(f"{name}/usage", usage(counts))
        self.log(f"{name}/perplexity", perplexity(counts))

    @torch.no_grad()
    def pictures(self) -> dict[str, np.ndarray]:
        """Held-out pictures above their reconstructions."""
        count = 2 * self.settings.pictures
        batch = self.held_out(count)
        images = self.latest if batch is None else self.images(batch)
        if images is None:
            return {}
        images = images[:count]
        with self.ema.swapped():
            reconstructions, _loss = self.model.eval()(images)
        self.model.train()
        self._rest_frozen()
        return {"reconstructions": grid_picture([as_colours(images), as_colours(reconstructions)])}

    # --- resuming ---

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        parts = {"quantize": self.model.quantize, "loss": self.loss}
        checkpoint["first_stage"] = {
            "steps": self.steps,
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
        self.steps = state["steps"]
        self.counts.copy_(state["counts"])
        for name, kept in state["parts"].items():
            getattr(self.model, name).load_training_state(kept)
