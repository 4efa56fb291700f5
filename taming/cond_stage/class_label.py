"""Class of the whole picture -> prefix tokens.

Class-conditional synthesis as in VQGAN (arXiv 2012.09841, section 4.2): an embedding per class in
front of the codes. The vocabulary is a list of names in the config; a value is an index into it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from taming.cond_stage.base import PrefixCondition, Size
from taming.cond_stage.drawing import text_card
from taming.cond_stage.sources import whole
from taming.config import nearest
from taming.data.vocabulary import normalised


class ClassLabel(PrefixCondition):
    """Values are int64 (), an index into `names`."""

    name = "class_label"
    vocabulary = "class_names"

    def __init__(self, width: int, names: Sequence[str], tokens: int = 1) -> None:
        super().__init__(width, tokens)
        self.names = list(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ValueError(
                f"class_label: names must be different words, at least one; got {self.names}"
            )
        self.table = nn.Embedding(len(self.names), tokens * width)
        nn.init.normal_(self.table.weight, std=0.02)

    def read(self, source: Any, size: Size) -> Tensor:
        """A class by name or by index."""
        if isinstance(source, str):
            spelt = [normalised(name) for name in self.names]
            if normalised(source) in spelt:
                return torch.tensor(spelt.index(normalised(source)))
            if not source.strip().isdigit():
                raise ValueError(
                    f"class '{source}' is not among the {len(self.names)} classes of this model; "
                    f"{nearest(source, self.names)}"
                )
            source = int(source)
        try:
            index = whole("class_label", source)
        except ValueError:
            raise ValueError(f"class_label is {source!r}, neither a name nor an index") from None
        if not 0 <= index < len(self.names):
            raise ValueError(
                f"class {index} does not exist; this model has classes 0 to {len(self.names) - 1}"
            )
        return torch.tensor(index)

    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        label = sample.get("class_label")
        if label is None or int(label) < 0:
            return None
        return torch.as_tensor(label, dtype=torch.int64)

    def blank(self, size: Size) -> Tensor:
        return torch.tensor(-1)

    def features(self, values: Tensor) -> Tensor:
        return self.table(values.clamp(min=0))  # (B, P*C); -1 is a blank, which nobody looks at

    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        index = int(value)
        return text_card(self.names[index] if index >= 0 else "", size or (128, 128))
