"""Encoder and decoder of the first stage: pixels (B,3,H,W) to features (B,Z,h,w) and back.

The convolutional design of Esser et al., "Taming Transformers for High-Resolution Image Synthesis"
(arXiv 2012.09841, appendix A, table 7), itself the U-Net of Ho et al. (arXiv 2006.11239) without
skips. Module names, shapes and arithmetic are those of the published checkpoints; do not rename.
Convolutional throughout, so any size that is a multiple of the downsampling factor goes through.

Ours are the options of the light design: a space-to-depth stem and a depth-to-space head spare
the levels of highest resolution (Shi et al., arXiv 1609.05158), where a CPU spends most time, and
a narrow refinement behind that head mends the seams of what it puts side by side.
Layers and networks also take the published keywords: `Encoder(**ddconfig)`, `block(x, temb)`.
Knows nothing of codes or losses.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from taming.config import ConfigError, from_mapping, plain
from taming.first_stage.depth_to_space import Refinement, start_without_checkerboard

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AutoencoderConfig:
    """The section `ddconfig`. The first block are the published keys, the second ours."""

    z_channels: int  # Z
    ch: int  # width of the first level
    ch_mult: tuple[int, ...]  # width of each level / ch; every level after the first halves
    num_res_blocks: int  # per level; the decoder has one more
    in_channels: int = 3
    out_ch: int = 3
    resolution: int = 256  # nominal: decides only at which level attention stands
    attn_resolutions: tuple[int, ...] = ()
    dropout: float = 0.0
    resamp_with_conv: bool = True
    double_z: bool = False  # mean and variance, for a Gaussian posterior

    stem: int = 1  # space-to-depth at the entry, depth-to-space at the exit; 1, 2 or 4
    refine: int = 0  # channels beside the painted picture, by which it is refined; 0: it is not
    norm_groups: int = 32
    mid_attention: bool = True
    resample: Literal["conv", "shuffle"] = "conv"  # shuffle: 1x1 convolutions, a ninth of the cost

    def __post_init__(self) -> None:
        if self.stem not in (1, 2, 4):
            raise ConfigError(f"stem is {self.stem}; it may be 1, 2 or 4")
        if self.refine < 0:
            raise ConfigError(f"refine is {self.refine}; give a number of channels, or 0 for none")
        for mult in self.ch_mult:
            if self.ch * mult % self.norm_groups:
                raise ConfigError(
                    f"a level of {self.ch * mult} channels cannot be split into norm_groups = "
                    f"{self.norm_groups}; choose a divisor of ch = {self.ch}"
                )

    @property
    def downsample_factor(self) -> int:
        return self.stem * 2 ** (len(self.ch_mult) - 1)

    def width(self, level: int) -> int:
        return self.ch * self.ch_mult[level]

    def attends(self, level: int) -> bool:
        return self.resolution // self.stem // 2**level in self.attn_resolutions


def config_from_keywords(ddconfig: Mapping[str, Any]) -> AutoencoderConfig:
    """The keywords of `Encoder(**ddconfig)` with the defaults they had where they were published.

    There, a keyword that nothing reads is no error; here it is one line in the log.
    """
    given = {"ch_mult": (1, 2, 4, 8), "double_z": True}
    given |= {key: plain(value) for key, value in ddconfig.items()}
    known = {field.name for field in fields(AutoencoderConfig)}
    if strangers := sorted(given.keys() - known):
        logger.warning("ddconfig: nothing reads %s", ", ".join(strangers))
    read = {key: value for key, value in given.items() if key in known}
    return from_mapping(AutoencoderConfig, read, "ddconfig")


def swish(x: Tensor) -> Tensor:
    return F.silu(x)


def normalize(in_channels: int, num_groups: int = 32) -> nn.GroupNorm:
    return nn.GroupNorm(num_groups, in_channels, eps=1e-6, affine=True)


Normalize, nonlinearity = normalize, swish  # the published names


class ResnetBlock(nn.Module):
    """Norm, swish, 3x3 convolution, twice, beside an identity (1x1 where the width changes).

    `temb` (B, temb_channels), a time step's embedding, shifts every channel between the two.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | None = None,  # None: as in_channels
        dropout: float = 0.0,
        norm_groups: int = 32,
        *,
        conv_shortcut: bool = False,  # 3x3, not 1x1, where the width changes
        temb_channels: int = 512,  # 0: takes no temb
    ) -> None:
        super().__init__()
        out_channels = in_channels if out_channels is None else out_channels
        self.norm1 = normalize(in_channels, norm_groups)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        if temb_channels > 0:
            self.temb_proj = nn.Linear(temb_channels, out_channels)
        self.norm2 = normalize(out_channels, norm_groups)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.shortcut: str | None = None  # name of the layer beside
        if in_channels != out_channels:
            self.shortcut = "conv_shortcut" if conv_shortcut else "nin_shortcut"
            kernel = 3 if conv_shortcut else 1
            beside = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2)
            self.add_module(self.shortcut, beside)

    def forward(self, x: Tensor, temb: Tensor | None = None) -> Tensor:
        h = self.conv1(swish(self.norm1(x)))  # (B, C_out, H, W)
        if temb is not None:
            h = h + self.temb_proj(swish(temb))[:, :, None, None]
        h = self.conv2(self.dropout(swish(self.norm2(h))))  # (B, C_out, H, W)
        return h + (x if self.shortcut is None else self.get_submodule(self.shortcut)(x))


