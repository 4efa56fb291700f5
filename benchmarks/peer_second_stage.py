"""What is timed of the original's second stage, in its own process: see `peer_timing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from published_sizes import GPT  # pyright: ignore[reportMissingImports]
from torch import Tensor


def train(
    side: Any, tensors: Mapping[str, Tensor], weights: str, first_stage: dict[str, Any]
) -> Callable[[], dict[str, Tensor]]:
    """Steps as the original's trainer made them: picture and condition are encoded in each."""
    params = {
        "transformer_config": {"target": "taming.modules.transformer.mingpt.GPT", "params": GPT},
        # Codes of a condition must be told picture by picture, or it cannot prepend them.
        "first_stage_config": {
            **first_stage,
            "params": {**first_stage["params"], "sane_index_shape": True},
        },
        "cond_stage_config": "__is_first_stage__",
        "cond_stage_key": "maps",
    }
    model = side.build(
        {"target": "taming.models.cond_transformer.Net2NetTransformer", "params": params}
    )
    model.load_state_dict(torch.load(weights, mmap=True), strict=False)  # all but causal masks
    model.train()
    model.learning_rate = 4.5e-6
    optimizer = model.configure_optimizers()
    batch = {
        "image": tensors["images"].permute(0, 2, 3, 1),
        "maps": tensors["maps"].permute(0, 2, 3, 1),
    }
    first: list[Tensor] = []

    def step() -> dict[str, Tensor]:
        loss = model.shared_step(batch, 0)
        first.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return {"first": first[0]}

    return step
