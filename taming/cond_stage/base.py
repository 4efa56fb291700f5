"""What every condition is: one object that reads, derives, embeds, omits and shows its own input.

A *control* condition speaks about places and becomes features on the latent grid; a *prefix*
condition speaks about the whole picture and becomes a few tokens. The rest of the framework handles
conditions through this class alone: a new task is a new file in this folder, never an `if name ==`
in a model. Knows nothing of the transformer that consumes the features.

Controls are added on the grid rather than prepended (ControlAR, arXiv 2410.02705). A condition may
be missing from any image; dropping one in training, leaving it out at sampling and giving its null
are the same tensor, which is what classifier-free guidance (arXiv 2207.12598) subtracts.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from taming.cond_stage.sizes import Size, fitting_size

HIDDEN = 64  # channels between the patches of a control encoder


class Combined(NamedTuple):
    """All conditions of a batch, as the second stage takes them."""

    control: Tensor  # (B, C, h, w), zero where there is no control condition
    prefix: Tensor  # (B, P, C), P = 0 where there is no prefix condition


class Part(NamedTuple):
    """A rectangle of a picture, in parts of its height and width."""

    top: float
    left: float
    bottom: float
    right: float


class Condition(nn.Module, ABC):
    """One kind of condition. Subclass `ControlCondition` or `PrefixCondition`."""

    name: ClassVar[str]
    kind: ClassVar[Literal["control", "prefix"]]
    precomputed: ClassVar[bool] = False  # costly and the same at every reading: computed once
    vocabulary: ClassVar[str | None] = None  # the data's list of words that becomes `names`

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"{type(self).__name__}: width is {width}; it must be positive")
        self.width = width

    @abstractmethod
    def read(self, source: Any, size: Size) -> Tensor:
        """One value from what a user has: a path, a picture, an array.

        ValueError says which file, what is in it, and what to do.
        """

    @abstractmethod
    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        """One value from a training sample; None where the sample does not have it."""

    def derive_all(
        self, samples: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> list[Tensor | None]:
        """`derive` of each sample; a condition that is cheaper for many at once overrides it."""
        return [self.derive(sample, rng) for sample in samples]

    @abstractmethod
    def blank(self, size: Size) -> Tensor:
        """A value of the right shape and type, to fill the place of an absent one in a batch."""

    def fitting_size(self, shape: Size, trained: Sequence[Size], factor: int) -> Size:
        """The size to paint in from a source of this shape, in multiples of `factor`."""
        return fitting_size(shape, trained, factor)

    @abstractmethod
    def embed(self, values: Tensor, grid: Size | None = None) -> Tensor:
        """Stacked values -> (B, C, h, w) or (B, P, C).

        `grid` is (h, w); only values that do not carry a size of their own, such as poses, need it.
        """

    @abstractmethod
    def null(self, batch: int, grid: Size) -> Tensor:
        """The absent condition, in the shape of `embed`."""

    def within(self, values: Tensor, part: Part) -> tuple[Tensor, Tensor | None]:
        """What stacked values (B, ...) are for a part of the picture, and which of them say
        something there, bool (B,); None: all.

        For tokens that speak of places. What is on the grid is cut as it is, and a class or a
        sentence is the same everywhere.
        """
        return values, None

    def source_shape(self, source: Any) -> Size | None:
        """Height and width of the picture that a source without pixels was made for, if it says."""
        return None

    def settle(self, images: Tensor, value: Tensor) -> Tensor:
        """Painted images (B, 3, H, W) in [-1, 1] with what `value` says of them for certain.

        Most conditions say nothing a painter could copy.
        """
        return images

    @abstractmethod
    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        """A picture of one value, uint8 (H, W, 3); `size` for values without one of their own."""


class ControlEncoder(nn.Module):
    """A map at full resolution -> features on the latent grid: (B, C_in, H, W) -> (B, C, h, w).

    Patches of at most 4x4, then patches of those, each a linear layer: a cell sees its own f x f
    pixels and nothing else, whatever the shape of the picture. What lies around a cell is for the
    trunk that all controls pass later. (Strided convolutions compute the same, several times
    slower on CPUs.)
    """

    def __init__(self, channels: int, width: int, downsample_factor: int) -> None:
        super().__init__()
        steps = downsample_factor.bit_length() - 1
        if downsample_factor < 1 or 2**steps != downsample_factor:
            raise ValueError(f"downsample_factor is {downsample_factor}; it must be a power of two")
        self.downsample_factor = downsample_factor
        # The larger patch comes first, so that the finest, costliest grid is left at once.
        self.patches = [4] * (steps // 2) + [2] * (steps % 2)
        self.patches += [1] * (2 - len(self.patches))
        sizes = [channels] + [min(HIDDEN, width)] * (len(self.patches) - 1) + [width]
        self.layers = nn.ModuleList(
            nn.Linear(patch * patch * c_in, c_out)
            for patch, c_in, c_out in zip(self.patches, sizes[:-1], sizes[1:], strict=True)
        )

    def forward(self, maps: Tensor) -> Tensor:
        height, width = maps.shape[-2:]
        f = self.downsample_factor
        if height % f or width % f:
            raise ValueError(
                f"a map of {height}x{width} does not divide into cells of {f}x{f} pixels; "
                f"resize it to {max(1, round(height / f)) * f}x{max(1, round(width / f)) * f}"
            )
        x = rearrange(maps, "b c h w -> b h w c")
        for i, (patch, layer) in enumerate(zip(self.patches, self.layers, strict=True)):
            x = F.silu(x) if i else x
            x = layer(rearrange(x, "b (h p) (w q) c -> b h w (p q c)", p=patch, q=patch))
        return rearrange(x, "b h w c -> b c h w")


class ControlCondition(Condition):
    """A condition on the latent grid. A subclass states `channels` and, if need be, `planes`."""

    kind = "control"

    def __init__(
        self,
        width: int,
        downsample_factor: int,
        channels: int,
        encoder_factor: int | None = None,  # default f; smaller where `planes` draws coarser maps
    ) -> None:
        super().__init__(width)
        self.downsample_factor = downsample_factor
        self.encoder = ControlEncoder(channels, width, encoder_factor or downsample_factor)
        # Row 0 says "absent", row 1 "present": a sum of controls must tell flat from missing.
        self.presence = nn.Parameter(torch.randn(2, width) * 0.02)

    def planes(self, values: Tensor, grid: Size | None) -> Tensor:
        """Stacked values -> the float maps that are encoded, (B, C_in, H, W)."""
        return values

    def embed(self, values: Tensor, grid: Size | None = None) -> Tensor:
        features = self.encoder(self.planes(values, grid))  # (B, C, h, w)
        return features + rearrange(self.presence[1], "c -> 1 c 1 1")

    def null(self, batch: int, grid: Size) -> Tensor:
        return repeat(self.presence[0], "c -> b c h w", b=batch, h=grid[0], w=grid[1])


class PrefixCondition(Condition):
    """A condition of `tokens` prefix tokens. A subclass states `features`."""

    kind = "prefix"

    def __init__(self, width: int, tokens: int) -> None:
        super().__init__(width)
        if tokens < 1:
            raise ValueError(f"{type(self).__name__}: tokens is {tokens}; it must be positive")
        self.tokens = tokens
        self.absent = nn.Parameter(torch.randn(tokens, width) * 0.02)

    @abstractmethod
    def features(self, values: Tensor) -> Tensor:
        """Stacked values -> (B, P*C)."""

    def embed(self, values: Tensor, grid: Size | None = None) -> Tensor:
        return rearrange(self.features(values), "b (p c) -> b p c", p=self.tokens)

    def null(self, batch: int, grid: Size) -> Tensor:
        return repeat(self.absent, "p c -> b p c", b=batch)


def combine(
    conditions: Mapping[str, Condition] | nn.ModuleDict,
    values: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    grid: Size,
    *,
    batch: int | None = None,
    width: int | None = None,
) -> Combined:
    """All conditions of a batch: controls summed on the grid, prefixes in order of declaration.

    `values[name]` is stacked over the batch, `present[name]` a bool (B,); a name with values alone
    is present everywhere, a name with neither is absent. Where an image lacks a condition, its
    value is not looked at. `batch` is needed when nothing else tells B, `width` (C) when there is
    no condition at all.
    """
    named = cast(dict[str, Condition], dict(conditions.items()))
    _check_names(named, values, present)
    size = _batch_size(values, present, batch)
    control: Tensor | None = None
    prefix: list[Tensor] = []
    for name, condition in named.items():
        features = _features(condition, values.get(name), present.get(name), size, grid)
        if condition.kind == "prefix":
            prefix.append(features)
        else:
            control = features if control is None else control + features
    if control is None or not prefix:
        like = _like(named)
        channels = next((c.width for c in named.values()), width)
        if channels is None:
            raise ValueError("there is no condition to tell how many channels to give; pass width")
        if control is None:
            control = like.new_zeros(size, channels, *grid)
        if not prefix:
            prefix = [like.new_zeros(size, 0, channels)]
    return Combined(control, torch.cat(prefix, dim=1))


def _features(
    condition: Condition,
    values: Tensor | None,
    present: Tensor | None,
    batch: int,
    grid: Size,
) -> Tensor:
    absent = condition.null(batch, grid)
    if present is None:
        present = torch.full((batch,), values is not None)
    if not bool(present.any()):
        if torch.is_grad_enabled():
            # A zero that touches every parameter: distributed training waits for all gradients.
            absent = absent + 0.0 * sum(p.sum() for p in condition.parameters())
        return absent
    if values is None:
        raise ValueError(
            f"'{condition.name}' is marked present in {int(present.sum())} of {batch} "
            f"images but has no values; stack its values, with blank() for the rest"
        )
    # Most images lack most conditions: only those that have it are embedded.
    rows = present.nonzero()[:, 0].to(values.device)
    features = condition.embed(values if len(rows) == batch else values[rows], grid)
    if features.shape[1:] != absent.shape[1:]:
        raise ValueError(
            f"'{condition.name}' gives features {tuple(features.shape[1:])}, the latent grid wants "
            f"{tuple(absent.shape[1:])}; resize the value to the picture"
        )
    filled = absent.clone()
    filled[rows] = features.to(absent.dtype)  # older PyTorch has no index_copy on Apple's cards
    return filled


def _check_names(
    conditions: Mapping[str, Condition],
    values: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
) -> None:
    strangers = sorted((set(values) | set(present)) - set(conditions))
    if strangers:
        raise ValueError(
            f"no condition is called {', '.join(strangers)}; this model has "
            f"{', '.join(conditions) or 'none'}"
        )


def _batch_size(
    values: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    batch: int | None,
) -> int:
    sizes = {f"values of {name}": len(value) for name, value in values.items()}
    sizes |= {f"present of {name}": len(flags) for name, flags in present.items()}
    if batch is not None:
        sizes["batch"] = batch
    if not sizes:
        raise ValueError("neither values nor presence tell the batch size; pass batch")
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{what} {count}" for what, count in sizes.items())
        raise ValueError(f"batch sizes differ: {listed}")
    return next(iter(sizes.values()))


def _like(conditions: Mapping[str, Condition]) -> Tensor:
    return next((p for c in conditions.values() for p in c.parameters()), torch.zeros(()))
