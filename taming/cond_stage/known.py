"""A half-finished picture -> control on the grid: completion, inpainting, outpainting.

A value is the picture with grey in the hole and the mask itself, so the control tells what stands
in partly kept cells too. The codes of wholly kept cells go into the transformer another way, as the
first of its order: see `known_cells` and `fill_hole` in `holes.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.cond_stage.base import ControlCondition, Size
from taming.cond_stage.drawing import checkerboard
from taming.cond_stage.holes import MASK_KINDS, check_mask, draw_mask, extend_rim
from taming.cond_stage.sources import (
    as_image,
    as_rgba,
    describe,
    is_path,
    is_planes,
    open_picture,
    resize,
    to_float,
    to_pixels,
)

FAINT = 16  # how far planes may differ that were grey before they were a JPEG


class Known(ControlCondition):
    """Values are float32 (4, H, W): picture in [-1, 1], 0 in the hole, and mask, 1 = keep."""

    name = "known"

    def __init__(
        self,
        width: int,
        downsample_factor: int,
        mask_kinds: Sequence[str] = tuple(MASK_KINDS),
    ) -> None:
        super().__init__(width, downsample_factor, channels=4)
        strangers = [kind for kind in mask_kinds if kind not in MASK_KINDS]
        if strangers or not mask_kinds:
            raise ValueError(
                f"known: mask kinds {list(mask_kinds)}; choose from {', '.join(MASK_KINDS)}"
            )
        self.mask_kinds = list(mask_kinds)

    def read(self, source: Any, size: Size) -> Tensor:
        """A pair of picture and mask, white = keep; or one picture, transparent in the hole."""
        return read_known(source, size)

    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        image = torch.as_tensor(sample["image"], dtype=torch.float32)
        height, width = image.shape[-2:]
        return self.join(image, draw_mask((height, width), rng, str(rng.choice(self.mask_kinds))))

    @staticmethod
    def join(image: Tensor, mask: Tensor) -> Tensor:
        """Picture (3, H, W) and mask (H, W) -> a value."""
        keep = mask.to(image.dtype)[None]
        return torch.cat([image * keep, keep])

    @staticmethod
    def mask(values: Tensor) -> Tensor:
        """The mask of one value or of many: (..., 4, H, W) -> bool (..., H, W)."""
        return values[..., 3, :, :] > 0.5

    def blank(self, size: Size) -> Tensor:
        return torch.zeros(4, *size)

    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        """The picture, with a checkerboard in the hole."""
        keep = self.mask(value).cpu().numpy()[..., None]
        return np.where(keep, to_pixels(value[:3]), checkerboard(keep.shape[:2]))


def read_known(source: Any, size: Size) -> Tensor:
    """What `Known.read` reads: a value (4, H, W)."""
    if isinstance(source, Tensor) and tuple(source.shape) == (4, *size):
        value = source.float()
        image, mask = value[:3], value[3] > 0.5
        check_mask(mask)
        return Known.join(image, mask)
    if is_pair(source):
        picture, stencil = source
        what = f"the mask {describe(stencil)}"
        kept = torch.from_numpy(_grey(as_image(_zero_to_one(stencil)), what) >= 128)
        image = to_float(as_image(picture))
    else:
        what = f"the transparency of {describe(source)}"
        pixels = as_rgba(source)
        kept = torch.from_numpy(pixels[..., 3] >= 128)
        image = to_float(pixels[..., :3])  # not on white, which soft edges would take on
    if abs(np.log(kept.shape[0] * image.shape[2] / (kept.shape[1] * image.shape[1]))) > 0.05:
        raise ValueError(
            f"{what} is {kept.shape[0]}x{kept.shape[1]}, its picture {image.shape[1]}x"
            f"{image.shape[2]}; the two must show the same frame"
        )
    check_mask(kept, what)
    mask = shrink_mask(kept, size)
    check_mask(mask, f"{what}, at {size[0]}x{size[1]},")
    own = (int(image.shape[-2]), int(image.shape[-1]))
    if own != tuple(size):
        # Resizing looks beyond the rim, where no colour of the hole may be seen.
        clear = shrink_mask(kept, own)
        image = resize(extend_rim(image, clear) if clear.any() else image, size)
    return Known.join(image, mask)


def _zero_to_one(stencil: Any) -> Any:
    """A mask whose planes hold 0 to 1, laid out as pixels, of which those are the numbers."""
    if isinstance(stencil, Tensor) and is_planes(stencil) and bool((stencil >= 0).all()):
        return stencil.movedim(0, -1)
    return stencil


def _grey(stencil: np.ndarray, what: str) -> np.ndarray:
    """The one plane of a mask (H, W, 3); ValueError where it is no mask."""
    spread = np.ptp(stencil.astype(np.int16), axis=-1).max()
    if spread > FAINT:
        raise ValueError(
            f"{what} has colours; a mask is white where the picture stays and black where it is "
            f"made anew"
        )
    if stencil.max() == 1:
        raise ValueError(
            f"{what} holds 0 and 1; white, where the picture stays, is 255: multiply it by 255"
        )
    return stencil[..., 1]


def is_pair(source: Any) -> bool:
    """Whether it is a picture with its mask."""
    return isinstance(source, Sequence) and not isinstance(source, str) and len(source) == 2


def has_hole(picture: Any) -> bool:
    """Whether a picture says itself what is kept: where it is transparent, something is to come."""
    opened = open_picture(picture) if is_path(picture) else picture
    try:
        return bool((as_rgba(opened)[..., 3] < 128).any())
    except ValueError:
        return False


def upper_half(picture: Any) -> np.ndarray:
    """The mask bool (H, W) that keeps the upper half of a picture."""
    height, width = as_image(picture).shape[:2]
    mask = np.zeros((height, width), dtype=bool)
    mask[: height // 2] = True
    return mask


def shrink_mask(mask: Tensor, size: Size) -> Tensor:
    """A mask at another size, bool (H, W): a pixel is kept only if all that lies under it is."""
    if tuple(mask.shape) == tuple(size):
        return mask.bool()
    hole = (~mask.bool()).float()[None, None]
    if size[0] < mask.shape[0] or size[1] < mask.shape[1]:
        return F.adaptive_max_pool2d(hole, size)[0, 0] == 0
    return F.interpolate(hole, size, mode="nearest-exact")[0, 0] == 0
