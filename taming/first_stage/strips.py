"""Encoder and decoder strip by strip, for pictures whose features do not fit into memory.

A convolution needs only the rows beside a strip, but the statistics of a norm are those of the
whole picture. So each residual block is run in three passes over strips of rows: two gather the
statistics of its norms, and the last computes it, over the rows of its own input that are not
needed any more. One layer of features is held, where a whole pass holds three and what each
convolution copies; the first convolution of a block is computed twice. Levels with attention and
small ones are run whole.

`Rows` are features that are computed when rows of them are taken. Between blocks they are stored
with 8 bits of precision (bfloat16), which is far below what a picture shows; float32 gives the
whole pass but for rounding. No gradients. Knows nothing of codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from taming.first_stage.autoencoder import Decoder, Downsample, Encoder, Level, ResnetBlock
from taming.first_stage.depth_to_space import Refinement

STRIP = 2**22  # values of a strip of features
WHOLE_LEVEL = 2**24  # values of features that are run whole


class WholeRunner(Protocol):
    """How the parts that are small enough are run."""

    def run_middle(self, middle: Any, h: Tensor) -> Tensor: ...
    def run_blocks(self, level: Level, h: Tensor) -> Tensor: ...
    def run_upsample(self, layer: nn.Module, x: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Rows:
    """Features of one picture (1, channels, height, width); `take` computes rows [low, high)."""

    channels: int
    height: int
    width: int
    take: Callable[[int, int], Tensor]
    widest: int  # the most channels that are held on the way here

    def strips(self, values: int) -> Iterator[tuple[int, int]]:
        """Rows in even numbers, about so many values at once."""
        step = max(2, values // (self.width * self.widest) // 2 * 2)
        for low in range(0, self.height, step):
            yield low, min(low + step, self.height)


def rows_of(x: Tensor) -> Rows:
    _, channels, height, width = x.shape
    return Rows(channels, height, width, lambda low, high: x[:, :, low:high], channels)


def convolved(layer: nn.Conv2d, below: Rows) -> Rows:
    """A convolution of odd size that keeps the size, with zeros around the picture."""
    reach, beside = layer.kernel_size[0] // 2, layer.kernel_size[1] // 2

    def take(low: int, high: int) -> Tensor:
        top, bottom = max(low - reach, 0), min(high + reach, below.height)
        x = below.take(top, bottom)
        if bottom - top < high - low + 2 * reach:
            x = F.pad(x, (0, 0, top - (low - reach), high + reach - bottom))
        return F.conv2d(x, layer.weight, layer.bias, padding=(0, beside))

    widest = max(below.widest, layer.out_channels)
    return Rows(layer.out_channels, below.height, below.width, take, widest)


def activated(norm: nn.GroupNorm, below: Rows, values: int) -> Rows:
    """Norm and swish; the statistics are gathered at once, over all strips."""
    scale, shift = statistics(norm, below, values)

    def take(low: int, high: int) -> Tensor:
        x = below.take(low, high)
        return F.silu(torch.addcmul(shift, x, scale), inplace=True).to(x.dtype)

    return replace(below, take=take)


def statistics(norm: nn.GroupNorm, below: Rows, values: int) -> tuple[Tensor, Tensor]:
    """What the norm multiplies by and adds to each channel of this picture, (1,C,1,1) float32."""
    sums = torch.zeros(2, norm.num_channels, dtype=torch.float64)  # on the CPU: not all have it
    for low, high in below.strips(values):
        x = below.take(low, high).float()
        cells = x.shape[2] * x.shape[3]
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        spread = (x - mean).square_().sum(dim=(0, 2, 3)).cpu().double()  # (C,), within this strip
        centre = mean.flatten().cpu().double()
        sums += torch.stack([cells * centre, spread + cells * centre.square()])
    grouped = rearrange(sums, "s (g c) -> s g c", g=norm.num_groups).mean(dim=2)
    mean, square = grouped / (below.height * below.width)  # (G,)
    rate = (square - mean.square() + norm.eps).rsqrt()
    per_channel = norm.num_channels // norm.num_groups
    mean, rate = (value.repeat_interleave(per_channel) for value in (mean, rate))
    scale = rate * norm.weight.cpu().double()
    shift = norm.bias.cpu().double() - mean * scale
    scale, shift = (value.float().to(norm.weight.device) for value in (scale, shift))
    return scale[None, :, None, None], shift[None, :, None, None]


class Stored:
    """Rows in memory. What is computed of them may replace them, from the top downwards.

    It is written `REACH` rows above where its own row was read, where no strip looks any more.
    """

    REACH = 2  # rows beside its own that a residual block looks at: two 3x3 convolutions

    def __init__(self, source: Rows, values: int, dtype: torch.dtype, times: int) -> None:
        """`times`: how often it will be replaced."""
        x = source.take(*next(source.strips(values)))  # says where and in what all is computed
        self._computed = x.dtype
        shape = (source.height + self.REACH * times, source.width, source.channels)
        self._memory = torch.empty(shape, dtype=dtype, device=x.device)
        self._first = self.REACH * times
        self._values = values
        del x
        self._write(source)
        self._shape = source.channels, source.height, source.width

    @property
    def rows(self) -> Rows:
        """Not kept: a cycle would hold the memory until it is collected."""
        return Rows(*self._shape, self._take, widest=self._shape[0])

    def _take(self, low: int, high: int) -> Tensor:
        rows = self._memory[self._first + low : self._first + high]
        return rearrange(rows, "h w c -> 1 c h w").to(self._computed)

    def _write(self, source: Rows, above: int = 0) -> None:
        first = self._first - above
        for low, high in source.strips(self._values):
            taken = rearrange(source.take(low, high), "1 c h w -> h w c")
            self._memory[first + low : first + high] = taken

    def replace(self, source: Rows) -> None:
        """`source` is of the same size, and looks at these rows and at most REACH beside them."""
        self._write(source, self.REACH)
        self._first -= self.REACH


class StripRunner:
    """Runs an encoder or decoder on pictures (B,C,H,W), one after the other."""

    def __init__(
        self,
        whole: WholeRunner,
        progress: Callable[[int, int], None] | None = None,  # blocks done, in all
        *,
        values: int = STRIP,
        whole_level: int = WHOLE_LEVEL,
        stored: torch.dtype = torch.bfloat16,
    ) -> None:
        self.whole = whole
        self.progress = progress
        self.values = values
        self.whole_level = whole_level
        self.stored = stored
        self._done = self._blocks = 0
        self._rows: Rows  # what has been reached

    def encode(self, encoder: Encoder, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, Z, h, w)"""
        self._start(encoder.down, len(x))
        return torch.cat([self._encode(encoder, picture) for picture in x.split(1)])

    def decode(self, decoder: Decoder, z: Tensor) -> Tensor:
        """(B, Z, h, w) -> (B, out_ch, H, W)"""
        self._start(decoder.up, len(z))
        return torch.cat([self._decode(decoder, picture) for picture in z.split(1)])

    def _encode(self, encoder: Encoder, x: Tensor) -> Tensor:
        if encoder.stem > 1:
            x = F.pixel_unshuffle(x, encoder.stem)
        self._rows = convolved(encoder.conv_in, rows_of(x))
        for level in encoder.down:
            assert isinstance(level, Level)
            self._run_blocks(level)
            if level.downsample is not None:
                self._rows = downsampled(level.downsample, self._rows)
        self._rows = rows_of(self.whole.run_middle(encoder.mid, self._gather()))
        normed = activated(encoder.norm_out, self._rows, self.values)
        self._rows = convolved(encoder.conv_out, normed)
        return self._gather()

    def _decode(self, decoder: Decoder, z: Tensor) -> Tensor:
        self._rows = rows_of(self.whole.run_middle(decoder.mid, decoder.conv_in(z)))
        for level in reversed(decoder.up):
            assert isinstance(level, Level)
            self._run_blocks(level)
            if level.upsample is not None:
                self._rows = upsampled(self.whole.run_upsample, level.upsample, self._rows)
        normed = activated(decoder.norm_out, self._rows, self.values)
        self._rows = spread(decoder.stem, convolved(decoder.conv_out, normed))
        if decoder.refine is not None:
            self._rows = refined(decoder.refine, self._rows, normed)
        return self._gather()

    def _run_blocks(self, level: Level) -> None:
        """The blocks of a level, after which their rows are stored."""
        rows = self._rows
        size = max(rows.channels, level.width) * rows.height * rows.width
        del rows  # `_rows` alone holds what was stored last, so that it ends when that is replaced
        if len(level.attn) > 0 or size <= self.whole_level:
            self._rows = rows_of(self.whole.run_blocks(level, self._gather()))
            self._report(len(level.block))
            return
        stored = self._store(times=len(level.block))
        for done, block in enumerate(level.block):
            assert isinstance(block, ResnetBlock)
            self._rows = block_of(block, stored.rows, self.values)
            if block.shortcut is None:
                stored.replace(self._rows)
                self._rows = stored.rows
            else:  # of another width: it does not fit where its input lies
                stored = self._store(times=len(level.block) - done - 1)
            self._report(1)

    def _store(self, times: int) -> Stored:
        stored = Stored(self._rows, self.values, self.stored, times)
        self._rows = stored.rows
        return stored

    def _gather(self) -> Tensor:
        """All rows; into one place, because results kept among strips would break up the heap."""
        rows, whole = self._rows, None
        for low, high in rows.strips(self.values):
            strip = rows.take(low, high)
            if whole is None:
                whole = strip.new_empty((1, rows.height, rows.width, rows.channels))
                whole = rearrange(whole, "1 h w c -> 1 c h w")
            whole[:, :, low:high] = strip
        assert whole is not None
        return whole

    def _start(self, levels: nn.ModuleList, pictures: int) -> None:
        blocks = sum(len(level.block) for level in levels if isinstance(level, Level))
        self._done, self._blocks = 0, pictures * blocks

    def _report(self, blocks: int) -> None:
        self._done += blocks
        if self.progress is not None:
            self.progress(self._done, self._blocks)


