"""What made a picture, kept inside its PNG: enough to paint it again, bit for bit on one machine.

The text entry `taming`, continued in `taming.1`, `taming.2`, ... where it is long, holds JSON: the
call, its settings, the model's fingerprint and the conditions as tensors. A condition of more than
1 MB is represented by its SHA-256, and has to be given again. Knows nothing of models.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from taming.checkpoint import atomic_write

KEY = "taming"
ENTRIES = ("name", "model", "settings", "conditions", "codes", "seed")  # to paint again from
LARGEST_CONDITION = 1_000_000  # bytes, compressed
PIECE = 1 << 19  # characters of one text chunk; Pillow opens no PNG with a chunk over 1 MB


def describe_tensor(value: Tensor) -> dict[str, Any]:
    """A tensor as JSON: type, shape, SHA-256, and its compressed bytes unless they are too many."""
    array = value.detach().cpu().numpy()  # tobytes() makes it contiguous; a scalar stays one
    packed = zlib.compress(array.tobytes(), level=6)
    record = {
        "dtype": str(array.dtype),
        "shape": list(array.shape),
        "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
    }
    if len(packed) <= LARGEST_CONDITION:
        record["data"] = base64.b64encode(packed).decode("ascii")
    return record


def restore_tensor(record: Mapping[str, Any], name: str) -> Tensor:
    """The tensor of `describe_tensor`; ValueError if only its SHA-256 was kept or it is damaged."""
    if "data" not in record:
        raise ValueError(
            f'the picture keeps only the SHA-256 of its condition "{name}"; give {name}=... again'
        )
    try:
        raw = zlib.decompress(base64.b64decode(record["data"]))
    except (ValueError, zlib.error):
        raw = b""
    if hashlib.sha256(raw).hexdigest() != record["sha256"]:
        raise ValueError(f'the condition "{name}" kept in the picture is damaged; give it again')
    array = np.frombuffer(raw, dtype=record["dtype"]).reshape(record["shape"])
    return torch.from_numpy(array.copy())


def attach(image: Image.Image, record: Mapping[str, Any]) -> Image.Image:
    """Keep a record with a picture in memory; `save_png` writes it."""
    image.info[KEY] = json.dumps(record)
    return image


def check_is_png(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: pictures are saved with what made them, as PNG; name it .png")


def save_png(image: Image.Image, path: str | Path) -> Path:
    """Write a picture with its record, atomically."""
    path = Path(path)
    check_is_png(path)
    info = PngInfo()
    text = _joined(image) or ""
    for number, start in enumerate(range(0, len(text), PIECE)):
        info.add_text(_entry(number), text[start : start + PIECE], zip=True)
    with atomic_write(path) as partial:
        image.save(partial, format="PNG", pnginfo=info)
    return path


def read_record(source: str | Path | Image.Image) -> dict[str, Any]:
    """The record inside a PNG; ValueError if there is none."""
    if isinstance(source, Image.Image):
        text = _joined(source)
    else:
        with Image.open(source) as image:
            image.load()
            text = _joined(image)
    if text is None:
        raise ValueError(
            f"{source} does not say how it was made; pages of many pictures (--grid) and what "
            f"other programs saved do not, give a picture that was saved alone"
        )
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{source}: what it says of how it was made is damaged") from error


def check_record(record: Any, source: Any) -> None:
    """ValueError unless a record holds what a picture is painted again from."""
    entries = record if isinstance(record, Mapping) else {}
    missing = [entry for entry in ENTRIES if entry not in entries]
    if missing or "size" not in entries["settings"]:
        raise ValueError(
            f'{source}: its text "{KEY}" does not hold {", ".join(missing) or "a size"}; it was '
            f"written by another program, give a picture that was painted here"
        )


def _entry(number: int) -> str:
    return KEY if number == 0 else f"{KEY}.{number}"


def _joined(image: Image.Image) -> str | None:
    """The whole text of a picture, in memory or as Pillow read it from a file."""
    if KEY not in image.info:
        return None
    pieces = []
    while (entry := _entry(len(pieces))) in image.info:
        pieces.append(str(image.info[entry]))
    return "".join(pieces)
