"""A cached record -> one training example of the second stage: an order, conditions, dropping.

Everything here is drawn anew each time a record is read, from a generator of (seed, epoch, index):
which order the codes are learned in, which region is known, how strongly the small image is shrunk
and which conditions are left out. Any subset is trained, so any subset works at sampling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from taming.cond_stage.base import Condition
from taming.cond_stage.holes import fill_hole, known_cells
from taming.cond_stage.known import Known
from taming.config import ConfigError, nearest
from taming.sampling import orders
from taming.transformer.multi_task import Codes

ORDER_KINDS = ("random", "spread", "raster", "known")


@dataclass(frozen=True)
class OrderShares:
    """How often each kind of order is drawn; normalised to sum to 1."""

    random: float = 0.50
    spread: float = 0.20  # as parallel sampling visits the grid
    raster: float = 0.15
    known: float = 0.15  # a known region first, its codes taken from the filled picture

    def __post_init__(self) -> None:
        self.probabilities(has_known=True)

    def probabilities(self, has_known: bool) -> np.ndarray:
        shares = np.array([getattr(self, kind) for kind in ORDER_KINDS], dtype=np.float64)
        if not has_known:
            shares[ORDER_KINDS.index("known")] = 0.0
        if not (shares >= 0).all() or shares.sum() <= 0:
            without = "" if has_known else ', and the condition "known" for that kind'
            raise ValueError(
                f"shares of orders are {self}; give numbers >= 0, one of them > 0{without}"
            )
        return shares / shares.sum()


@dataclass(frozen=True)
class Dropping:
    """How often conditions are left out in training."""

    everything: float = 0.10  # share of examples without any condition
    alone: float = 0.0  # share with a single one of those that the picture has
    alone_weights: Mapping[str, float] = field(default_factory=dict)  # how often which; else 1
    keep: Mapping[str, float] = field(default_factory=dict)  # condition -> probability of staying
    keep_others: float = 0.7  # the same for conditions that are not named

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("everything", "alone", "keep_others")}
        for name, value in {**given, **self.keep}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"dropping.{name} is {value}; give a probability, 0 to 1")
        for name, value in self.alone_weights.items():
            if not 0 < value < math.inf:
                raise ValueError(f"dropping.alone_weights.{name} is {value}; give a number > 0")
        if self.everything + self.alone > 1:
            raise ValueError(
                f"dropping.everything {self.everything} and dropping.alone {self.alone} are shares "
                f"of the same examples; give numbers that sum to 1 at most"
            )

    def check(self, conditions: Iterable[str]) -> None:
        """ConfigError if a condition is named that the model does not have."""
        droppable = [name for name in conditions if name != "known"]
        named = [("keep", name) for name in self.keep]
        named += [("alone_weights", name) for name in self.alone_weights]
        for part, name in named:
            if name == "known":
                raise ConfigError(f"dropping.{part}.known: how often it is shown is orders.known")
            if name not in droppable:
                raise ConfigError(
                    f"dropping.{part}: no condition '{name}'; {nearest(name, droppable)}"
                )


class Example(NamedTuple):
    """One training example; `holed` is what to fill and encode where a known region comes first."""

    codes: Tensor  # (T,) int64
    order: Tensor  # (T,) int64
    kind: int  # index into ORDER_KINDS
    known: int  # cells at the front of the order that are given
    holed: tuple[Tensor, Tensor] | None  # picture (3, H, W) in [-1, 1], bool (H, W): what is kept
    values: dict[str, Tensor]  # conditions that are present
    size: tuple[int, int]  # H x W
    grid: tuple[int, int]  # h x w


class CodesBatch(NamedTuple):
    """Stacked examples. `filled` holds the pictures that need encoding, `rows` whose they are."""

    codes: Tensor  # (B, T)
    order: Tensor  # (B, T)
    kind: Tensor  # (B,)
    known: Tensor  # (B,)
    filled: Tensor  # (n, 3, H, W)
    rows: Tensor  # (n,)
    values: dict[str, Tensor]
    present: dict[str, Tensor]
    grid: tuple[int, int]


def draw_example(
    sample: Mapping[str, Any],  # with "codes" (h, w) beside the keys of data/batch.py
    conditions: Mapping[str, Condition],
    shares: OrderShares,
    dropping: Dropping,
    rng: np.random.Generator,
) -> Example:
    """Draw order, known region and conditions for one record."""
    codes = sample["codes"].long()
    height, width = codes.shape
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    kind = int(rng.choice(len(ORDER_KINDS), p=shares.probabilities("known" in conditions)))
    if ORDER_KINDS[kind] == "raster":
        order = orders.raster(height, width)
    elif ORDER_KINDS[kind] == "random":
        order = orders.random(height, width, generator)
    else:
        order = orders.spread(height, width, generator)
    values = _draw_values(sample, conditions, dropping, rng)
    known, holed = 0, None
    if ORDER_KINDS[kind] == "known":
        value = conditions["known"].derive(sample, rng)
        assert value is not None, "a known region can be drawn for every picture"
        mask = Known.mask(value)
        image = sample["image"]
        cells = known_cells(mask, image.shape[-2] // height).flatten()
        values["known"] = value
        if 0 < int(cells.sum()) < cells.numel():
            known, holed = int(cells.sum()), (image, mask)
            order = orders.known_first(order, cells)
    size = (int(sample["image"].shape[-2]), int(sample["image"].shape[-1]))
    return Example(codes.flatten(), order, kind, known, holed, values, size, (height, width))


def _draw_values(
    sample: Mapping[str, Any],
    conditions: Mapping[str, Condition],
    dropping: Dropping,
    rng: np.random.Generator,
) -> dict[str, Tensor]:
    """The conditions that stay, but for a known region, which belongs to its order."""
    names = [name for name in conditions if name != "known"]
    share = rng.random()
    if share < dropping.everything:
        return {}
    is_alone = share < dropping.everything + dropping.alone
    if is_alone:
        # First arrivals of clocks that tick at these rates: the shares are those of the weights,
        # also among the conditions that the picture has.
        weights = [dropping.alone_weights.get(name, 1.0) for name in names]
        arrivals = rng.exponential(size=len(names)) / weights
        names = [names[at] for at in arrivals.argsort()]
    values: dict[str, Tensor] = {}
    for name in names:
        if not is_alone and rng.random() >= dropping.keep.get(name, dropping.keep_others):
            continue
        value = conditions[name].derive(sample, rng)
        if value is not None:
            values[name] = value
            if is_alone:
                break
    return values


def stack_examples(examples: Sequence[Example], conditions: Mapping[str, Condition]) -> CodesBatch:
    """Stack examples of one size; absent values are blanks, marked in `present`."""
    size, grid = examples[0].size, examples[0].grid
    values, present = {}, {}
    for name, condition in conditions.items():
        has = [name in example.values for example in examples]
        present[name] = torch.tensor(has)
        if any(has):
            blank = condition.blank(size)
            values[name] = torch.stack([example.values.get(name, blank) for example in examples])
    rows = [row for row, example in enumerate(examples) if example.holed is not None]
    holed = [example.holed for example in examples if example.holed is not None]
    # Filling is many small operations, as many for all pictures as for one.
    filled = fill_hole(*map(torch.stack, zip(*holed, strict=True))) if holed else None
    return CodesBatch(
        codes=torch.stack([example.codes for example in examples]),
        order=torch.stack([example.order for example in examples]),
        kind=torch.tensor([example.kind for example in examples]),
        known=torch.tensor([example.known for example in examples]),
        filled=torch.zeros(0, 3, *size) if filled is None else filled,
        rows=torch.tensor(rows, dtype=torch.int64),
        values=values,
        present=present,
        grid=grid,
    )


@torch.no_grad()
def training_codes(batch: CodesBatch, first_stage: Any) -> Codes:
    """The codes of a batch, with those of filled pictures at the cells that are known.

    The encoder sees the whole picture, hole included, so the codes of a kept cell are not those of
    the complete picture: sampling feeds codes of the filled one there, and so must training. In the
    hole it feeds what it has painted, for which the true codes stand.
    """
    context = batch.codes
    if len(batch.rows):
        encoded = first_stage.indices(batch.filled).flatten(1)
        places = orders.invert(batch.order[batch.rows])
        is_known = places < batch.known[batch.rows, None]
        mixed = torch.where(is_known, encoded, context[batch.rows])
        context = context.index_copy(0, batch.rows, mixed)
    return Codes(batch.codes, context, batch.order, batch.known)
