"""Cached tokens of the published second stage: codes of pictures and of what they are painted from.

A record is one draw: the codes of the picture on their grid and the tokens of its condition, both
as the model would find them in the step. Nothing else is kept, and nothing is drawn at reading, so
that a step costs the transformer alone. The order of the sequence is the model's own, applied in
the step. It knows nothing of loaders or shards.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from taming.checkpoint import tensor_hash
from taming.data.batch import collate
from taming.training.cache import CodesCache, encode_pictures
from taming.transformer.net2net import Net2NetTransformer


class SequenceBatch(NamedTuple):
    """Stacked tokens. A batch holds pictures of one size, hence sequences of one length."""

    codes: Tensor  # (B, T) int64, row by row
    prefix: Tensor  # (B, P) int64


class Sequences(Dataset):
    """Records of a cache as (codes (T,), prefix (P,)), the same in every pass."""

    def __init__(self, cache: CodesCache) -> None:
        self.cache = cache

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: tuple[int, int]) -> SequenceBatch:
        record = self.cache.record(index[0])
        codes, prefix = record["codes"].astype(np.int64), record["prefix"].astype(np.int64)
        return SequenceBatch(torch.from_numpy(codes).flatten(), torch.from_numpy(prefix))


def stack_sequences(sequences: Sequence[SequenceBatch]) -> SequenceBatch:
    """Tokens of single pictures as a batch."""
    codes, prefixes = zip(*sequences, strict=True)
    return SequenceBatch(torch.stack(codes), torch.stack(prefixes))


@torch.no_grad()
def encode_sequences(
    samples: list[dict[str, Any]], model: Net2NetTransformer
) -> Iterator[dict[str, Any]]:
    """Records of samples of one size. ValueError where a sample lacks the model's condition."""
    device = next(model.parameters()).device
    codes = encode_pictures(samples, model.first_stage_model)  # (B, h, w)
    condition = model.get_input(model.cond_stage_key, collate(samples)).to(device)
    prefixes = model.encode_to_c(condition)[1].cpu().numpy().astype(np.int32)  # (B, P)
    for grid, prefix in zip(codes, prefixes, strict=True):
        yield {"codes": grid, "prefix": prefix}


def described(model: Net2NetTransformer) -> dict[str, Any]:
    """Everything about the condition that decides a record."""
    stage = model.cond_stage_model
    plain = {k: v for k, v in vars(stage).items() if isinstance(v, str | int | float)}
    return {
        "condition": type(stage).__name__,
        "options": {name: value for name, value in plain.items() if name != "training"},
        "weights": tensor_hash(stage.state_dict()) if isinstance(stage, nn.Module) else None,
        "keys": (model.first_stage_key, model.cond_stage_key),
        "size": model.downsample_cond_size,
    }
