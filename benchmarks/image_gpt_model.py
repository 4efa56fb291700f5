"""Image-GPT as `transformers` has it, and how it completes a picture.

A sequence is the start token, whose number follows those of the colours, then the pixels row by
row. Positions are as many as pixels: the last pixel is predicted and never fed. The head has one
output for each colour and none for the start token. `labels=` of the class would shift again, with
the start token counted as a pixel; the loss here is computed from the logits.

Its attention is written out in `transformers`, with all T x T weights in memory. `FusedAttention`
is the same function by PyTorch's fused kernel or, where that is slow, by the one that trains ours:
what costs it time here should be its design.

Drawing is the one loop of `taming.sampling`, with the model's own cache of keys and values behind
`next_logits`. It knows neither training nor data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling
from transformers.models.imagegpt.modeling_imagegpt import ImageGPTAttention

from benchmarks.image_gpt_colours import to_codes, to_pictures
from taming.evaluation.networks import batches
from taming.sampling import UNKNOWN, Filters, sample
from taming.transformer.training_attention import attention, pays

SIDE = 32  # pixels: the smallest published size, and the only one that an hour can pay for
PIXELS = SIDE * SIDE

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Shape:
    """How large it is. The published small one has width 512, 24 layers and 8 heads."""

    width: int = 192
    layers: int = 6
    heads: int = 6
    colours: int = 512

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of {self.heads} heads")


def build(shape: Shape, seed: int) -> ImageGPTForCausalImageModeling:
    """An untrained model."""
    config = ImageGPTConfig(
        vocab_size=shape.colours + 1,
        n_positions=PIXELS,
        n_embd=shape.width,
        n_layer=shape.layers,
        n_head=shape.heads,
        # An hour is about one pass over the data: nothing can be learned by heart.
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    torch.manual_seed(seed)
    model = ImageGPTForCausalImageModeling(config)
    blocks: Any = model.transformer.h
    for number, block in enumerate(blocks):
        block.attn = FusedAttention.of(block.attn, config, number)
    return model


class FusedAttention(ImageGPTAttention):
    """Equal to the published attention without dropout, for sequences without padding."""

    @classmethod
    def of(cls, plain: nn.Module, config: ImageGPTConfig, layer: int) -> FusedAttention:
        """With the weights of a plain one."""
        made = cls(config, layer_idx=layer)
        made.load_state_dict(plain.state_dict())
        return made

    def _attn(
        self, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """`attention_mask` is of padding, and there is none: it is not looked at."""
        asked, there = query.shape[-2], key.shape[-2]
        if asked == there and pays(query, key):
            return attention(query, key, value, causal=True), None
        if asked == there or asked == 1:
            return F.scaled_dot_product_attention(
                query, key, value, is_causal=asked == there and asked > 1
            ), None
        mask: Any = self.bias[0, 0, there - asked : there, :there]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask), None


def started(model: ImageGPTForCausalImageModeling, codes: Tensor) -> Tensor:
    """Codes (B, n) behind the start token: (B, n + 1)."""
    return F.pad(codes, (1, 0), value=model.config.vocab_size - 1)


def nats(model: ImageGPTForCausalImageModeling, codes: Tensor) -> Tensor:
    """Cross-entropy of each pixel (B, T) given those before it."""
    fed = started(model, codes[:, :-1])  # (B, T)
    logits = model(input_ids=fed, use_cache=False).logits  # (B, T, colours)
    return F.cross_entropy(logits.transpose(1, 2).float(), codes, reduction="none")


class Continued:
    """`next_logits` of `taming.sampling`, in raster order, one pixel at a time; used once."""

    def __init__(self, model: ImageGPTForCausalImageModeling) -> None:
        self.model = model
        self.past: Any = None

    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        assert targets.shape[1] == 1, "Image-GPT draws one pixel at a time"
        fed = started(self.model, codes) if self.past is None else codes
        found: Any = self.model(input_ids=fed, past_key_values=self.past, use_cache=True)
        self.past = found.past_key_values
        return found.logits[:, -1:]  # (B, 1, colours)


@torch.inference_mode()
def complete(
    model: ImageGPTForCausalImageModeling,
    colours: Tensor,  # (colours, 3)
    pictures: Sequence[Image.Image],  # of SIDE x SIDE, whose lower halves are not looked at
    seeds: Sequence[int],  # one for each
    filters: Filters,
    progress: Progress = lambda done, total: None,
) -> list[Image.Image]:
    """The pictures with their lower halves drawn; the upper ones in the model's colours."""
    if len(seeds) != len(pictures):
        raise ValueError(f"{len(pictures)} pictures with {len(seeds)} seeds; give each its own")
    drawn: list[Image.Image] = []
    unknown = PIXELS // 2
    for images in batches(pictures):
        count = len(images)
        known = to_codes(images, colours)
        known[:, PIXELS - unknown :] = UNKNOWN
        first = len(drawn)

        def told(step: int, codes: Tensor, first: int = first, count: int = count) -> None:
            progress(first * unknown + (step + 1) * count, len(pictures) * unknown)

        codes = sample(
            Continued(model),
            known,
            torch.arange(PIXELS).expand(count, -1),
            [1] * unknown,
            filters,
            [torch.Generator().manual_seed(seed) for seed in seeds[first : first + count]],
            told,
        )
        drawn += to_pictures(codes, colours, SIDE)
    return drawn
