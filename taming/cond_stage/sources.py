"""What people hand in, made uniform: a path, a Pillow picture, an array or a tensor.

Reading files belongs to `taming.data`; this only adds the other forms. Integers are 0..255 and laid
out (H, W) or (H, W, C); float arrays are [0, 1] unless they are tensors (C, H, W), which are images
of the framework in [-1, 1].
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from taming.cond_stage.base import Size
from taming.data.matching import bare
from taming.data.pictures import DECODING_ERRORS, read_image, to_rgb, upright


def describe(source: Any) -> str:
    """How an error names what was handed in."""
    if isinstance(source, str | os.PathLike):
        return str(source)
    if isinstance(source, Image.Image):
        return f"the {source.mode} picture"
    shape = getattr(source, "shape", None)
    return f"the {type(source).__name__}" + (f" of shape {tuple(shape)}" if shape else "")


def is_path(source: Any) -> bool:
    return isinstance(source, str | os.PathLike)


def place_in_file(source: str | os.PathLike[str]) -> tuple[Path, str]:
    """A file, and behind a hash the picture meant of those it describes: `boxes.json#0001`."""
    whole = Path(source)
    if whole.is_file() or "#" not in str(source):
        return whole, ""
    path, _, wanted = str(source).rpartition("#")
    return Path(path), wanted


def one_of_many(described: Iterable[str], wanted: str, path: Path, what: str) -> str:
    """The picture wanted, or the only one; ValueError where it is not there, or not the only one.

    what: that which a picture must have to be described at all, such as a person.
    """
    names = list(described)
    if not wanted and len(names) > 1:
        raise ValueError(f"{path} describes {len(names)} pictures; say which: '{path}#{names[0]}'")
    if not names or (wanted and bare(wanted) not in names):
        where = f" in a picture called '{wanted}'" if wanted else ""
        raise ValueError(f"{path} has no {what}{where}")
    return bare(wanted) if wanted else names[0]


def open_picture(source: str | os.PathLike[str]) -> Image.Image:
    """The file as Pillow decodes it, mode and palette kept."""
    path = Path(source)
    if not path.is_file():
        raise ValueError(f"{path} does not exist; give the path of a picture")
    try:
        with Image.open(path) as opened:
            opened.load()
            return opened.copy()
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); save it again") from error


def as_image(source: Any) -> np.ndarray:
    """Any picture -> uint8 (H, W, 3); transparency is laid on white."""
    if is_path(source):
        return read_image(source)
    if isinstance(source, Image.Image):
        return to_rgb(upright(source))
    if isinstance(source, Tensor) and is_planes(source):
        return to_pixels(source.expand(3, -1, -1))
    array = _as_bytes(source)
    if array.shape[-1] == 1:
        array = np.repeat(array, 3, axis=-1)
    return to_rgb(Image.fromarray(array))


def is_planes(source: Tensor) -> bool:
    """Whether it is laid out as images of the framework are, (C, H, W), and not as pixels."""
    return source.is_floating_point() and source.ndim == 3 and source.shape[0] in (1, 3)


def _as_bytes(source: Any) -> np.ndarray:
    """An array or a tensor of numbers, laid out as pixels -> uint8 (H, W, 1, 3 or 4)."""
    array = as_array(source)
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=-1)
    if array.ndim != 3 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise ValueError(
            f"{describe(source)} is no picture; give (H, W), (H, W, 3) or (H, W, 4), 0..255"
        )
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0.0 or array.max() > 1.0:
            raise ValueError(
                f"{describe(source)} has values from {array.min():g} to {array.max():g}; "
                f"give floats within 0..1 or integers within 0..255"
            )
        array = (array * 255.0).round()
    elif array.dtype != bool and (array.min() < 0 or array.max() > 255):
        raise ValueError(
            f"{describe(source)} has values from {array.min()} to {array.max()}; "
            f"give integers within 0..255"
        )
    return (array * 255 if array.dtype == bool else array).astype(np.uint8)


def as_array(source: Any) -> np.ndarray:
    """The values of an array or of any tensor; NumPy has no bfloat16."""
    if not isinstance(source, Tensor):
        return np.asarray(source)
    values = source.detach().cpu()
    return (values.float() if values.dtype == torch.bfloat16 else values).numpy()


def as_rgba(source: Any) -> np.ndarray:
    """A picture with its transparency, uint8 (H, W, 4); ValueError where it has none.

    Colours are those that were stored, mixed with nothing.
    """
    picture = open_picture(source) if is_path(source) else source
    if not isinstance(picture, Image.Image):
        array = as_array(picture)
        if array.ndim == 3 and array.shape[-1] == 4:
            return _as_bytes(picture)
    elif "A" in picture.getbands() or "transparency" in picture.info:
        return np.asarray(upright(picture).convert("RGBA"))
    raise ValueError(
        f"{describe(source)} has no transparent part; give a picture and a mask, white = keep, "
        f"or a PNG whose hole is transparent"
    )


def file_as_stored(source: Any) -> str | None:
    """The file of a picture that Pillow opened from it and nobody has changed since."""
    name = getattr(source, "filename", None)
    if not isinstance(source, Image.Image) or not name or not Path(name).is_file():
        return None
    return name if open_picture(name).tobytes() == source.tobytes() else None


def to_float(pixels: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) -> float32 (3, H, W) in [-1, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return planes.float() / 127.5 - 1.0


def to_uint8(images: Tensor) -> np.ndarray:
    """float (B, 3, H, W) in [-1, 1] -> uint8 (B, H, W, 3)."""
    pixels = ((images.detach().float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()


def to_pixels(image: Tensor) -> np.ndarray:
    """float (3, H, W) in [-1, 1] -> uint8 (H, W, 3)."""
    return to_uint8(image[None])[0]


def whole(name: str, value: Any) -> int:
    """A number without a fraction, 2 as well as 2.0; ValueError for others, which names both."""
    try:
        number = int(value)
        if number == value:
            return number
    except (TypeError, ValueError, OverflowError, RuntimeError):
        pass
    raise ValueError(f"{name} is {value!r}; give a whole number")


def resize(image: Tensor, size: Size) -> Tensor:
    """Bicubic with antialiasing, (3, H, W) in [-1, 1], overshoot cut off."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    # Older PyTorch cannot do this on Apple's cards
    source = image.cpu() if image.device.type == "mps" else image
    resized = F.interpolate(source[None], size, mode="bicubic", antialias=True)[0]
    return resized.clamp(-1.0, 1.0).to(image.device)
