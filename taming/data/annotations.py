"""Reading what lies beside a picture: label maps, depth maps, joints, classes, captions.

Each reader turns one file into arrays in the conventions of `batch.py`, still at the picture's
own size, or raises a ValueError with the file, the value and the remedy. The tables that give the
numbers their meaning (`label_names.json`, `depth.json`, ...) are read here too. Maps are read as
stored, on the pixels of their pictures; `turned` brings one that stands alone upright by its EXIF.

    label_names.json    {"0": "sky", ...} or {"0": {"name": "sky", "color": [70, 130, 180]}, ...}
    depth.json          {"kind": "metric" | "inverse", "scale": 0.005, "invalid": 0,
                         "per_image": {name: {"min": ..., "max": ...}}}
    keypoints.json      COCO person keypoints, see `keypoints.py`
    class_labels.json   {"names": {"0": "summer"}, "images": {name: 0}}
    captions.json       {name: "one" or ["several", ...]}
"""

import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from taming.data.batch import VOID
from taming.data.pictures import DECODING_ERRORS, upright
from taming.data.vocabulary import lookup_table

PathLike = str | os.PathLike[str]

PARTS = ("train", "validation", "test")  # of a set


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not readable as JSON: {error}") from error


def table_of(path: PathLike, name: str) -> Path | None:
    """The table of this name beside a file or, if there is none, in the folder above."""
    folders = Path(path).absolute().parents[:2]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def names_table(entries: Any, path: PathLike) -> dict[int, str]:
    """{id: name} from a JSON list or object; the names may be nested as {"name": ...}."""
    pairs = list(enumerate(entries)) if isinstance(entries, list) else None
    if isinstance(entries, Mapping):
        pairs = list(entries.items())
    if not pairs:
        raise ValueError(f'{path}: expected names such as {{"0": "sky"}}, found {entries!r:.60}')
    table = {}
    for key, value in pairs:
        name = value.get("name") if isinstance(value, Mapping) else value
        if not str(key).isdigit() or not isinstance(name, str):
            raise ValueError(f'{path}: entry {key!r}: {value!r:.60} is not of the form "0": "sky"')
        table[int(key)] = name
    return table


def check_proportions(
    path: PathLike, name: str, stated: tuple[int, int], found: tuple[int, int]
) -> None:
    """ValueError if a file states a size of other proportions than its picture: it was turned.

    Sizes are (height, width). A picture may be smaller than stated, down to rounded pixels.
    """
    away = abs(stated[0] * found[1] - stated[1] * found[0])
    if away > 0.03 * stated[1] * found[0] + max(stated):
        raise ValueError(
            f"{path} says '{name}' is {stated[0]}x{stated[1]} (height x width), the picture is "
            f"{found[0]}x{found[1]}; mend the file or restore the picture"
        )


# --- labels ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelTable:
    """What the numbers (and colours) in a set's label pictures mean."""

    names: dict[int, str]
    colours: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    path: str = "label_names.json"

    @classmethod
    def read(cls, path: Path) -> "LabelTable":
        entries = read_json(path)
        names = names_table(entries, path)
        pairs = enumerate(entries) if isinstance(entries, list) else entries.items()
        colours = {
            int(key): _colour(value["color"], path)
            for key, value in pairs
            if isinstance(value, Mapping) and "color" in value
        }
        return cls(names, colours, str(path))


def _colour(value: Any, path: PathLike) -> tuple[int, int, int]:
    try:
        red, green, blue = (operator.index(part) for part in value)
        if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
            raise ValueError("out of range")
    except (TypeError, ValueError):
        raise ValueError(
            f"{path}: color {value!r:.60} is no colour; give three whole numbers from 0 to 255, "
            "such as [70, 130, 180]"
        ) from None
    return red, green, blue


class LabelReader:
    """Label pictures of one set -> ids of one vocabulary."""

    def __init__(self, table: LabelTable, vocabulary: Sequence[str], ignore: Iterable[str] = ()):
        self.table = table
        self.ids, self.absent = lookup_table(table.names, vocabulary, ignore)
        self.coloured = np.array(sorted(table.colours), dtype=np.uint16)
        rows = [table.colours[int(index)] for index in self.coloured]
        self.colours = np.array(rows, dtype=np.uint8).reshape(-1, 3)

    def __call__(self, path: PathLike, turned: bool = False) -> NDArray[np.int16]:
        """Vocabulary ids (H, W), VOID where unlabelled."""
        values = _label_values(path, self.colours, turned)
        if values.ndim == 3:
            if not len(self.colours):
                raise ValueError(
                    f"{path} is painted in colours, but {self.table.path} gives none; save ids as "
                    'a grey or palette picture, or write {"0": {"name": "sky", "color": [r, g, b]}}'
                )
            values = ids_of_colours(values, self.colours, self.coloured, str(path))
        ids = self.ids[values]
        if ids.min() < 0:
            unknown = np.unique(values[ids < 0])
            raise ValueError(
                f"{path} holds label {unknown[0]}, which {self.table.path} does not name (it names "
                f"{min(self.table.names)}..{max(self.table.names)}); add its name there, or write "
                f"{VOID} where nothing is labelled"
            )
        return ids


