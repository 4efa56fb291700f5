"""Masks of what is known and the filling of what is not: geometry for the condition `known`.

Masks are bool, True where the picture is kept. A convolutional encoder spreads whatever stands in
a hole over its neighbourhood, so the hole is filled before encoding with the smoothest picture
that agrees with its rim: the solution of Laplace's equation (P. Perez et al., Poisson image
editing, 2003, with guidance field zero), found from coarse to fine (full multigrid, A. Brandt,
1977).
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

Size = tuple[int, int]

CYCLES = 3  # per level; leaves about a quarter of a grey level in photographs


def check_mask(mask: Tensor, what: str = "the mask") -> None:
    """ValueError for a mask that keeps everything or nothing."""
    share = float(mask.float().mean())
    if share >= 1.0:
        raise ValueError(f"{what} keeps the whole picture; paint black what is to be made anew")
    if share <= 0.0:
        raise ValueError(f"{what} keeps nothing; paint white what is to stay")


def fill_hole(image: Tensor, mask: Tensor) -> Tensor:
    """The hole filled harmonically: image (..., C, H, W), mask (..., H, W); kept pixels untouched.

    The fill stays within the range of the kept pixels and meets them without an edge; along the
    border of the picture it is level.
    """
    if not bool(mask.flatten(-2).any(dim=-1).all()):
        raise ValueError("a mask keeps nothing, so there is nothing to fill the hole from")
    shape = image.shape
    pictures = image.reshape(-1, *shape[-3:]).float()  # (B, C, H, W)
    kept = mask.to(image.device).bool().expand(*shape[:-3], *shape[-2:])
    kept = kept.reshape(-1, 1, *shape[-2:])  # (B, 1, H, W)
    filled = _fill(torch.where(kept, pictures, 0.0), kept)
    # The exact solution has its extremes on the rim; a few cycles may miss it by a grey level.
    lowest = torch.where(kept, pictures, torch.inf).amin(dim=(-2, -1), keepdim=True)
    highest = torch.where(kept, pictures, -torch.inf).amax(dim=(-2, -1), keepdim=True)
    filled = filled.clamp(lowest, highest)
    return torch.where(kept, pictures, filled).reshape(shape).to(image.dtype)


def _fill(image: Tensor, kept: Tensor) -> Tensor:
    """Full multigrid: the fill of the picture at half its size, refined by V-cycles."""
    if bool(kept.all()):
        return image
    # A coarse pixel is the mean of the kept ones under it, and known if there is any: every level
    # down to a single pixel has something to go on.
    weight = F.avg_pool2d(kept.to(image.dtype), 2, ceil_mode=True)
    coarse = F.avg_pool2d(image, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    filled = torch.where(kept, image, _doubled(_fill(coarse, weight > 0), image))
    free = (~kept).to(image.dtype)
    for _ in range(CYCLES):
        filled = _v_cycle(filled, torch.zeros_like(filled), free)
    return filled


def _v_cycle(x: Tensor, target: Tensor, free: Tensor) -> Tensor:
    """One multigrid step towards mean of neighbours - x = target wherever `free` is 1."""
    x = _smoothed(x, target, free)
    if max(x.shape[-2:]) > 2:
        residual = free * (target - _laplacian(x))
        # A coarse pixel is free if all under it are. At twice the spacing the same bend of the
        # surface makes four times the difference to the neighbours.
        coarse_free = -F.max_pool2d(-free, 2, ceil_mode=True)
        coarse = 4.0 * F.avg_pool2d(residual, 2, ceil_mode=True) * coarse_free
        error = _v_cycle(torch.zeros_like(coarse), coarse, coarse_free)
        x = x + free * _doubled(error, x)
    return _smoothed(x, target, free)


def _smoothed(x: Tensor, target: Tensor, free: Tensor) -> Tensor:
    for _ in range(2):  # damped Jacobi; 0.8 damps fine waves, which coarser grids cannot see
        x = x + 0.8 * free * (_laplacian(x) - target)
    return x


def _laplacian(x: Tensor) -> Tensor:
    """Mean of the four neighbours - x; outside the picture its border is repeated."""
    step = torch.zeros_like(x)
    down = x[..., 1:, :] - x[..., :-1, :]
    step[..., :-1, :] += down
    step[..., 1:, :] -= down
    right = x[..., 1:] - x[..., :-1]
    step[..., :-1] += right
    step[..., 1:] -= right
    return step * 0.25


def _doubled(coarse: Tensor, like: Tensor) -> Tensor:
    fine = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return fine[..., : like.shape[-2], : like.shape[-1]]


def extend_rim(image: Tensor, mask: Tensor) -> Tensor:
    """The hole in the colours of the nearest kept pixels: image (C, H, W), mask (H, W).

    Not smooth, and a tenth of the time of `fill_hole`: for what looks a few pixels behind the rim.
    """
    import cv2

    hole = (~mask.bool()).cpu().numpy().astype(np.uint8)
    labels = cv2.distanceTransformWithLabels(
        hole, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )[1]
    nearest = torch.from_numpy(labels).long()  # (H, W), the number of a kept pixel
    kept = mask.flatten().nonzero()[:, 0]
    place = torch.zeros(int(nearest.max()) + 1, dtype=torch.int64)
    place[nearest.flatten()[kept]] = kept
    return image.flatten(1)[:, place[nearest]]


def meet_rim(painted: Tensor, image: Tensor, mask: Tensor, reach: float) -> Tensor:
    """Painted (B, C, H, W), changed in the hole so that it meets the kept pixels without an edge.

    image (C, H, W) and mask (H, W) as in `fill_hole`. What was painted keeps its gradients (as
    above, section 3), and `reach` pixels behind the rim a third of the change is left, so
    that colours far behind it are the painter's own. Kept pixels are those of `image`, exactly.
    """
    import cv2

    hole = (~mask.bool()).cpu().numpy().astype(np.uint8)
    away = torch.from_numpy(cv2.distanceTransform(hole, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
    change = fill_hole(image.to(painted) - painted, mask.expand(len(painted), -1, -1))
    met = painted + change * torch.exp(-away / reach).to(painted)
    return torch.where(mask.to(painted.device).bool(), image.to(painted), met)


def known_cells(mask: Tensor, downsample_factor: int) -> Tensor:
    """Cells whose codes may be trusted: mask (..., H, W) -> bool (..., h, w).

    Such a cell is kept to its last pixel and none of its eight neighbours touches the hole, because
    codes near a hole still describe the fill. Outside the picture counts as kept.
    """
    height, width = mask.shape[-2:]
    f = downsample_factor
    if height % f or width % f:
        raise ValueError(f"a mask of {height}x{width} does not divide into cells of {f}x{f} pixels")
    hole = (~mask.bool()).float().reshape(-1, 1, height, width)
    hole = F.max_pool2d(hole, f)  # touched by the hole
    hole = F.max_pool2d(hole, 3, stride=1, padding=1)  # or next to it
    return (hole == 0).reshape(*mask.shape[:-2], height // f, width // f)


def draw_mask(size: Size, rng: np.random.Generator, kind: str | None = None) -> Tensor:
    """A mask such as people make, bool (H, W); the hole covers 10 to 90 % of the picture."""
    if kind is None:
        kind = str(rng.choice(list(MASK_KINDS)))
    if kind not in MASK_KINDS:
        raise ValueError(f"mask kind '{kind}' is unknown; known are {', '.join(MASK_KINDS)}")
    for _ in range(8):
        mask = MASK_KINDS[kind](size, rng, float(rng.uniform(0.12, 0.88)))
        if 0.1 <= 1.0 - float(mask.mean()) <= 0.9:
            return torch.from_numpy(mask.copy())
    # Pictures of a few pixels have no room for a shape.
    return torch.from_numpy(_half(size, rng, 0.5))


def _half(size: Size, rng: np.random.Generator, hole: float) -> np.ndarray:
    """One side is missing; half the time exactly half of the picture."""
    if rng.random() < 0.5:
        hole = 0.5
    mask = np.ones(size, dtype=bool)
    axis = int(rng.integers(2)) if min(size) > 1 else int(np.argmax(size))
    gone = min(max(1, round(size[axis] * hole)), size[axis] - 1)
    span = slice(None, gone) if rng.random() < 0.5 else slice(size[axis] - gone, None)
    mask[(span, slice(None)) if axis == 0 else (slice(None), span)] = False
    return mask


def _box(size: Size, rng: np.random.Generator, hole: float) -> np.ndarray:
    """A rectangle anywhere is missing."""
    stretch = math.exp(rng.uniform(-0.7, 0.7))
    tall = min(1.0, max(hole, math.sqrt(hole * stretch)))
    height = min(max(1, round(tall * size[0])), size[0])
    width = min(max(1, round(hole / tall * size[1])), size[1])
    top = int(rng.integers(size[0] - height + 1))
    left = int(rng.integers(size[1] - width + 1))
    mask = np.ones(size, dtype=bool)
    mask[top : top + height, left : left + width] = False
    return mask


def _border(size: Size, rng: np.random.Generator, hole: float) -> np.ndarray:
    """Only a rectangle is left: the picture is to be continued outwards."""
    return ~_box(size, rng, 1.0 - hole)


def _strokes(size: Size, rng: np.random.Generator, hole: float) -> np.ndarray:
    """Brush strokes, a wandering line with round ends each, until the hole is large enough."""
    canvas = Image.new("1", (size[1], size[0]), 1)
    draw = ImageDraw.Draw(canvas)
    extent = math.sqrt(size[0] * size[1])
    mask = np.asarray(canvas)
    while 1.0 - mask.mean() < min(hole, 0.6):
        brush = max(2.0, extent * rng.uniform(0.04, 0.16))
        y, x = rng.uniform(0, size[0]), rng.uniform(0, size[1])
        heading = rng.uniform(0, 2 * math.pi)
        for _ in range(int(rng.integers(2, 8))):
            heading += rng.normal(0.0, 0.7)
            reach = extent * rng.uniform(0.06, 0.22)
            to_y, to_x = y + reach * math.sin(heading), x + reach * math.cos(heading)
            draw.line([(x, y), (to_x, to_y)], fill=0, width=round(brush))
            r = brush / 2
            draw.ellipse([to_x - r, to_y - r, to_x + r, to_y + r], fill=0)
            draw.ellipse([x - r, y - r, x + r, y + r], fill=0)
            y, x = to_y, to_x
        mask = np.asarray(canvas)
    return mask


def _blobs(size: Size, rng: np.random.Generator, hole: float) -> np.ndarray:
    """Islands: smooth noise, cut at the height that leaves the share wanted; coarse to fine."""
    coarse = int(rng.integers(2, 9))
    noise = rng.standard_normal((coarse, coarse)).astype(np.float32)
    field = torch.from_numpy(noise)[None, None]
    smooth = F.interpolate(field, size, mode="bicubic", align_corners=True)[0, 0].numpy()
    return smooth > np.quantile(smooth, hole)


def _island(size: Size, rng: np.random.Generator, hole: float) -> np.ndarray:
    """One rounded piece is left, or missing, of a hand-drawn outline."""
    angles = np.linspace(0, 2 * math.pi, 64, endpoint=False)
    radius = np.ones_like(angles)
    for k in (2, 3, 4, 5):
        radius += rng.normal(0.0, 0.25 / k) * np.cos(k * angles + rng.uniform(0, 2 * math.pi))
    left = rng.random() < 0.5
    share = 1.0 - hole if left else hole
    radius = np.maximum(radius, 0.25)
    radius *= math.sqrt(share * size[0] * size[1] / (math.pi * float(np.mean(radius**2))))
    y, x = rng.uniform(0.25, 0.75) * size[0], rng.uniform(0.25, 0.75) * size[1]
    outline = [
        (x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radius, angles, strict=True)
    ]
    canvas = Image.new("1", (size[1], size[0]), 0)
    ImageDraw.Draw(canvas).polygon(outline, fill=1)
    piece = np.asarray(canvas)
    return piece if left else ~piece


MASK_KINDS: dict[str, Callable[[Size, np.random.Generator, float], np.ndarray]] = {
    "half": _half,
    "box": _box,
    "border": _border,
    "strokes": _strokes,
    "blobs": _blobs,
    "island": _island,
}
