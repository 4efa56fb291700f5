"""A first stage made ready to run, not to train: the same codes and pictures in less time.

What is different from the plain modules, which stay what everything here is tested against:

- Convolutions lie channels-last, which they then need not be brought to, call by call.
- A 3x3 convolution of a picture enlarged by repeating its pixels sees at most 2x2 different ones:
  it is a transposed convolution of the small picture, with weights summed once (`spread_kernel`),
  of 4/9 of the multiplications (Shi et al., arXiv 1609.07009, section 3).
- What no gradient will need is overwritten.
- Pictures whose features would fill the memory are run strip by strip (`strips`).

Sums are taken in another order: results differ by rounding. Weights that are loaded or moved later
count, but for those whose `.data` is written to. Knows nothing of where pictures come from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taming.first_stage.autoencoder import (
    AttnBlock,
    Decoder,
    Encoder,
    Level,
    Middle,
    ResnetBlock,
    Upsample,
)
from taming.first_stage.quantize_base import Quantized
from taming.first_stage.strips import StripRunner
from taming.first_stage.vqgan import VQModel, check_size

Progress = Callable[[int, int], None]  # done, in all

# Bytes of the three largest features of a picture, above which it is run in strips
WHOLE = 2 * 2**30


def spread_kernel(weight: Tensor) -> Tensor:
    """(C_out, C_in, 3, 3) after doubling -> (C_in, C_out, 4, 4) of a transposed convolution.

    Offset t of the large kernel takes pixel i to place 2 i - 1 + t; beside each stand the offsets
    of the 3x3 kernel that meet pixel i there.
    """
    meets = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float32)
    spread = torch.einsum("oirs,tr,us->iotu", weight.float(), meets, meets)
    return spread.to(weight.dtype).contiguous(memory_format=torch.channels_last)


def version_of(weight: Tensor) -> tuple[Any, ...]:
    """Another one once it was loaded, moved or cast: what had been made of it is stale then."""
    changes = 0 if weight.is_inference() else weight._version
    return id(weight), weight.device, weight.dtype, changes


def activated(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return F.silu(norm(x), inplace=True)


class PreparedFirstStage:
    """`encode`, `indices`, `decode` and `decode_code` of a `VQModel`, without gradients.

    The model keeps its weights and can still be used; only their layout in memory changes.
    Making one costs nothing until it decodes.
    """

    def __init__(self, model: VQModel) -> None:
        self.model = model
        with torch.inference_mode(False):  # there, nothing could learn from them afterwards
            for part in (model.encoder, model.quant_conv, model.post_quant_conv, model.decoder):
                part.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        # Made when first needed, of a version of the weights
        self._spread: dict[nn.Module, tuple[tuple[Any, ...], Tensor]] = {}

    # --- what is asked of a first stage ---

    @torch.no_grad()
    def encode(self, x: Tensor, progress: Progress | None = None) -> Quantized:
        return self.model.quantize(self.features(x, progress))

    @torch.no_grad()
    def indices(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        return self.model.quantize.nearest(self.features(x, progress))

    @torch.no_grad()
    def features(self, x: Tensor, progress: Progress | None = None) -> Tensor:
        check_size(x, self.model.downsample_factor)
        x = x.contiguous(memory_format=torch.channels_last)
        if self.is_large(x.shape[-2] * x.shape[-1]):
            h = StripRunner(self, progress).encode(self.model.encoder, x)
        else:
            h = self.run_encoder(self.model.encoder, x)
        return self.model.quant_conv(h)  # (B, D, h, w)

    def decode_code(self, indices: Tensor, progress: Progress | None = None) -> Tensor:
        return self.decode(self.model.lookup(indices), progress)

    @torch.no_grad()
    def decode(self, z_q: Tensor, progress: Progress | None = None) -> Tensor:
        layer, decoder = self.model.post_quant_conv, self.model.decoder
        z_q = z_q.to(layer.weight.dtype).contiguous(memory_format=torch.channels_last)
        z = layer(z_q)  # (B, Z, h, w)
        if self.is_large(z.shape[-2] * z.shape[-1] * self.model.downsample_factor**2):
            return StripRunner(self, progress).decode(decoder, z)
        return self.run_decoder(decoder, z)

    def is_large(self, pixels: int) -> bool:
        """Whether one picture's widest features are more than should be held at once."""
        config, weight = self.model.config, self.model.post_quant_conv.weight
        widest = max(config.width(0) // config.stem**2, config.out_ch + config.refine)  # of a pixel
        return 3 * widest * pixels * weight.element_size() > WHOLE

    # --- the networks, whole ---

    def run_encoder(self, encoder: Encoder, x: Tensor) -> Tensor:
        if encoder.stem > 1:
            x = F.pixel_unshuffle(x, encoder.stem)
        h = encoder.conv_in(x)
        for level in encoder.down:
            assert isinstance(level, Level)
            h = self.run_blocks(level, h)
            if level.downsample is not None:
                h = level.downsample(h)
        return encoder.conv_out(activated(encoder.norm_out, self.run_middle(encoder.mid, h)))

    def run_decoder(self, decoder: Decoder, z: Tensor) -> Tensor:
        h = self.run_middle(decoder.mid, decoder.conv_in(z))
        for level in reversed(decoder.up):
            assert isinstance(level, Level)
            h = self.run_blocks(level, h)
            if level.upsample is not None:
                h = self.run_upsample(level.upsample, h)
        return decoder.paint(activated(decoder.norm_out, h))

    def run_middle(self, middle: Middle, h: Tensor) -> Tensor:
        return self.run_block(middle.block_2, middle.attn_1(self.run_block(middle.block_1, h)))

    def run_blocks(self, level: Level, h: Tensor) -> Tensor:
        for i, block in enumerate(level.block):
            assert isinstance(block, ResnetBlock)
            h = self.run_block(block, h)
            if len(level.attn) > 0:
                attention = level.attn[i]
                assert isinstance(attention, AttnBlock)
                h = attention(h)
        return h

    def run_block(self, block: ResnetBlock, x: Tensor) -> Tensor:
        h = block.conv1(activated(block.norm1, x))
        h = activated(block.norm2, h)  # bound again, so that no more than three are held
        h = block.conv2(h)
        return h.add_(x if block.shortcut is None else block.get_submodule(block.shortcut)(x))

    def run_upsample(self, layer: nn.Module, x: Tensor) -> Tensor:
        if not isinstance(layer, Upsample) or layer.conv is None:
            return layer(x)
        version = version_of(layer.conv.weight)
        if layer not in self._spread or self._spread[layer][0] != version:
            self._spread[layer] = version, spread_kernel(layer.conv.weight)
        return F.conv_transpose2d(x, self._spread[layer][1], layer.conv.bias, stride=2, padding=1)
