"""Learning rates and temperatures by step, under their published names. Plain Python."""

from __future__ import annotations

import logging
import math

logger = logging.getLogger(__name__)


class LambdaWarmUpCosineScheduler:
    """A multiplier by step: linear from `lr_start` to `lr_max`, then a cosine down to `lr_min`.

    For `torch.optim.lr_scheduler.LambdaLR` with a base rate of 1, or as the temperature of a Gumbel
    quantizer. `verbosity_interval` steps apart the last value is logged; 0 never.
    """

    def __init__(
        self,
        warm_up_steps: int,
        lr_min: float,
        lr_max: float,
        lr_start: float,
        max_decay_steps: int,  # the step at which lr_min is reached
        verbosity_interval: int = 0,
    ) -> None:
        if max_decay_steps <= warm_up_steps:
            raise ValueError(
                f"max_decay_steps is {max_decay_steps}; it counts from the first step and must "
                f"exceed warm_up_steps = {warm_up_steps}"
            )
        self.lr_warm_up_steps = warm_up_steps
        self.lr_min = lr_min
        self.lr_max = lr_max
        self.lr_start = lr_start
        self.lr_max_decay_steps = max_decay_steps
        self.verbosity_interval = verbosity_interval
        self.last_lr = 0.0

    def schedule(self, n: int) -> float:
        """The multiplier at step n."""
        if self.verbosity_interval > 0 and n % self.verbosity_interval == 0:
            logger.info("step %d: multiplier %g", n, self.last_lr)
        if n < self.lr_warm_up_steps:
            share = n / self.lr_warm_up_steps
            self.last_lr = self.lr_start + share * (self.lr_max - self.lr_start)
        else:
            decay = self.lr_max_decay_steps - self.lr_warm_up_steps
            progress = min(1.0, (n - self.lr_warm_up_steps) / decay)
            falling = 0.5 * (1 + math.cos(math.pi * progress))
            self.last_lr = self.lr_min + falling * (self.lr_max - self.lr_min)
        return self.last_lr

    def __call__(self, n: int) -> float:
        return self.schedule(n)
