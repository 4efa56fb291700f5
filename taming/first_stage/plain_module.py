"""A module that no trainer of its own hangs on, and that says so to one.

The published models were LightningModules; ours are plain, so that using them needs no Lightning.
Handed to `pl.Trainer`, Lightning would only say that they are of the wrong class. It asks by
`isinstance`, which asks an object of another class for its `__class__` (as `unittest.mock` uses
it), and there the answer can be what to do instead. Everyone else is told the truth.
"""

import sys
from typing import Any

import torch
from torch import nn

# Where `Trainer.fit`, `validate`, `test` and `predict` check what they were given
TRAINER_CHECKS = ("pytorch_lightning.utilities.compile", "lightning.pytorch.utilities.compile")


class PlainModule(nn.Module):
    """An `nn.Module`; TypeError naming `taming.training.wrap` where a Lightning trainer gets it."""

    @property
    def __class__(self) -> Any:
        own = type(self)
        if sys._getframe(1).f_globals.get("__name__") in TRAINER_CHECKS:
            raise TypeError(
                f"{own.__name__} is a plain module, which a trainer cannot run by itself: give the "
                "trainer taming.training.wrap(model)"
            )
        return own

    @property
    def device(self) -> torch.device:
        """Where its weights are, as a LightningModule says it."""
        return next(self.parameters()).device
