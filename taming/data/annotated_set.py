"""Pictures with annotations, from wherever: names of labels, classes and boxes made one vocabulary.

Ids of a set mean nothing to another, so they are mapped by name into the vocabularies given, or
into the set's own. What a subclass adds is where annotations come from.
"""

import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taming.data.annotations import LabelReader, LabelTable
from taming.data.batch import ANNOTATIONS
from taming.data.image_list import ImageList
from taming.data.sides import Sides, counterparts
from taming.data.vocabulary import alike, merge_class_names, merge_label_names, normalised

logger = logging.getLogger(__name__)


class AnnotatedSet(ImageList, ABC):
    """Pictures and their annotations.

    label_names, class_names, box_names: the vocabularies; None takes the set's own names.
    ignore: label names that count as unlabelled.
    annotations: which of `batch.ANNOTATIONS` to read; None reads all.
    The other arguments are those of `ImageList`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        size: int | Sequence[int] | None = None,
        *,
        label_names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        box_names: Sequence[str] | None = None,
        ignore: Sequence[str] = (),
        annotations: Sequence[str] | None = None,
        **options: Any,
    ):
        self.wanted = frozenset(ANNOTATIONS if annotations is None else annotations)
        if not self.wanted <= set(ANNOTATIONS):
            unknown = sorted(self.wanted - set(ANNOTATIONS))
            raise ValueError(f"annotations {unknown} are unknown; choose from {ANNOTATIONS}")
        super().__init__(root, split, size, **options)
        self.ignore = tuple(ignore)
        self.labels: LabelReader | None = None
        self._label_table = self._open_tables()
        if self._label_table is not None:
            self.label_table = self._label_table.names
        tables = {"label": self.label_table, "class": self.class_table, "box": self.box_table}
        for kind, table in tables.items():
            for one, other in alike(table.values())[:3]:
                logger.warning(
                    "set '%s': the %s names '%s' and '%s' count as one, as case, '-' and '_' make "
                    "no difference; rename one if they differ", self.name, kind, one, other,
                )  # fmt: skip
        self.set_vocabulary(label_names, class_names, box_names)

    @abstractmethod
    def _open_tables(self) -> LabelTable | None:
        """Reads what gives ids their meaning: `class_table`, `box_table`, and labels' table."""

    def set_vocabulary(
        self,
        label_names: Sequence[str] | None,
        class_names: Sequence[str] | None,
        box_names: Sequence[str] | None = None,
    ) -> None:
        """Maps ids into these vocabularies; None takes the set's own names."""
        if label_names is None:
            label_names = merge_label_names([self.label_table], self.ignore)
        if class_names is None:
            class_names = merge_class_names([self.class_table])
        if box_names is None:
            box_names = merge_class_names([self.box_table])
        self.label_names, self.class_names = list(label_names), list(class_names)
        self.box_names = list(box_names)
        if self._label_table is not None:
            self.labels = LabelReader(self._label_table, self.label_names, self.ignore)
            self._log_absent("label", self.labels.absent)
        self.class_ids = self._ids("class", self.class_table, self.class_names)
        self.box_ids = self._ids("box", self.box_table, self.box_names)
        self.sides = Sides(
            counterparts(self.label_names),
            counterparts(self.box_names),
            counterparts(self.class_names),
        )

    def _ids(self, kind: str, own: Mapping[int, str], vocabulary: Sequence[str]) -> dict[int, int]:
        """{id of the set: id of the vocabulary}, without those that have no place in it."""
        position = {normalised(name): index for index, name in enumerate(vocabulary)}
        places = {index: position.get(normalised(name)) for index, name in own.items()}
        self._log_absent(kind, [own[index] for index, place in places.items() if place is None])
        return {index: place for index, place in places.items() if place is not None}

    def placed(self, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The boxes (N, 5) whose category is in the vocabulary, with its id there."""
        places = [self.box_ids.get(int(category), -1) for category in boxes[:, 4]]
        ids = np.asarray(places, dtype=np.float32)[:, None]
        return np.concatenate([boxes[:, :4], ids], axis=1)[ids[:, 0] >= 0]

    def _log_absent(self, kind: str, names: Sequence[str]) -> None:
        if names:
            logger.warning(
                "set '%s': %d %s names are not in the vocabulary and count as unlabelled: %s",
                self.name, len(names), kind, ", ".join(names[:8]) + (", ..." * (len(names) > 8)),
            )  # fmt: skip


def fitting(array: NDArray, image: NDArray, path: str | Path) -> NDArray:
    """The map, which must have its picture's height and width."""
    if array.shape[:2] != image.shape[:2]:
        raise ValueError(
            f"{path} is {array.shape[0]}x{array.shape[1]} (height x width), its picture "
            f"{image.shape[0]}x{image.shape[1]}; make them equal"
        )
    return array
