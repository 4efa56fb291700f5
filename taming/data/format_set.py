"""A known data set in the layout in which it is distributed, as samples of `batch.py`.

What the files are and mean is told by `taming.data.formats`; here it meets vocabularies, draws and
the rest of the framework. A caption or box that a picture lacks is a missing key.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from taming.data.annotated_set import AnnotatedSet, fitting
from taming.data.annotations import LabelTable
from taming.data.batch import ANNOTATIONS
from taming.data.formats import Record, reader_of
from taming.data.formats.records import joined
from taming.data.keypoints import hide_outside


class FormatSet(AnnotatedSet):
    """Pictures of a known set; format: one of `taming.data.formats.FORMATS`.

    split: "train", "validation", "test" or "all", or several joined by "+", as far as the set has
        them. The other arguments are those of `AnnotatedSet`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        size: int | Sequence[int] | None = None,
        *,
        format: str,
        **options: Any,
    ):
        self.format = format
        super().__init__(root, split, size, **options)

    def _find(self) -> dict[str, Path]:
        if not self.root.is_dir():
            raise ValueError(f"{self.root} does not exist; give the folder of '{self.format}'")
        read = reader_of(self.format)
        self.known = joined([read(self.root, part) for part in self.split.split("+")])
        self.records = {record.name: record for record in self.known.entries}
        return {name: Path(record.image) for name, record in self.records.items()}

    def _split_names(self, names: list[str]) -> set[str]:
        return set(names)  # the reader has looked at the split

    def _remedy(self) -> str:
        return (
            f"the format '{self.format}' wants the files described in "
            f"{reader_of(self.format).__module__}"
        )

    def _open_tables(self) -> LabelTable | None:
        if "class_label" in self.wanted:
            self.class_table = self.known.class_table
        if "boxes" in self.wanted:
            self.box_table = self.known.box_table
        if "labels" in self.wanted and self.known.label_table:
            return LabelTable(self.known.label_table, path=f"the labels of '{self.format}'")
        return None

    def told(self) -> Iterator[bytes]:
        tables = (self.known.label_table, self.known.class_table, self.known.box_table)
        yield repr([sorted(table.items()) for table in tables]).encode()
        for name in self.names:
            record = self.records[name]
            maps = [Path(path) for path in (record.labels, record.depth) if path is not None]
            found = [(path.name, path.stat().st_size) for path in maps if path.is_file()]
            yield repr((name, record.class_label, list(record.captions), found)).encode()
            for table in (record.keypoints, record.boxes):
                yield b"" if table is None else np.ascontiguousarray(table).tobytes()

    def annotated(self) -> dict[str, int]:
        records = self.records.values()
        captions = {"caption": sum(len(record.captions) > 0 for record in records)}
        counts = captions | {
            kind: sum(getattr(record, kind) is not None for record in records)
            for kind in ANNOTATIONS
            if kind != "caption"
        }
        return {kind: count for kind, count in counts.items() if count and kind in self.wanted}

    def raw(self, index: int, at_least: tuple[int, int] | None = None) -> dict[str, Any]:
        record = self.records[self.names[index]]
        wanted = {key for key in self.wanted if getattr(record, key, None) is not None}
        if wanted & {"labels", "depth", "keypoints"}:
            at_least = None  # maps and joints belong to the picture's full size
        image = self.known.pixels(record.image, at_least)
        return {"image": image, **self._annotations(record, image)}

    def _annotations(self, record: Record, image: NDArray[np.uint8]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if self.labels is not None and record.labels is not None:
            found["labels"] = fitting(self.labels(record.labels), image, record.labels)
        if "depth" in self.wanted and record.depth is not None:
            found["depth"] = fitting(self.known.depth(record.depth), image, record.depth)
        if "keypoints" in self.wanted and record.keypoints is not None:
            found["keypoints"] = record.keypoints.copy()
            hide_outside(found["keypoints"], *image.shape[:2])
        if "boxes" in self.wanted and record.boxes is not None:
            found["boxes"] = self.placed(record.boxes)
        if record.class_label in self.class_ids:
            found["class_label"] = torch.tensor(self.class_ids[record.class_label])
        if "caption" in self.wanted and record.captions:
            found["captions"] = record.captions
        return found