class AttnBlock(nn.Module):
    """One head of self-attention over all cells, added to its input."""

    def __init__(self, in_channels: int, norm_groups: int = 32) -> None:
        super().__init__()
        self.norm = normalize(in_channels, norm_groups)
        self.q = nn.Conv2d(in_channels, in_channels, 1)
        self.k = nn.Conv2d(in_channels, in_channels, 1)
        self.v = nn.Conv2d(in_channels, in_channels, 1)
        self.proj_out = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        q, k, v = (
            rearrange(layer(normed), "b c h w -> b 1 (h w) c") for layer in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(q, k, v)  # (B, 1, h*w, C), scale C**-0.5
        attended = rearrange(attended, "b 1 (h w) c -> b c h w", h=x.shape[2])
        return x + self.proj_out(attended)


class Downsample(nn.Module):
    """Halves height and width."""

    def __init__(self, in_channels: int, with_conv: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, in_channels, 3, stride=2) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is None:
            return F.avg_pool2d(x, 2)
        # Only right and below: the published models were trained with this asymmetry.
        return self.conv(F.pad(x, (0, 1, 0, 1)))  # (B, C, H/2, W/2)


class Upsample(nn.Module):
    """Doubles height and width."""

    def __init__(self, in_channels: int, with_conv: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, in_channels, 3, padding=1) if with_conv else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")  # (B, C, 2H, 2W)
        return x if self.conv is None else self.conv(x)


class ShuffleDown(nn.Module):
    """Halves height and width: the four pixels of a square become channels, then mix."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pixel_unshuffle(x, 2))  # (B, C, H/2, W/2)


class ShuffleUp(nn.Module):
    """Doubles height and width and changes the width: mix at the low resolution, then spread."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, 4 * out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)  # (B, C_out, 2H, 2W)


def residual_block(config: AutoencoderConfig, channels: int, width: int) -> ResnetBlock:
    return ResnetBlock(channels, width, config.dropout, config.norm_groups, temb_channels=0)


def run_layer(layer: Callable[[Tensor], Tensor], x: Tensor, recomputes: bool) -> Tensor:
    """`layer(x)`; with `recomputes` nothing inside it is kept for the backward pass but x."""
    if recomputes and torch.is_grad_enabled():
        return checkpoint(layer, x, use_reentrant=False)
    return layer(x)


class Level(nn.Module):
    """What happens at one resolution, and the step to the next; holds layers, has no forward."""

    recomputes = False  # set by `Network.recompute_activations`

    def __init__(self, config: AutoencoderConfig, level: int, channels: int, blocks: int) -> None:
        super().__init__()
        width = self.width = config.width(level)
        self.block = nn.ModuleList(
            residual_block(config, channels if i == 0 else width, width) for i in range(blocks)
        )
        self.attn = nn.ModuleList(
            AttnBlock(width, config.norm_groups) for _ in range(blocks) if config.attends(level)
        )
        self.downsample: nn.Module | None = None
        self.upsample: nn.Module | None = None

    def blocks(self, h: Tensor) -> Tensor:
        for i, block in enumerate(self.block):
            h = run_layer(block, h, self.recomputes)
            if len(self.attn) > 0:
                h = run_layer(self.attn[i], h, self.recomputes)
        return h


class Middle(nn.Module):
    """Block, attention, block at the lowest resolution."""

    def __init__(self, config: AutoencoderConfig, channels: int) -> None:
        super().__init__()
        attention = AttnBlock(channels, config.norm_groups) if config.mid_attention else None
        self.block_1 = residual_block(config, channels, channels)
        self.attn_1 = attention or nn.Identity()
        self.block_2 = residual_block(config, channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(h)))


