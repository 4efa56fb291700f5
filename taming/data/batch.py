"""Keys, ranges and joint names of a sample and a batch: stated here, used by every other room.

A sample is a dict of what was found for one picture: a missing annotation is a missing key. A
batch has every key for every picture, filled where it was missing, and `present` says which are
real. Knows nothing of files.

Sources: joint names and their order are those of COCO (Lin et al. 2014) with `neck` and
`head_top` of Leeds Sports Pose (Johnson & Everingham 2010) behind them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

VOID = 255  # label id of a pixel nobody has labelled
VOID_16 = 65535  # the same in files and arrays of 16 bits
NO_CLASS = -1  # fills class_label in a batch
NO_BOX = -1.0  # fills boxes in a batch, category and corners alike

ANNOTATIONS = ("labels", "depth", "keypoints", "boxes", "class_label", "caption")

JOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
    "neck",
    "head_top",
)


def _mirrored(joint: str) -> str:
    side, _, rest = joint.partition("_")
    other = {"left": "right", "right": "left"}.get(side)
    return f"{other}_{rest}" if other else joint


# keypoints[:, LEFT_RIGHT] renames the joints of a mirrored person.
LEFT_RIGHT = tuple(JOINTS.index(_mirrored(joint)) for joint in JOINTS)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples of one size -> a batch: stacked tensors, lists of str, and `present[key]` (B,)."""
    if not samples:
        raise ValueError("a batch of no samples; give at least one")
    sizes = {tuple(sample["image"].shape[-2:]) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(f"samples of sizes {sorted(sizes)} in one batch; a batch has one size")
    height, width = sizes.pop()
    people, boxes = (
        max([1] + [len(sample[key]) for sample in samples if key in sample])
        for key in ("keypoints", "boxes")
    )
    blank = {
        "labels": torch.full((height, width), VOID, dtype=torch.int64),
        "depth": torch.zeros(1, height, width),
        "class_label": torch.tensor(NO_CLASS),
    }
    batch: dict[str, Any] = {
        "image": torch.stack([sample["image"] for sample in samples]),  # (B, 3, H, W)
        "keypoints": torch.stack(
            [_padded(s.get("keypoints"), people, (len(JOINTS), 3), 0.0) for s in samples]
        ),
        "boxes": torch.stack([_padded(s.get("boxes"), boxes, (5,), NO_BOX) for s in samples]),
        "caption": [sample.get("caption", "") for sample in samples],
        "name": [sample.get("name", "") for sample in samples],
        "set": [sample.get("set", "") for sample in samples],
        "present": {
            key: torch.tensor([key in sample for sample in samples]) for key in ANNOTATIONS
        },
    }
    for key, filler in blank.items():
        batch[key] = torch.stack([sample.get(key, filler) for sample in samples])
    return batch


def channels_first(pictures: Tensor, channels: int) -> Tensor:
    """Float (B,C,H,W) of pictures laid out so, or as (B,H,W,C) or (B,H,W), as published sets do.

    The axis that has so many entries is C; where both have, it is the last.
    """
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    if pictures.ndim != 4 or channels not in (pictures.shape[1], pictures.shape[3]):
        raise ValueError(
            f"pictures of shape {tuple(pictures.shape)} have no axis of {channels} channels, "
            f"which the model's in_channels asks for"
        )
    if pictures.shape[3] == channels:
        pictures = pictures.permute(0, 3, 1, 2)
    return pictures.float()  # (B, C, H, W)


def _padded(rows: Tensor | None, count: int, shape: tuple[int, ...], filler: float) -> Tensor:
    padded = torch.full((count, *shape), filler)
    if rows is not None:
        padded[: len(rows)] = rows
    return padded  # (count, ...)
