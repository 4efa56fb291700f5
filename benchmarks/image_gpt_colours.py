"""The alphabet of Image-GPT: colours found by k-means, pictures as sequences of their numbers.

Pixels are colours (R, G, B) in [-1, 1]; a picture is the numbers of its nearest colours, row by
row. It knows no network and no data set.

Sources: Chen et al. 2020, "Generative Pretraining from Pixels", section 3: k-means of the training
set's pixels with k = 512, pictures of 32x32 pixels in raster order; Lloyd 1982 for the rounds.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from taming.cond_stage.sources import to_uint8

ROUNDS = 20  # of k-means
AT_ONCE = 16_384  # pixels compared with all colours

Progress = Callable[[int, int], None]


def find_colours(
    pixels: Tensor,  # (N, 3)
    count: int,
    generator: torch.Generator,
    rounds: int = ROUNDS,
    progress: Progress = lambda done, total: None,
) -> Tensor:
    """(count, 3): the means of k-means, beginning at pixels drawn at random.

    A colour that no pixel is nearest to begins anew at the pixel that is farthest from its own.
    """
    if len(pixels) < count:
        raise ValueError(f"{len(pixels)} pixels cannot have {count} colours; give fewer colours")
    colours = pixels[torch.randperm(len(pixels), generator=generator)[:count]].clone()
    for done in range(1, rounds + 1):
        chosen = nearest(pixels, colours)  # (N,)
        population = torch.bincount(chosen, minlength=count)
        sums = torch.zeros_like(colours).index_add_(0, chosen, pixels)
        means = sums / population.clamp(min=1)[:, None]
        idle = (population == 0).nonzero()[:, 0]
        if len(idle):
            apart = (pixels - means[chosen]).square().sum(dim=1)
            means[idle] = pixels[apart.topk(len(idle)).indices]
        colours = means
        progress(done, rounds)
    return colours


def nearest(pixels: Tensor, colours: Tensor) -> Tensor:
    """Numbers (N,) of the colours (K, 3) nearest to pixels (N, 3); the first where two are."""
    lengths = colours.square().sum(dim=1)
    # |p - c|^2 without |p|^2, which is the same for all colours
    parts = [
        torch.addmm(lengths, some, colours.T, alpha=-2.0).argmin(dim=1)
        for some in pixels.split(AT_ONCE)
    ]
    return torch.cat(parts)


def to_codes(images: Tensor, colours: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in [-1, 1] -> numbers of colours (B, H*W), row by row."""
    pixels = rearrange(images, "b c h w -> (b h w) c")
    return nearest(pixels, colours).view(len(images), -1)


def to_pictures(codes: Tensor, colours: Tensor, height: int) -> list[Image.Image]:
    """Numbers of colours (B, H*W) -> pictures of this height."""
    images = rearrange(colours[codes], "b (h w) c -> b c h w", h=height)
    return [Image.fromarray(pixels) for pixels in to_uint8(images)]