def block_of(block: ResnetBlock, x: Rows, values: int) -> Rows:
    h = convolved(block.conv1, activated(block.norm1, x, values))
    h = convolved(block.conv2, activated(block.norm2, h, values))
    if block.shortcut is None:
        beside = x
    else:
        layer = block.get_submodule(block.shortcut)
        assert isinstance(layer, nn.Conv2d)
        beside = convolved(layer, x)
    return replace(h, take=lambda low, high: h.take(low, high).add_(beside.take(low, high)))


def upsampled(run: Callable[[nn.Module, Tensor], Tensor], layer: nn.Module, below: Rows) -> Rows:
    """Twice as many rows; `low` and `high` are to be even."""
    seen = run(layer, below.take(0, 1))

    def take(low: int, high: int) -> Tensor:
        # One row more on either side: what comes of it is wrong at its far edge, and cut off
        top, bottom = max(low // 2 - 1, 0), min(high // 2 + 1, below.height)
        return run(layer, below.take(top, bottom))[:, :, low - 2 * top : high - 2 * top]

    widest = max(below.widest, seen.shape[1])
    return Rows(seen.shape[1], 2 * below.height, seen.shape[3], take, widest)


def spread(stem: int, below: Rows) -> Rows:
    """Depth to space: `stem` times as many rows."""

    def take(low: int, high: int) -> Tensor:
        top, bottom = low // stem, -(-high // stem)
        x = F.pixel_shuffle(below.take(top, bottom), stem)
        return x[:, :, low - stem * top : high - stem * top]

    channels = below.channels // stem**2
    # Of what is held on the way there are fewer rows, and shorter ones
    widest = max(-(-below.widest // stem**2), channels)
    return Rows(channels, stem * below.height, stem * below.width, take, widest)


def refined(layer: Refinement, picture: Rows, features: Rows) -> Rows:
    beside = spread(layer.stem, convolved(layer.conv_in, features))
    both = Rows(
        picture.channels + beside.channels, picture.height, picture.width,
        lambda low, high: torch.cat([rows.take(low, high) for rows in (picture, beside)], dim=1),
        picture.widest + beside.widest,
    )  # fmt: skip
    mixed = convolved(layer.mix, both)
    active = replace(mixed, take=lambda low, high: F.silu(mixed.take(low, high), inplace=True))
    found = convolved(layer.conv_out, active)
    return replace(
        found, take=lambda low, high: found.take(low, high).add_(picture.take(low, high))
    )


def downsampled(layer: nn.Module, below: Rows) -> Rows:
    """Half as many rows; the convolution looks at the first row of the next pair, too."""
    reach = 1 if isinstance(layer, Downsample) and layer.conv is not None else 0
    seen = layer(below.take(0, 2))

    def take(low: int, high: int) -> Tensor:
        x = below.take(2 * low, min(2 * high + reach, below.height))
        # At the end of the picture the layer itself adds the zeros that are looked at
        return layer(x)[:, :, : high - low]

    # Of its own rows there are half as many, and half as wide
    widest = max(4 * below.widest, seen.shape[1])
    return Rows(seen.shape[1], below.height // 2, seen.shape[3], take, widest)
