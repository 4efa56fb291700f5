"""Logits -> one drawn code: temperature, top-k, top-p and classifier-free guidance.

Pure functions of tensors and generators; they know no model. Sampling uses the exponential race
(argmax of p / Exp(1) noise, equivalent to the Gumbel-max trick), with one generator per image, so
that image i depends on its own seed and never on its batch.

Sources: nucleus filtering, Holtzman et al. 2020 (arXiv 1904.09751), section 3.1; guidance, Ho and
Salimans 2022 (arXiv 2207.12598), eq. 6; a scale per condition, Brooks et al. 2023
(arXiv 2211.09800), eq. 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Filters:
    """How logits become a distribution: temperature first, then top-k, then top-p."""

    temperature: float = 1.0  # 0 is greedy
    top_k: int | None = None  # keep the k most likely codes
    top_p: float | None = None  # keep the smallest set of codes with at least this probability

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}; give 0 (greedy) or more")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; give at least 1, or leave it out")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; give a share in (0, 1], or leave it out")


def apply_filters(logits: Tensor, filters: Filters) -> Tensor:
    """Logits (..., V) divided by the temperature, with excluded codes at -inf; float32.

    With temperature 0 only the most likely code is left.
    """
    logits = logits.float()
    if filters.temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        return torch.full_like(logits, -torch.inf).scatter(-1, best, 0.0)
    logits = logits / filters.temperature
    if filters.top_k is not None and filters.top_k < logits.shape[-1]:
        smallest_kept = logits.topk(filters.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < smallest_kept, -torch.inf)
    if filters.top_p is not None and filters.top_p < 1:
        ranked, index = logits.sort(dim=-1, descending=True)
        probability = ranked.softmax(-1)
        before = probability.cumsum(-1) - probability  # mass of the codes that are more likely
        ranked = ranked.masked_fill(before >= filters.top_p, -torch.inf)  # the first one stays
        logits = torch.empty_like(logits).scatter(-1, index, ranked)
    return logits


def draw(logits: Tensor, filters: Filters, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw codes (B, m) from logits (B, m, V); row i takes its noise from generator i only."""
    if len(generators) != logits.shape[0]:
        raise ValueError(f"{logits.shape[0]} images need as many generators, got {len(generators)}")
    filtered = apply_filters(logits, filters)
    if filters.temperature == 0:
        return filtered.argmax(-1)
    noise = torch.stack(
        [
            torch.empty(row.shape, device=generator.device).exponential_(generator=generator)
            for row, generator in zip(filtered, generators, strict=True)
        ]
    ).to(filtered.device)
    # A zero among the noise would make 0 / 0 of an excluded code, and argmax prefers NaN.
    noise = noise.clamp(min=torch.finfo(noise.dtype).tiny)
    return (filtered.softmax(-1) / noise).argmax(-1)  # (B, m)


def guide(branches: Sequence[Tensor], scales: Sequence[float]) -> Tensor:
    """Guided logits u + s1 (c1 - u) + s2 (c12 - c1) + ... from the branches u, c1, c12, ...

    Each branch adds one condition (or one group of conditions) to the branch before it. With
    all scales 1 the sum telescopes to the last branch, which is then returned as it is.
    """
    if len(scales) != len(branches) - 1:
        raise ValueError(f"{len(branches)} branches take {len(branches) - 1} scales, got {scales}")
    if all(scale == 1 for scale in scales):
        return branches[-1]
    guided = branches[0]
    for before, after, scale in zip(branches, branches[1:], scales, strict=False):
        guided = guided + scale * (after - before)
    return guided
