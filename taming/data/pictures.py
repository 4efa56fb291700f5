"""Finding and opening picture files of every kind that people have.

`read_image` is the one way by which a file becomes pixels, in data sets and for users' inputs
alike: uint8 RGB, upright, on white. Knows nothing of annotations.
"""

import logging
import os
import struct
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

logger = logging.getLogger(__name__)

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"}
    | {".ppm", ".pgm"}
)
# Pictures of cameras and editors that Pillow does not read; files of other kinds need no word.
UNREAD = frozenset(
    {".heic", ".heif", ".jxl", ".jp2", ".tga", ".psd", ".exr", ".hdr", ".dng", ".cr2", ".cr3"}
    | {".nef", ".arw", ".raf", ".orf", ".rw2", ".pef", ".srw"}
)
# How a picture is turned that says so in its EXIF, by the number there.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = (5, 6, 7, 8)  # of them, those by which the sides change places
# What Pillow and NumPy raise on broken files: SyntaxError on chunks of a PNG, ValueError on tags of
# a TIFF, a bomb where a size is wrong, the others wherever a file ends or counts wrongly.
DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError, struct.error,
    Image.DecompressionBombError,
)  # fmt: skip


class NoPictures(ValueError):
    """A split that is empty, or is not there: of a validation, no error."""


class UnreadableImage(ValueError):
    """A file that is no picture, or only part of one. Data sets skip it; users see the message."""


def read_image(
    path: str | os.PathLike[str],
    at_least: tuple[int, int] | None = None,
    as_stored: bool = False,
) -> NDArray[np.uint8]:
    """Pixels of a picture file: (H, W, 3), turned as its EXIF says, transparency over white.

    at_least: (height, width) that suffice. A larger JPEG may then be decoded at 1/2, 1/4 or 1/8
    of its size, several times faster; other formats always come at full size.
    as_stored: neither turned nor laid on white, as the published data sets read: the maps that
    belong to their pictures lie on the pixels as stored.
    """
    try:
        with Image.open(path) as picture:
            if at_least is not None and picture.format == "JPEG":
                # Whether EXIF will turn the picture is not known yet: ask for the longer side.
                picture.draft(None, (max(at_least), max(at_least)))
            if as_stored:
                return np.array(picture.convert("RGB"))  # (H, W, 3)
            return to_rgb(upright(picture))
    except FileNotFoundError as error:
        raise UnreadableImage(f"{path} does not exist") from error
    except DECODING_ERRORS as error:
        raise UnreadableImage(
            f"{path} cannot be read as a picture ({error}); export it anew or remove it"
        ) from error


def upright(picture: Image.Image) -> Image.Image:
    """The picture, turned as its EXIF says; one whose EXIF cannot be read is upright.

    `ImageOps.exif_transpose` also writes the EXIF anew, which fails where any tag of it is odd.
    """
    picture.load()
    turn = TURNS.get(orientation(picture))
    return picture if turn is None else picture.transpose(turn)


def upright_size(source: str | os.PathLike[str] | Image.Image) -> tuple[int, int]:
    """Height and width of a picture, or of a file of one, once it is upright."""
    with nullcontext(source) if isinstance(source, Image.Image) else Image.open(source) as picture:
        is_lying = orientation(picture) in LYING
        return picture.size if is_lying else (picture.height, picture.width)


def orientation(picture: Image.Image) -> int:
    """How EXIF says that the picture is turned; 1, upright, where that cannot be read."""
    try:
        return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except DECODING_ERRORS:
        return 1


def stored_pixels(
    path: str | os.PathLike[str], at_least: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """`read_image` as the published data sets read."""
    return read_image(path, at_least, as_stored=True)


def read_planes(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of a `.npy` file of (1, 3, H, W) or (3, H, W)."""
    try:
        planes = np.load(path, allow_pickle=False)
    except DECODING_ERRORS as error:
        raise UnreadableImage(f"{path} cannot be read as an array ({error}); fetch it anew") from (
            error
        )
    if planes.ndim == 4 and len(planes) == 1:
        planes = planes[0]
    if planes.ndim != 3 or planes.shape[0] != 3:
        raise UnreadableImage(f"{path} holds {planes.shape}; a picture is (1, 3, height, width)")
    return np.ascontiguousarray(planes.transpose(1, 2, 0)).astype(np.uint8)


def to_rgb(picture: Image.Image) -> NDArray[np.uint8]:
    """uint8 (H, W, 3) of a Pillow image in any mode; transparency is laid over white."""
    if picture.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip, not scale
        values = np.asarray(picture).astype(np.float64)
        grey = np.clip(np.round(values / 257), 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode == "F":
        raise ValueError("32-bit float pictures have no fixed range; save 8 or 16 bits")
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        upper = picture.convert("RGBA")
        white = Image.new("RGBA", upper.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, upper)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))  # (H, W, 3)


def find_pictures(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """All picture files below `folder`, hidden ones left out, in an order that never changes."""
    found = []
    unread: list[str] = []
    above: dict[str, frozenset[str]] = {}  # the folders on the way to a folder, and itself
    for root, folders, files in os.walk(folder, followlinks=True):
        way, real = above.get(os.path.dirname(root), frozenset()), os.path.realpath(root)
        if real in way:  # a link back to where it lies
            folders.clear()
            continue
        above[root] = way | {real}
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            suffix = "" if file.startswith(".") else os.path.splitext(file)[1].lower()
            if suffix in suffixes:
                found.append(Path(root, file))
            elif suffix in UNREAD:
                unread.append(file)
    if unread:
        logger.warning(
            "%s: %d files are of kinds that are not read, such as '%s'; save them as PNG",
            folder, len(unread), min(unread),
        )  # fmt: skip
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def listed_pictures(file: Path) -> list[Path]:
    """The paths that a text file lists, one a line, relative to that file; `#` starts a comment.

    A listed path that does not exist is left out and named in the log.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()  # as editors on Windows write it
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{file} is not UTF-8 text; expected one picture path a line, or give a folder"
        ) from error
    entries = [line.strip() for line in lines]
    paths = [file.parent / entry for entry in entries if entry and not entry.startswith("#")]
    present = [path for path in paths if path.is_file()]
    if len(present) < len(paths):
        missing = [str(path) for path in paths if not path.is_file()]
        logger.warning(
            "%s: %d of %d listed pictures do not exist: %s",
            file,
            len(missing),
            len(paths),
            ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else ""),
        )
    return present
