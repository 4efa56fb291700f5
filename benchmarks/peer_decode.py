"""What `rows_decode` times of the original, in its own process: see `peer_timing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from published_sizes import GPT  # pyright: ignore[reportMissingImports]
from torch import Tensor


def forward(
    side: Any, tensors: Mapping[str, Tensor], weights: str, lengths: list[int]
) -> Callable[[], dict[str, Tensor]]:
    """Passes over the sequence's beginnings, each of which the original makes for one code.

    The last one's most likely codes say what greedy sampling would have drawn at every place.
    """
    model = side.find("taming.modules.transformer.mingpt.GPT")(**GPT).eval()
    model.load_state_dict(torch.load(weights, mmap=True), strict=False)  # all but causal masks
    turn = iter(lengths * 100)

    @torch.no_grad()
    def work() -> dict[str, Tensor]:
        logits, _ = model(tensors["codes"][:, : next(turn)])
        return {"best": logits.argmax(-1)}

    return work


def whole_loop(
    side: Any, tensors: Mapping[str, Tensor], weights: str
) -> Callable[[], dict[str, Tensor]]:
    """Greedy codes behind a prefix, one pass over everything for each."""
    model = side.find("taming.modules.transformer.mingpt.GPT")(**GPT).eval()
    model.load_state_dict(torch.load(weights, mmap=True), strict=False)  # all but causal masks

    @torch.no_grad()
    def work() -> dict[str, Tensor]:
        sequence = tensors["prefix"]
        while sequence.shape[1] < GPT["block_size"]:
            logits, _ = model(sequence)
            sequence = torch.cat([sequence, logits[:, -1:].argmax(-1)], dim=1)
        return {"codes": sequence[:, tensors["prefix"].shape[1] :]}

    return work


def sampling(
    side: Any, tensors: Mapping[str, Tensor], config: Mapping[str, Any], steps: int
) -> Callable[[], object]:
    """A whole model read from a checkpoint, and its last codes."""
    model = side.build(config).eval()
    known, prefix = tensors["known"], tensors["prefix"]
    return torch.no_grad()(lambda: {"codes": model.sample(known, prefix, steps=steps)})