def read_labels(
    path: PathLike,
    vocabulary: Sequence[str],
    ignore: Iterable[str] = (),
    turned: bool = False,
) -> NDArray[np.int16]:
    """Ids (H, W) of `vocabulary` from any label picture a user may hand over.

    A `label_names.json` beside the file or one folder above translates by name. Without one, the
    picture, grey or with a palette, holds ids of `vocabulary`.
    """
    found = table_of(path, "label_names.json")
    if found is not None:
        return LabelReader(LabelTable.read(found), vocabulary, ignore)(path, turned)
    own = LabelTable(dict(enumerate(vocabulary)), path=f"the vocabulary of {len(vocabulary)} names")
    return LabelReader(own, vocabulary, ignore)(path, turned)


def _label_values(path: PathLike, colours: NDArray[np.uint8], turned: bool) -> NDArray[Any]:
    """Ids (H, W) of a grey or palette picture, or colours (H, W, 3)."""
    try:
        if str(path).lower().endswith(".npy"):
            values = np.load(path, allow_pickle=False)
        else:
            with Image.open(path) as opened:
                picture = upright(opened) if turned else opened
                if picture.mode in ("RGBA", "LA"):
                    picture = picture.convert(picture.mode[:-1])
                values = np.asarray(picture)
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be read as a label map ({error})") from error
    values = ids_saved_as_grey(values, colours)
    if values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8:
        return values
    if values.ndim != 2 or values.dtype.kind not in "uib" or values.size == 0:
        raise ValueError(
            f"{path} is {values.dtype} {values.shape}; a label map is 8- or 16-bit ids (H, W) or "
            "a picture in the palette's colours"
        )
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.dtype.kind != "b" and (values.min() < 0 or values.max() > 65535):
        raise ValueError(f"{path} holds ids {values.min()}..{values.max()}; they must fit 16 bits")
    return values.astype(np.uint16)


def ids_saved_as_grey(values: NDArray[Any], colours: NDArray[np.uint8]) -> NDArray[Any]:
    """The ids (H, W) of pixels (H, W, 3) without colour; all else as it is.

    So are greys that all stand in `colours` (N, 3): that is a map painted in black and white.
    """
    if values.ndim != 3 or values.shape[2] != 3 or np.ptp(values, axis=2).any():
        return values
    greys = colours[np.ptp(colours, axis=1) == 0, 0]
    return values if np.isin(values[:, :, 0], greys).all() else values[:, :, 0]


def ids_of_colours(
    picture: NDArray[np.uint8], colours: NDArray[np.uint8], ids: NDArray[Any], what: str
) -> NDArray[np.uint16]:
    """The id whose colour is nearest to each pixel of (H, W, 3), because brushes and JPEG blur.

    Black is VOID unless `colours` has it. A picture mostly unlike all the colours is an error.
    """
    packed = picture.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    seen, inverse = np.unique(packed, return_inverse=True)
    seen_rgb = np.stack([seen >> 16, (seen >> 8) & 255, seen & 255], axis=1).astype(np.int64)
    palette = np.concatenate([colours, np.zeros((1, 3))]).astype(np.int64)
    nearest = np.zeros(len(seen), dtype=np.int64)
    distance = np.full(len(seen), np.inf)
    for row, colour in enumerate(palette):
        away = np.linalg.norm(seen_rgb - colour, axis=1)
        nearest = np.where(away < distance, row, nearest)
        distance = np.minimum(distance, away)
    far = float((distance[inverse] > 24).mean())
    if far > 0.2:
        raise ValueError(
            f"{what}: {far:.0%} of the pixels are unlike every colour of the palette; paint in "
            "the palette's colours, or save ids as a grey picture"
        )
    return np.append(ids, VOID).astype(np.uint16)[nearest[inverse]].reshape(picture.shape[:2])


# --- depth -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class DepthTable:
    """What the numbers in a set's depth files mean."""

    kind: Literal["metric", "inverse"] = "inverse"
    scale: float = 1.0
    invalid: float | None = None  # NaN is spelt "nan" in depth.json
    per_image: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> "DepthTable":
        entries = read_json(path)
        kind = entries.get("kind") if isinstance(entries, Mapping) else None
        if kind not in ("metric", "inverse"):
            raise ValueError(f'{path}: kind is {kind!r}; write "metric" or "inverse"')
        scale = float(entries.get("scale") or 1.0)
        if not scale > 0:
            raise ValueError(f"{path}: scale is {scale}; it must be positive")
        invalid = entries.get("invalid")
        per_image = entries.get("per_image") or {}
        return cls(kind, scale, None if invalid is None else float(invalid), per_image)


