"""What is where -> control on the grid: label maps to pictures (semantic image synthesis).

Ids index the `names` of the config; sets that number things differently have been brought to this
vocabulary by name. Each id has a learned vector, looked up at every pixel and encoded like any map
(a one-hot map times the first weights, without ever building the one-hot map).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from PIL import Image
from torch import Tensor, nn

from taming.cond_stage.base import ControlCondition, Size
from taming.cond_stage.drawing import distinct_colours
from taming.cond_stage.sources import as_array, describe, file_as_stored, is_path
from taming.data.annotations import (
    LabelReader,
    LabelTable,
    ids_of_colours,
    ids_saved_as_grey,
    read_labels,
    table_of,
)
from taming.data.batch import VOID, VOID_16
from taming.data.pictures import upright

CHANNELS = 16  # of the vector that stands for a label
NO_COLOURS = np.zeros((0, 3), dtype=np.uint8)


class Labels(ControlCondition):
    """Values are int64 (H, W), indices into `names`, 255 where nothing is said."""

    name = "labels"
    vocabulary = "label_names"

    def __init__(
        self,
        width: int,
        downsample_factor: int,
        names: Sequence[str],
        palette: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__(width, downsample_factor, channels=CHANNELS)
        self.names = list(names)
        if not self.names:
            raise ValueError("labels: names is empty; list the vocabulary in the config")
        if palette is None:
            palette = distinct_colours(len(self.names))
        self.palette = np.zeros((max(len(self.names), VOID + 1), 3), dtype=np.uint8)
        if np.shape(palette) != (len(self.names), 3):
            raise ValueError(
                f"labels: a palette of shape {np.shape(palette)} for {len(self.names)} names; "
                f"give three numbers for each"
            )
        self.palette[: len(self.names)] = palette
        self.palette[VOID] = 0  # black: nothing is said
        self.table = nn.Embedding(len(self.palette), CHANNELS)

    def read(self, source: Any, size: Size) -> Tensor:
        """A map of ids (grey, palette PNG, array) or a picture painted in the palette's colours.

        A `label_names.json` beside a file, or in the folder above, translates its ids by name, also
        those of a picture opened from it and not changed since.
        """
        palette = self.palette[: len(self.names)]
        file = None if is_path(source) else file_as_stored(source)
        if file is not None and table_of(file, "label_names.json") is not None:
            source = file
        if is_path(source):
            return fit_ids(self._from_file(Path(source)), size)
        return fit_ids(ids_from_array(source, len(self.names), palette), size)

    def _from_file(self, path: Path) -> np.ndarray:
        if table_of(path, "label_names.json") is not None:
            return read_labels(path, self.names, turned=True)
        table = LabelTable(
            dict(enumerate(self.names)),
            {
                i: (int(r), int(g), int(b))
                for i, (r, g, b) in enumerate(self.palette[: len(self.names)])
            },
            f"this model's vocabulary of {len(self.names)} names",
        )
        return LabelReader(table, self.names)(path, turned=True)

    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        labels = sample.get("labels")
        if labels is None:
            return None
        value = torch.as_tensor(labels, dtype=torch.int64)
        return value if bool((value != VOID).any()) else None

    def blank(self, size: Size) -> Tensor:
        return torch.full(tuple(size), VOID)

    def planes(self, values: Tensor, grid: Size | None) -> Tensor:
        return rearrange(self.table(values), "b h w c -> b c h w")

    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        """The palette's colours, black where nothing is said."""
        return self.palette[value.cpu().numpy()]


def ids_from_array(source: Any, count: int, palette: np.ndarray | None = None) -> np.ndarray:
    """Ids (H, W), below `count` or VOID, of a picture in memory, an array or a tensor.

    Colours are those of the palette (count, 3), where there is one.
    """
    if isinstance(source, Image.Image):
        source = upright(source)
        if "A" in source.getbands():
            source = source.convert("RGB" if source.mode == "RGBA" else "L")
    array = as_array(source)
    if array.dtype == np.uint8:
        array = ids_saved_as_grey(array, NO_COLOURS if palette is None else palette)
        if array.ndim == 3 and array.shape[-1] == 3 and palette is not None:
            return ids_of_colours(array, palette, np.arange(count), describe(source))
    if array.ndim != 2 or array.dtype.kind not in "uib" or array.size == 0:
        colours = "" if palette is None else ", or (H, W, 3) uint8 in the palette's colours"
        raise ValueError(
            f"{describe(source)} is no label map; give ids (H, W) as integers{colours}"
        )
    if array.dtype.itemsize > 1:
        array = np.where(array == VOID_16, VOID, array)
    strangers = array[((array < 0) | (array >= count)) & (array != VOID)]
    if len(strangers):
        raise ValueError(
            f"{describe(source)} holds label {strangers[0]}, the vocabulary has {count} names, "
            f"0 to {count - 1}; write {VOID} where nothing is labelled"
        )
    return array


def fit_ids(ids: np.ndarray, size: Size) -> Tensor:
    """Ids as int64 at a size; every pixel takes the id at its centre."""
    plane = torch.from_numpy(ids.astype(np.int64))
    if tuple(plane.shape) == tuple(size):
        return plane
    # Doubles hold every id exactly; nearest-exact samples at pixel centres.
    return F.interpolate(plane[None, None].double(), size, mode="nearest-exact")[0, 0].long()
