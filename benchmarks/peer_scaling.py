"""What the figure times of the original, in its own process: see `peer_timing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from published_sizes import F16, GPT  # pyright: ignore[reportMissingImports]
from torch import Tensor

models: dict[str, Any] = {}  # one of each kind: every size uses the same weights


def first_stage(side: Any) -> Any:
    if "first stage" not in models:
        loss = {"target": "taming.modules.losses.DummyLoss"}
        params = {**F16, "lossconfig": loss}
        config = {"target": "taming.models.vqgan.VQModel", "params": params}
        models["first stage"] = side.build(config).eval()
    return models["first stage"]


def gpt(side: Any) -> Any:
    if "gpt" not in models:
        models["gpt"] = side.find("taming.modules.transformer.mingpt.GPT")(**GPT).eval()
    return models["gpt"]


def decode(side: Any, tensors: Mapping[str, Tensor]) -> Callable[[], object]:
    model = first_stage(side)
    return torch.no_grad()(lambda: model.decode(tensors["z_q"]))


def encode(side: Any, tensors: Mapping[str, Tensor]) -> Callable[[], object]:
    model = first_stage(side)
    return torch.no_grad()(lambda: model.encode(tensors["images"]))


def forward(side: Any, tensors: Mapping[str, Tensor]) -> Callable[[], object]:
    """All that the original does for one code: a pass over the whole sequence."""
    model = gpt(side)
    return torch.no_grad()(lambda: model(tensors["codes"]))
