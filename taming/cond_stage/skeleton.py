"""The human skeleton of the framework: which joints are joined, on which side, in which colour.

Drawn for the model as soft maps, one channel per joint and limb, and for people as coloured sticks.
"""

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor

from taming.data.batch import JOINTS

LIMBS = (
    ("left_eye", "nose"), ("right_eye", "nose"),
    ("left_ear", "left_eye"), ("right_ear", "right_eye"),
    ("left_shoulder", "right_shoulder"),
    ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
    ("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"), ("left_hip", "right_hip"),
    ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"), ("right_knee", "right_ankle"),
    ("neck", "head_top"), ("neck", "nose"),
)  # fmt: skip
LIMB_INDICES = tuple((JOINTS.index(a), JOINTS.index(b)) for a, b in LIMBS)
MAPS = len(JOINTS) + len(LIMBS)

_MIDDLE = (136, 176, 104)
_COLOURS = {  # the person's own left is blue, right is orange; upper and lower body differ in shade
    "left_upper": (66, 135, 214), "left_lower": (82, 190, 214),
    "right_upper": (224, 122, 52), "right_lower": (236, 176, 64),
    "left_face": (120, 120, 220), "right_face": (220, 110, 130),
}  # fmt: skip
_BEARING = ("left_shoulder", "right_shoulder", "nose", "neck")
_PAPER = (28, 28, 36)


def render_maps(people: Tensor, grid: tuple[int, int], sigma: float = 0.8) -> Tensor:
    """(B, N, 19, 3) with x, y in [0, 1] -> soft maps (B, 19 + limbs, h, w) in [0, 1].

    A Gaussian of `sigma` cells at each joint and along each limb; where people overlap, the closest
    counts.
    A joint that is not visible, and a limb that misses an end, leave nothing behind.
    """
    height, width = grid
    seen = people[..., 2] > 0  # (B, N, 19)
    extent = people.new_tensor([width, height])
    # Where a joint is not seen its coordinates may be anything, NaN included.
    points = torch.where(seen[..., None], people[..., :2] * extent, 0.0)  # (B, N, 19, 2), in cells
    ys = torch.arange(height, device=people.device) + 0.5
    xs = torch.arange(width, device=people.device) + 0.5
    falloff = -0.5 / sigma**2

    across = torch.exp(falloff * (xs - points[..., :1]) ** 2)  # (B, N, 19, w)
    down = torch.exp(falloff * (ys - points[..., 1:]) ** 2) * seen[..., None]  # (B, N, 19, h)
    joints = (down[..., :, None] * across[..., None, :]).amax(dim=1)  # (B, 19, h, w)

    start, end = torch.tensor(LIMB_INDICES, device=people.device).T
    a, b = points[:, :, start], points[:, :, end]  # (B, N, L, 2)
    ab = b - a
    length2 = (ab**2).sum(dim=-1).clamp(min=1e-6)
    length2 = rearrange(length2, "b n l -> b n l 1 1")
    ax, ay = rearrange(a, "b n l xy -> xy b n l 1 1")
    abx, aby = rearrange(ab, "b n l xy -> xy b n l 1 1")
    dx, dy = xs - ax, ys[:, None] - ay  # (B, N, L, 1, w), (B, N, L, h, 1)
    along = ((dx * abx + dy * aby) / length2).clamp(0.0, 1.0)  # (B, N, L, h, w)
    distance2 = (dx - along * abx) ** 2 + (dy - along * aby) ** 2
    whole = (seen[:, :, start] & seen[:, :, end])[..., None, None]
    limbs = (torch.exp(falloff * distance2) * whole).amax(dim=1)  # (B, L, h, w)
    return torch.cat([joints, limbs], dim=1)


def draw_sticks(people: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, 19, 3) with x, y in [0, 1] -> coloured sticks, uint8 (H, W, 3)."""
    height, width = size
    fine = 3  # drawn larger and shrunk: Pillow's lines have jagged rims
    canvas = Image.new("RGB", (width * fine, height * fine), _PAPER)
    draw = ImageDraw.Draw(canvas)
    scale = np.array([width * fine, height * fine])
    for person in people:
        seen = person[:, 2] > 0
        points = np.where(seen[:, None], person[:, :2] * scale, 0.0)
        if not seen.any():
            continue
        extent = np.ptp(points[seen], axis=0).max()
        thick = max(fine * 1.6, min(extent, max(scale)) / 34)
        left, right, nose, neck = (JOINTS.index(j) for j in _BEARING)
        if seen[[left, right, nose]].all() and not seen[neck]:  # COCO has no neck
            _stick(draw, (points[left] + points[right]) / 2, points[nose], thick, _MIDDLE)
        for (a, b), (start, end) in zip(LIMBS, LIMB_INDICES, strict=True):
            if seen[start] and seen[end]:
                _stick(draw, points[start], points[end], thick, _colour(a, b))
        for joint, at in enumerate(points):
            if seen[joint]:
                r = thick * (0.4 if JOINTS[joint].endswith(("eye", "ear", "nose")) else 0.6)
                draw.ellipse([*(at - r), *(at + r)], fill=(244, 242, 236))
    return np.asarray(canvas.resize((width, height), Image.Resampling.LANCZOS))


def _stick(
    draw: ImageDraw.ImageDraw,
    a: np.ndarray,
    b: np.ndarray,
    thick: float,
    colour: tuple[int, int, int],
) -> None:
    draw.line([*a, *b], fill=colour, width=round(thick))
    for x, y in (a, b):
        r = thick / 2
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)


def _colour(a: str, b: str) -> tuple[int, int, int]:
    sides = {joint.split("_")[0] for joint in (a, b)} & {"left", "right"}
    if len(sides) != 1:
        return _MIDDLE
    parts = {joint.split("_")[-1] for joint in (a, b)}
    region = "face" if parts & {"eye", "ear"} else "lower" if parts & {"knee"} else "upper"
    return _COLOURS[f"{sides.pop()}_{region}"]