class Network(nn.Module):
    """What encoder and decoder say of themselves."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.stem = config.stem
        self.num_resolutions = len(config.ch_mult)
        self.num_res_blocks = config.num_res_blocks
        self.resolution = config.resolution
        self.in_channels = config.in_channels
        self.ch = config.ch

    def recompute_activations(self, recomputes: bool = True) -> None:
        """Keep only what lies between blocks for the backward pass, and compute the rest again.

        Chen et al., "Training Deep Nets with Sublinear Memory Cost" (arXiv 1604.06174).
        """
        for module in self.modules():
            if isinstance(module, Level):
                module.recomputes = recomputes


class Encoder(Network):
    """(B, in_channels, H, W) in [-1, 1] -> (B, Z, h, w). Give a config, or its keys."""

    def __init__(self, config: AutoencoderConfig | None = None, **ddconfig: Any) -> None:
        config = config or config_from_keywords(ddconfig)
        super().__init__(config)
        last = self.num_resolutions - 1
        self.conv_in = nn.Conv2d(config.in_channels * config.stem**2, config.ch, 3, padding=1)
        self.down = nn.ModuleList()
        channels = config.ch
        for i in range(self.num_resolutions):
            level = Level(config, i, channels, config.num_res_blocks)
            channels = config.width(i)
            if i != last:
                shuffle = config.resample == "shuffle"
                level.downsample = (
                    ShuffleDown(channels)
                    if shuffle
                    else Downsample(channels, config.resamp_with_conv)
                )
            self.down.append(level)
        self.mid = Middle(config, channels)
        self.norm_out = normalize(channels, config.norm_groups)
        out = 2 * config.z_channels if config.double_z else config.z_channels
        self.conv_out = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.stem > 1:
            x = F.pixel_unshuffle(x, self.stem)  # (B, 3*stem^2, H/stem, W/stem)
        h = self.conv_in(x)
        for level in self.down:
            assert isinstance(level, Level)
            h = level.blocks(h)
            if level.downsample is not None:
                h = level.downsample(h)
        h = self.mid(h)  # (B, C, h, w)
        return self.conv_out(swish(self.norm_out(h)))  # (B, Z, h, w)


class Decoder(Network):
    """(B, Z, h, w) -> (B, out_ch, H, W), not clamped. Give a config, or its keys."""

    def __init__(
        self,
        config: AutoencoderConfig | None = None,
        *,
        give_pre_end: bool = False,  # return the features before the last norm
        **ddconfig: Any,
    ) -> None:
        config = config or config_from_keywords(ddconfig)
        super().__init__(config)
        self.give_pre_end = give_pre_end
        side = config.resolution // config.downsample_factor
        self.z_shape = (1, config.z_channels, side, side)
        channels = config.width(self.num_resolutions - 1)
        self.conv_in = nn.Conv2d(config.z_channels, channels, 3, padding=1)
        self.mid = Middle(config, channels)
        levels: list[Level] = []
        for i in reversed(range(self.num_resolutions)):
            level = Level(config, i, channels, config.num_res_blocks + 1)
            channels = config.width(i)
            if i != 0:
                if config.resample == "shuffle":
                    level.upsample = ShuffleUp(channels, config.width(i - 1))
                    channels = config.width(i - 1)
                else:
                    level.upsample = Upsample(channels, config.resamp_with_conv)
            levels.insert(0, level)  # up.0 is the highest resolution, in files too
        self.up = nn.ModuleList(levels)
        self.norm_out = normalize(channels, config.norm_groups)
        self.conv_out = nn.Conv2d(channels, config.out_ch * config.stem**2, 3, padding=1)
        if self.stem > 1:
            start_without_checkerboard(self.conv_out, self.stem)
        self.refine: Refinement | None = None
        if config.refine:
            self.refine = Refinement(channels, config.refine, config.out_ch, self.stem)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))  # (B, C, h, w)
        for level in reversed(self.up):  # lowest resolution first
            assert isinstance(level, Level)
            h = level.blocks(h)
            if level.upsample is not None:
                h = level.upsample(h)
        if self.give_pre_end:
            return h
        return self.paint(swish(self.norm_out(h)))

    def paint(self, h: Tensor) -> Tensor:
        """The last features (B, C, H/stem, W/stem) as a picture (B, out_ch, H, W)."""
        x = F.pixel_shuffle(self.conv_out(h), self.stem)  # a stem of 1 changes nothing
        return x if self.refine is None else self.refine(x, h)
