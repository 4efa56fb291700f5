"""The `training` section of a config, checked: how a run learns, saves and stops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch


@dataclass(frozen=True)
class TrainingSettings:
    """Options shared by both stages; the first stage's own come last."""

    max_minutes: float | None = None  # stop, saved, after so long; None: when the trainer says
    warmup_steps: int = 200  # learning rate grows linearly from 0
    decay: Literal["cosine", "constant"] = "constant"  # what it does afterwards
    decay_steps: int | None = None  # length of the cosine; None: trainer.max_steps
    final_rate: float = 0.02  # share of the learning rate at the end of the cosine
    betas: tuple[float, float] = (0.9, 0.95)
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: matrices of a transformer learn faster
    weight_decay: float | None = None  # None: 0.05, and 0.01 for the published transformer
    ema_decay: float = 0.999  # of the average of weights, which is exported; 0: no averaging
    precision: Literal["auto", "float32", "bf16"] = "auto"  # auto: bf16 where it has units
    channels_last: bool = True  # memory layout of convolutions
    compile: bool = False  # torch.compile; pays after minutes
    checkpoint_minutes: float = 10.0
    keep: Literal["last", "best"] = "last"  # weights exported: best has the least validation/loss
    log_every: int = 20  # steps
    pictures_every: int = 1000  # steps
    pictures: int = 4  # pictures of a grid
    # First stage
    checkpoint_activations: bool = False  # compute them again in the backward pass: less memory
    discriminator_rate: float = 1.0  # learning rate of the discriminator, as a share
    restart_every: int = 50  # steps between restarts of dead codes; 0: never
    restart_until: int | None = None  # last step with restarts; None: half of the cosine
    keep_codes: bool = False  # only the decoder learns: what a second stage learned stays true
    # Second stage
    sampling_steps: int = 24  # steps for the pictures of a grid
    guidance: float = 2.0  # guidance scale of the pictures of a grid

    def __post_init__(self) -> None:
        if self.decay == "cosine" and self.decay_steps is not None and self.decay_steps < 1:
            raise ValueError(f"training.decay_steps is {self.decay_steps}; give at least 1")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"training.ema_decay is {self.ema_decay}; give a number in [0, 1)")
        for name in ("log_every", "pictures"):
            if getattr(self, name) < 1:
                raise ValueError(f"training.{name} is {getattr(self, name)}; give at least 1")

    def restarts(self, step: int) -> bool:
        """Whether dead codes are restarted at this step."""
        if self.keep_codes or not self.restart_every or step % self.restart_every:
            return False
        until = self.restart_until
        if until is None and self.decay == "cosine" and self.decay_steps is not None:
            until = self.decay_steps // 2
        return until is None or step <= until

    def rate(self, step: int) -> float:
        """Learning rate at this step, as a share of the base rate."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.decay == "constant" or self.decay_steps is None:
            return warm
        progress = min(1.0, step / self.decay_steps)
        falling = 0.5 * (1 + math.cos(math.pi * progress))
        return warm * (self.final_rate + (1 - self.final_rate) * falling)

    def autocasts(self, device: torch.device) -> bool:
        """Whether to compute in bf16: asked for, or where the device has units for it."""
        if self.precision != "auto":
            return self.precision == "bf16"
        return has_bf16_units(device)


def has_bf16_units(device: torch.device) -> bool:
    """Without them bf16 is emulated, and several times slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return has_instructions("avx512_bf16") or has_instructions("amx_tile")
    return False


def has_instructions(name: str) -> bool:
    """Whether the processor has them; a PyTorch that cannot say counts as no."""
    probe = getattr(torch.cpu, f"_is_{name}_supported", None)
    return probe is not None and bool(probe())
