"""A batch -> the tensors that the published second stage reads, channels first.

Two layouts come in. Published data sets give channels last, under the keys that a config names.
Our own batches (`taming.data.batch`, known by their `present`) are channels first already; the
published keys are translated: `segmentation` is `labels`, one plane for each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from taming.config import nearest
from taming.data.batch import VOID

OUR_KEYS = {"segmentation": "labels", "class": "class_label"}


def read_input(batch: Mapping[str, Any], key: str, classes: int | None = None) -> Tensor:
    """The entry under a published key: (B,C,H,W), or as it is where it is no map.

    `classes` is the number of planes of a label map. ValueError if a batch of ours lacks the entry
    for one of its pictures.
    """
    is_ours = "present" in batch
    ours = OUR_KEYS.get(key, key) if is_ours else key
    if ours not in batch:
        raise ValueError(
            f"the batch has no '{ours}'; {nearest(ours, batch)} Set cond_stage_key or "
            "first_stage_key to what the data set gives"
        )
    x = torch.as_tensor(batch[ours])
    if not is_ours:
        return channels_first(x)
    absent = ~batch["present"].get(ours, torch.ones(len(x), dtype=torch.bool))
    if bool(absent.any()):
        raise ValueError(
            f"{int(absent.sum())} of {len(x)} pictures of the batch have no '{ours}'; this model "
            "needs one for every picture: leave the others out of the data set"
        )
    return one_plane_each(x, classes) if ours == "labels" else x


def channels_first(x: Tensor) -> Tensor:
    """(B,H,W,C) -> (B,C,H,W), (B,H,W) -> (B,1,H,W), others as they are; float64 -> float32."""
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim == 4:
        x = rearrange(x, "b h w c -> b c h w").contiguous()
    return x.float() if x.dtype == torch.float64 else x


def one_plane_each(labels: Tensor, classes: int | None) -> Tensor:
    """Ids (B,H,W) -> planes (B,C,H,W) of 0 and 1, float32; VOID is 0 in all."""
    is_labelled = labels != VOID
    count = int(torch.where(is_labelled, labels, 0).max()) + 1
    if classes is None or count > classes:
        raise ValueError(
            f"label maps have {count} classes or more, the condition stage takes "
            f"{classes or 'none'}; set in_channels of its ddconfig to the number of classes"
        )
    planes = F.one_hot(torch.where(is_labelled, labels, 0), classes) * is_labelled[..., None]
    return rearrange(planes, "b h w c -> b c h w").float()
