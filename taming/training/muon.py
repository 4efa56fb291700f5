"""Muon for matrices and AdamW for everything else, as one optimiser.

A step of Muon is the momentum of a matrix with all singular values made alike, so that directions
that gradients seldom have are learned as fast as those they always have (Jordan et al. 2024,
kellerjordan.github.io/posts/muon). Scaled to the root mean square of a step of AdamW it takes the
same learning rate and weight decay (Liu et al. 2025, arXiv 2502.16982, eq. 4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from taming.config import ConfigError

Groups = list[dict[str, Any]]


class MuonAdamW(Optimizer):
    """`matrices` are groups of parameters with two axes; `rest` holds any others."""

    def __init__(
        self, matrices: Groups, rest: Groups, lr: float, betas: tuple[float, float]
    ) -> None:
        kind: Any = getattr(torch.optim, "Muon", None)
        if kind is None:
            raise ConfigError(
                f"training.optimizer is muon, which PyTorch {torch.__version__} does not have; "
                f"install 2.9 or newer, or give adamw"
            )
        muon = kind(matrices, lr, momentum=0.95, adjust_lr_fn="match_rms_adamw")
        self.parts: tuple[Optimizer, ...] = (muon, AdamW(rest, lr, betas, fused=True))
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = iter(self.param_groups)
        for part in self.parts:
            # Both are this optimiser's, which a loaded state has replaced.
            part.state = self.state
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.step()
        return loss


def hidden_matrices(transformer: nn.Module) -> list[Tensor]:
    """Weights of linear layers between hidden layers of a transformer.

    Its first and last layers, the embedding of codes and the head, are not between hidden ones.
    """
    return [
        module.weight
        for name, module in transformer.named_modules()
        if isinstance(module, nn.Linear) and name != "head"
    ]


def split_groups(groups: Groups, matrices: Iterable[Tensor]) -> tuple[Groups, Groups]:
    """The same groups: these matrices, and what is left of them."""
    hidden = {id(matrix) for matrix in matrices}

    def chosen(wanted: bool) -> Groups:
        kept: Groups = []
        for group in groups:
            params: list[Tensor] = [p for p in group["params"] if (id(p) in hidden) == wanted]
            kept += [{**group, "params": params}] if params else []
        return kept

    return chosen(True), chosen(False)