def read_depth(
    path: PathLike,
    table: DepthTable | None = None,
    name: str | None = None,
    turned: bool = False,
) -> NDArray[np.float32]:
    """Inverse depth (H, W), larger is nearer, of a 8- or 16-bit picture or a float `.npy`.

    Without `table`, a `depth.json` beside the file or one folder above says what the numbers
    mean; without that, larger is nearer. Pixels marked invalid get the value of the nearest valid
    one. Units are those of the file: only the order and the proportions of distances matter.
    """
    path = Path(path)
    if table is None:
        found = table_of(path, "depth.json")
        table = DepthTable.read(found) if found else DepthTable()
    values = _depth_values(path, turned)
    invalid = np.zeros(values.shape, dtype=bool)
    if table.invalid is not None:
        invalid |= np.isnan(values) if np.isnan(table.invalid) else values == table.invalid
    if table.kind == "metric":
        invalid |= values <= 0
    broken = ~np.isfinite(values) & ~invalid
    if broken.any():
        raise ValueError(
            f"{path} holds {broken.sum()} values that are NaN or infinite; write 0 there and "
            '"invalid": 0 in depth.json'
        )
    if invalid.any():
        if invalid.all():
            raise ValueError(f"{path} holds no valid depth at all; remove it or mend depth.json")
        values = _filled(values, ~invalid)
    if table.kind == "metric":
        return np.float32(1.0 / table.scale) / values
    extent = table.per_image.get(name if name is not None else path.stem)
    if extent is not None and path.suffix.lower() != ".npy":
        low, high = float(extent["min"]), float(extent["max"])
        return (low + values / 65535.0 * (high - low)).astype(np.float32)
    return values * np.float32(table.scale)


def normalised_depth(inverse: NDArray[np.floating]) -> NDArray[np.float32]:
    """Inverse depth with its 2nd..98th percentile at -1..1, clipped; 0 where all is equally far."""
    low, high = np.percentile(inverse, (2, 98))
    if not high - low > 1e-6 * max(abs(low), abs(high), 1e-12):
        return np.zeros(inverse.shape, dtype=np.float32)
    return np.clip((inverse - low) / (high - low) * 2 - 1, -1, 1).astype(np.float32)


def _depth_values(path: Path, turned: bool) -> NDArray[np.float32]:
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
            if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
                values = values.squeeze(0 if values.shape[0] == 1 else 2)
        else:
            with Image.open(path) as opened:
                picture = upright(opened) if turned else opened
                if picture.mode in ("RGBA", "LA", "P", "1"):
                    picture = picture.convert("L" if picture.mode in ("LA", "1") else "RGB")
                values = np.asarray(picture)
    except DECODING_ERRORS as error:
        raise ValueError(f"{path} cannot be read as a depth map ({error})") from error
    if values.ndim == 3 and (np.ptp(values[..., :3].astype(np.int32), axis=2) <= 2).all():
        values = values[..., 0]
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "uif":
        raise ValueError(
            f"{path} is {values.dtype} {values.shape}; a depth map is a grey picture of 8 or 16 "
            "bits, or a float array (H, W); taming annotate depth makes one of a photograph"
        )
    return values.astype(np.float32)


def _filled(values: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    import cv2  # only depth sensors with holes need it

    _, nearest = cv2.distanceTransformWithLabels(
        (~valid).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    cell = np.asarray(nearest, dtype=np.int64)  # (H, W), the number of the nearest valid pixel
    value_of = np.zeros(int(cell.max()) + 1, dtype=np.float32)
    value_of[cell[valid]] = values[valid]
    return value_of[cell]


# --- classes and captions ---------------------------------------------------------------------


def read_class_labels(path: Path) -> tuple[dict[int, str], dict[str, int]]:
    """({id: class name}, {picture name: id}) of a class_labels.json."""
    entries = read_json(path)
    if not isinstance(entries, Mapping) or not isinstance(entries.get("images"), Mapping):
        raise ValueError(f'{path}: expected {{"names": {{"0": ...}}, "images": {{picture: 0}}}}')
    names = names_table(entries.get("names"), path)
    ids = {name: index for index, name in names.items()}
    images = {}
    for image, value in entries["images"].items():
        index = ids.get(value) if isinstance(value, str) else value
        if not isinstance(index, int | float) or index not in names:
            raise ValueError(f"{path}: picture '{image}' has class {value!r}, which has no name")
        images[image] = int(index)
    return names, images


def read_split(path: Path) -> dict[str, list[str]]:
    """{"train": names of pictures, ...} of a split.json."""
    parts = read_json(path)
    if not isinstance(parts, Mapping):
        raise ValueError(f'{path}: expected {{"train": [picture names], "validation": [...]}}')
    for part, names in parts.items():
        listed = names if isinstance(names, list) else [None]
        if part in PARTS and not all(isinstance(name, str) for name in listed):
            raise ValueError(f"{path}: '{part}' is {names!r:.60}; expected a list of picture names")
    return {part: names for part, names in parts.items() if isinstance(names, list)}


def read_captions(path: Path) -> dict[str, list[str]]:
    entries = read_json(path)
    if not isinstance(entries, Mapping):
        raise ValueError(f"{path}: expected {{picture name: caption or list of captions}}")
    captions = {}
    for name, value in entries.items():
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{path}: captions of '{name}' are {value!r:.60}; expected text")
        if any(text.strip() for text in texts):
            captions[name] = [text.strip() for text in texts if text.strip()]
    return captions
