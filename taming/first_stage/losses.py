"""The losses of the first stage: pixels, features, codebook, and a patch discriminator.

    L = |x - r| + w_p perceptual(x, r) + w_c codebook + lambda w_d adversarial(r)

Esser et al., arXiv 2012.09841, eq. 4-7; the names and defaults of the published configs. Two
players share one autoencoder forward: `generator_loss` and `discriminator_loss` take the same
reconstructions. Ours: a cap on lambda, a soft start of the discriminator, LeCam regularisation
(Tseng et al., arXiv 2104.03310, one-sided as their code is), a choice of perceptual networks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taming.config import ConfigError, instantiate_model, nearest
from taming.first_stage.devices import mean_over_devices
from taming.first_stage.discriminator import NLayerDiscriminator, weights_init
from taming.first_stage.perceptual import LPIPS

Logs = dict[str, Tensor]


def adopt_weight(weight: float, global_step: int, threshold: int = 0, value: float = 0.0) -> float:
    """`value` before step `threshold`, `weight` from then on."""
    return value if global_step < threshold else weight


def hinge_d_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    return 0.5 * (F.relu(1.0 - logits_real).mean() + F.relu(1.0 + logits_fake).mean())


def vanilla_d_loss(logits_real: Tensor, logits_fake: Tensor) -> Tensor:
    return 0.5 * (F.softplus(-logits_real).mean() + F.softplus(logits_fake).mean())


D_LOSSES = {"hinge": hinge_d_loss, "vanilla": vanilla_d_loss}


class DummyLoss(nn.Module):
    """Stands where a config needs a loss and nothing is trained."""


class _WithGradient(torch.autograd.Function):
    """The value of a loss whose gradient is known already: `gradient` flows to `where`."""

    @staticmethod
    def forward(ctx: Any, where: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_outputs[0], None, None


class FirstStageLoss(nn.Module, ABC):
    """What the training of a first stage asks of its loss.

    Steps are those of the autoencoder's optimiser; before the first, -1, no adversary plays.
    """

    @abstractmethod
    def generator_loss(
        self,
        codebook_loss: Tensor,
        inputs: Tensor,
        reconstructions: Tensor,
        step: int,
        last_layer: Tensor | None = None,
        cond: Tensor | None = None,
    ) -> tuple[Tensor, Logs]:
        """What the autoencoder minimises (), and its parts; `rec_loss` is without the codebook."""

    def quality(self, inputs: Tensor, reconstructions: Tensor) -> Logs:
        """How good reconstructions are, in numbers that mean something outside training."""
        error = (reconstructions.float().clamp(-1, 1) - inputs).square().mean(dim=(1, 2, 3))  # (B,)
        return {"psnr": 10 * torch.log10(4.0 / error.clamp(min=1e-10)).mean()}  # dB, range -1..1


class AdversarialLoss(FirstStageLoss):
    """A loss with a second player, who is trained against the autoencoder."""

    @abstractmethod
    def adversary(self) -> nn.Module:
        """The second player, with weights of its own."""

    @abstractmethod
    def disc_share(self, step: int) -> float:
        """How much the adversary counts at this step; at 0 it is not run."""

    @abstractmethod
    def discriminator_loss(
        self, inputs: Tensor, reconstructions: Tensor, step: int, cond: Tensor | None = None
    ) -> tuple[Tensor, Logs]:
        """What the adversary minimises (), and its parts."""


class VQLPIPSWithDiscriminator(AdversarialLoss):
    """Images and reconstructions (B,3,H,W) in [-1, 1] to the losses of both players.

    `disc_start` counts steps of the generator's optimiser. Losses and logged values are float32
    scalars; logs are detached.
    """

    lecam_real: Tensor
    lecam_fake: Tensor

    def __init__(
        self,
        disc_start: int,
        codebook_weight: float = 1.0,
        pixelloss_weight: float = 1.0,
        disc_num_layers: int = 3,
        disc_in_channels: int = 3,
        disc_factor: float = 1.0,  # 0: no discriminator at all
        disc_weight: float = 1.0,  # times the adaptive weight
        perceptual_weight: float = 1.0,
        use_actnorm: bool = False,
        disc_conditional: bool = False,  # the discriminator sees `cond` too
        disc_ndf: int = 64,
        disc_loss: Literal["hinge", "vanilla"] = "hinge",
        perceptual: Mapping[str, Any] | None = None,  # {target, params}; None: LPIPS, as published
        pixel_loss: Literal["l1", "l2"] = "l1",
        disc_warmup: int = 0,  # steps after disc_start until its weight is whole
        max_adaptive_weight: float = 1e4,  # as published: in effect no cap
        lecam_weight: float = 0.0,
        lecam_decay: float = 0.99,
    ) -> None:
        super().__init__()
        for key, value, known in (
            ("disc_loss", disc_loss, D_LOSSES),
            ("pixel_loss", pixel_loss, ("l1", "l2")),
        ):
            if value not in known:
                raise ConfigError(f"{key} is '{value}'; {nearest(value, known)}")
        self.disc_start = disc_start
        self.disc_warmup = disc_warmup
        self.disc_factor = disc_factor
        self.disc_weight = disc_weight
        self.disc_conditional = disc_conditional
        self.disc_loss = D_LOSSES[disc_loss]
        self.codebook_weight = codebook_weight
        self.pixel_weight = pixelloss_weight
        self.pixel_loss = pixel_loss
        self.perceptual_weight = perceptual_weight
        self.max_adaptive_weight = max_adaptive_weight
        self.lecam_weight = lecam_weight
        self.lecam_decay = lecam_decay
        self.perceptual_loss: nn.Module | None = None
        if perceptual_weight > 0:
            self.perceptual_loss = instantiate_model(perceptual) if perceptual else LPIPS()
        self.discriminator = NLayerDiscriminator(
            disc_in_channels, disc_ndf, disc_num_layers, use_actnorm
        ).apply(weights_init)
        # Running means of the logits; not part of published files.
        self.register_buffer("lecam_real", torch.zeros(()), persistent=False)
        self.register_buffer("lecam_fake", torch.zeros(()), persistent=False)

    def adversary(self) -> nn.Module:
        return self.discriminator

    def disc_share(self, step: int) -> float:
        """How much the discriminator counts at this step: 0 before `disc_start`, then to 1."""
        ramp = (step - self.disc_start + 1) / (self.disc_warmup + 1)
        return adopt_weight(self.disc_factor * min(ramp, 1.0), step, self.disc_start)

    # --- the autoencoder's side ---

    def generator_loss(
        self,
        codebook_loss: Tensor,
        inputs: Tensor,
        reconstructions: Tensor,
        step: int,
        last_layer: Tensor | None = None,  # weight where the gradients are compared; None: eval
        cond: Tensor | None = None,
    ) -> tuple[Tensor, Logs]:
        logs: Logs = {}
        share = self.disc_share(step)
        training = torch.is_grad_enabled() and reconstructions.requires_grad
        # Cut at the reconstructions: the expensive networks behind them are run backward once,
        # for the adaptive weight and for the training alike.
        seen = reconstructions.detach().requires_grad_(training)
        nll = self._reconstruction_loss(inputs, seen, logs)
        gradient = torch.autograd.grad(nll, seen)[0] if training else None
        total = nll.detach()
        if share > 0:
            adversarial = -self.discriminator(self._shown(seen, cond)).float().mean()
            # Without gradients there is nothing to weigh it by, and it does not count
            logs |= {"g_loss": adversarial.detach(), "d_weight": torch.zeros(())}
            if training:
                (pull,) = torch.autograd.grad(adversarial, seen)
                assert gradient is not None
                adaptive = self._adaptive_weight(reconstructions, gradient, pull, last_layer)
                logs["d_weight"] = self.disc_weight * adaptive
                weight = share * logs["d_weight"]
                gradient = gradient + weight * pull
                total = total + weight * adversarial.detach()
        if gradient is not None:
            total = _WithGradient.apply(reconstructions, total, gradient)
        total = total + self.codebook_weight * codebook_loss.mean()
        logs |= {"total_loss": total.detach(), "quant_loss": codebook_loss.detach().mean()}
        logs["disc_factor"] = torch.tensor(share)
        return total, logs

    def _reconstruction_loss(self, inputs: Tensor, seen: Tensor, logs: Logs) -> Tensor:
        """Eq. 4 and 5: pixels and features; called nll in the published logs."""
        difference = inputs.float() - seen.float()
        pixels = difference.abs() if self.pixel_loss == "l1" else difference.square()
        loss = self.pixel_weight * pixels.mean()
        logs["pixel_loss"] = pixels.detach().mean()
        if self.perceptual_loss is not None:
            features = self.perceptual_loss(inputs, seen).float().mean()
            loss = loss + self.perceptual_weight * features
            logs["p_loss"] = features.detach()
        logs["rec_loss"] = logs["nll_loss"] = loss.detach()
        return loss

    def _adaptive_weight(
        self, reconstructions: Tensor, nll: Tensor, adversarial: Tensor, last_layer: Tensor | None
    ) -> Tensor:
        """Eq. 7: |d nll / d last layer| / |d adversarial / d last layer|, capped."""
        if last_layer is None:
            return torch.tensor(1.0, device=nll.device)
        norms = [
            torch.autograd.grad(reconstructions, last_layer, gradient, retain_graph=True)[0]
            .float()
            .norm()
            for gradient in (nll.to(reconstructions), adversarial.to(reconstructions))
        ]
        weight = norms[0] / (norms[1] + 1e-4)
        return weight.clamp(0.0, self.max_adaptive_weight).detach()

    # --- the discriminator's side ---

    def discriminator_loss(
        self, inputs: Tensor, reconstructions: Tensor, step: int, cond: Tensor | None = None
    ) -> tuple[Tensor, Logs]:
        """Before `disc_start` the loss is 0 and the discriminator is not run."""
        share = self.disc_share(step)
        if share == 0:
            zero = inputs.new_zeros(())
            return zero, {"disc_loss": zero}
        real = self.discriminator(self._shown(inputs.detach(), cond)).float()  # (B, 1, h', w')
        fake = self.discriminator(self._shown(reconstructions.detach(), cond)).float()
        loss = self.disc_loss(real, fake)
        logs = {"logits_real": real.detach().mean(), "logits_fake": fake.detach().mean()}
        if self.lecam_weight > 0:
            # Each side is held near the running mean of the other: 2104.03310, eq. 3, whose squares
            # count on one side only, as in the authors' released code.
            pull = F.relu(real - self.lecam_fake).square().mean()
            pull = pull + F.relu(self.lecam_real - fake).square().mean()
            loss = loss + self.lecam_weight * pull
            logs["lecam"] = pull.detach()
            if torch.is_grad_enabled():
                means = torch.stack([logs["logits_real"], logs["logits_fake"]])
                mean_real, mean_fake = mean_over_devices(means)
                self.lecam_real.lerp_(mean_real, 1 - self.lecam_decay)
                self.lecam_fake.lerp_(mean_fake, 1 - self.lecam_decay)
        loss = self.disc_factor * loss
        return loss, {"disc_loss": loss.detach(), **logs}

    def _shown(self, images: Tensor, cond: Tensor | None) -> Tensor:
        if not self.disc_conditional:
            return images
        if cond is None:
            raise ValueError("disc_conditional is set, but no condition was given to the loss")
        return torch.cat([images, cond], dim=1)

    # --- the published form ---

    def forward(
        self,
        codebook_loss: Tensor,
        inputs: Tensor,
        reconstructions: Tensor,
        optimizer_idx: int,  # 0: autoencoder, 1: discriminator
        global_step: int,
        last_layer: Tensor | None = None,
        cond: Tensor | None = None,
        split: str = "train",
    ) -> tuple[Tensor, Logs]:
        if optimizer_idx == 0:
            loss, logs = self.generator_loss(
                codebook_loss, inputs, reconstructions, global_step, last_layer, cond
            )
        else:
            loss, logs = self.discriminator_loss(inputs, reconstructions, global_step, cond)
        return loss, {f"{split}/{name}": value for name, value in logs.items()}

    # --- resuming ---

    def training_state(self) -> dict[str, Tensor]:
        """What an exact resume needs beyond the state dict."""
        return {"lecam_real": self.lecam_real.clone(), "lecam_fake": self.lecam_fake.clone()}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        self.lecam_real.copy_(state["lecam_real"])
        self.lecam_fake.copy_(state["lecam_fake"])
