"""An exponential moving average of a model's weights.

    average <- d average + (1 - d) weight,   d = min(decay, (1 + n) / (10 + n)) at the n-th update

The early updates weigh more, so that the random start is forgotten (the schedule of TensorFlow's
ExponentialMovingAverage). A plain object beside the model, not a part of it: the average never
appears under a key of the model's state dict. Buffers are not averaged.
"""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class EMA:
    """Averages of the parameters of `module` whose names do not start with one of `exclude`.

    With a decay of 0 the weights are their own average, and no second copy is kept.
    """

    def __init__(
        self, module: nn.Module, decay: float = 0.999, exclude: Sequence[str] = ("loss.",)
    ) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay of the average is {decay}; give a number in [0, 1)")
        self.module, self.decay, self.updates = module, decay, 0
        self.exclude = tuple(exclude)
        self.is_swapped = False
        self._averages = {name: p.detach().clone().float() for name, p in self._parameters()}

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        if self.decay == 0:
            return
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad and not name.startswith(self.exclude):
                yield name, parameter

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the present weights; once after every step of the optimiser."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        averages, weights = [], []
        for name, parameter in self._parameters():
            self._averages[name] = self._averages[name].to(parameter.device)
            averages.append(self._averages[name])
            weights.append(parameter.detach().float())
        if averages:
            torch._foreach_lerp_(averages, weights, 1.0 - decay)

    @torch.no_grad()
    def copy_rows(self, name: str, rows: Tensor) -> None:
        """Copies rows of a table as they are: a code that was moved has no past to average."""
        if name in self._averages and len(rows) > 0:
            average = self._averages[name]
            rows = rows.to(average.device)
            average[rows] = self.module.get_parameter(name).detach()[rows].to(average)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """Inside, the module computes with the averages; trained weights return at the end."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.inference_mode(False)  # what is made in a validation is trained on afterwards
    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges averages and weights, in place; calling it twice changes nothing."""
        for name, parameter in self._parameters():
            trained = parameter.detach().float().clone()
            parameter.copy_(self._averages[name])
            self._averages[name] = trained
        self.is_swapped = not self.is_swapped

    def weights(self) -> dict[str, Tensor]:
        """The state dict of the module with averages for weights: what is exported."""
        state = {
            k: v for k, v in self.module.state_dict().items() if not k.startswith(self.exclude)
        }
        if not self.is_swapped:
            for name, average in self._averages.items():
                state[name] = average.to(state[name].dtype)
        return state

    def state_dict(self) -> dict[str, Tensor | int]:
        return {"updates": self.updates, **self._averages}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        missing = sorted(set(self._averages) - set(state))
        if missing:
            raise ValueError(
                f"the checkpoint has no average of {len(missing)} weights, such as {missing[0]}; "
                "resume with the configuration it was made with"
            )
        self.updates = int(state["updates"])
        for name in self._averages:
            average = state[name]
            assert isinstance(average, Tensor)
            self._averages[name] = average.clone().float()
