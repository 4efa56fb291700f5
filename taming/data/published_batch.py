"""A batch -> the tensors that published models of either stage read, channels first.

Two kinds of batches come in. Published data sets give maps with channels last, under the keys that
a config names. Our own batches (`taming.data.batch`, known by their `present`) have channels first;
the published keys are translated, and label maps become one plane for each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from taming.config import nearest
from taming.data.batch import VOID, channels_first

OUR_KEYS = {"segmentation": "labels", "class": "class_label"}
PEOPLE = "keypoints"  # (B,N,19,3): no map, and where there are none, none are visible


def read_input(batch: Mapping[str, Any], key: str, channels: int | None = None) -> Tensor:
    """The entry under a published key: maps as float32 (B,C,H,W), what is no map as it is.

    `channels` is what the stage that reads it takes; None if it does not say. ValueError if a batch
    of ours lacks the entry for one of its pictures.
    """
    is_ours = "present" in batch
    key = OUR_KEYS.get(key, key) if is_ours else key
    if key not in batch:
        raise ValueError(
            f"the batch has no '{key}', which image_key, first_stage_key or cond_stage_key "
            f"asks for; {nearest(key, batch)}"
        )
    x = torch.as_tensor(batch[key])
    if key == PEOPLE:
        return x
    if is_ours and key in batch["present"] and not bool(batch["present"][key].all()):
        absent = int((~batch["present"][key]).sum())
        raise ValueError(
            f"{absent} of {len(x)} pictures of the batch have no '{key}'; this model needs one for "
            "every picture: leave the others out of the data set"
        )
    if x.ndim < 3:
        return x
    if x.ndim == 3 and not x.is_floating_point():
        return one_plane_each(x, channels)
    return channels_first(x, channels or (1 if x.ndim == 3 else x.shape[-1])).contiguous()


def one_plane_each(labels: Tensor, classes: int | None) -> Tensor:
    """Ids (B,H,W) -> planes (B,C,H,W) of 0 and 1, float32; VOID is 0 in all."""
    is_labelled = labels != VOID
    ids = torch.where(is_labelled, labels, 0).long()
    highest = int(ids.max())
    if classes is None or highest >= classes:
        raise ValueError(
            f"label maps hold class {highest}, the stage that reads them takes {classes or 0}; "
            "set in_channels of its ddconfig to their number"
        )
    planes = F.one_hot(ids, classes) * is_labelled[..., None]
    return rearrange(planes, "b h w c -> b c h w").float()
