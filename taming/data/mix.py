"""Several sets in one training: their vocabularies merged by name, their shares by weight."""

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from taming.data.annotated_set import AnnotatedSet
from taming.data.image_list import ImageList
from taming.data.vocabulary import merge_class_names, merge_label_names


class Mix(Dataset):
    """Sets one after another; index i belongs to the set in whose range it lies.

    weights: share of each set among the pictures drawn; None: each picture counts the same.
    label_names, class_names, box_names: vocabularies; None merges those of the sets by name.
    """

    def __init__(
        self,
        sets: Sequence[ImageList],
        weights: Sequence[float] | None = None,
        label_names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        box_names: Sequence[str] | None = None,
    ):
        if not sets:
            raise ValueError("a mix of no sets; give at least one")
        names = [part.name for part in sets]
        if len(set(names)) < len(names):
            raise ValueError(f"sets {names} share a name; give each its own `name`")
        self.sets = list(sets)
        self.weights = [float(len(s)) for s in sets] if weights is None else list(weights)
        if len(self.weights) != len(sets) or min(self.weights) < 0 or sum(self.weights) <= 0:
            raise ValueError(
                f"weights {self.weights} of {len(sets)} sets: one a set, none negative"
            )
        if label_names is None:
            ignored = {name for part in sets for name in getattr(part, "ignore", ())}
            label_names = merge_label_names((part.label_table for part in sets), ignored)
        if class_names is None:
            class_names = merge_class_names(part.class_table for part in sets)
        if box_names is None:
            box_names = merge_class_names(part.box_table for part in sets)
        self.label_names, self.class_names = list(label_names), list(class_names)
        self.box_names = list(box_names)
        for part in sets:
            if isinstance(part, AnnotatedSet):
                part.set_vocabulary(self.label_names, self.class_names, self.box_names)
        self.offsets = [0]
        for part in sets:
            self.offsets.append(self.offsets[-1] + len(part))

    @property
    def lengths(self) -> list[int]:
        return [len(part) for part in self.sets]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of the samples of each set."""
        return [part.draw.size if part.draw else (0, 0) for part in self.sets]

    def __len__(self) -> int:
        return self.offsets[-1]

    def set_epoch(self, epoch: int) -> None:
        for part in self.sets:
            part.set_epoch(epoch)

    def locate(self, index: int) -> tuple[ImageList, int]:
        """The set of an index of the mix, and the index there."""
        index = range(len(self))[index]
        number = next(n for n, end in enumerate(self.offsets[1:]) if index < end)
        return self.sets[number], index - self.offsets[number]

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        number, epoch = index if isinstance(index, tuple) else (index, None)
        part, inner = self.locate(number)
        return part.sample(inner, part.epoch if epoch is None else epoch)

    def sample(self, index: int, epoch: int = 0) -> dict[str, Any]:
        """One draw, a pure function of (seed, epoch, index within its set)."""
        part, inner = self.locate(index)
        return part.sample(inner, epoch)
