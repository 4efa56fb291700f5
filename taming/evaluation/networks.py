"""Pictures as a network sees them, and as eyes do: features, perceptual distance, similarity.

The network is EfficientNet-Lite0, trained on ImageNet (Tan & Le, arXiv 1905.11946), which comes as
a package (extra `eval`), so that numbers need no download. They are not those of Inception or of
LPIPS, and are named after their network. A first stage that was trained with `EfficientNetLoss`
has seen the perceptual distance in training: compare it with others of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from taming.data.transforms import to_image
from taming.first_stage.perceptual import EfficientNetLoss, open_efficientnet

NETWORK = "EfficientNet-Lite0"
SIDE = 224  # pixels: what the network was trained on
AT_ONCE = 16  # pictures

Progress = Callable[[int, int], None]


class Unavailable(Exception):
    """A measure that cannot be had here; the message says why, and what would help."""


class Eyes:
    """The network with its two uses. Pictures of one call have one size."""

    def __init__(self) -> None:
        self.network = open_efficientnet().to(memory_format=torch.channels_last)
        self.loss = EfficientNetLoss()

    @torch.inference_mode()
    def features(self, pictures: Sequence[Image.Image], progress: Progress | None = None) -> Tensor:
        """(N, 1280): the means over the picture of what stands before the classes."""
        found = []
        for batch in batches(pictures):
            wide = F.interpolate(batch, (SIDE, SIDE), mode="bicubic", antialias=True)
            wide = wide.clamp(-1.0, 1.0).contiguous(memory_format=torch.channels_last)
            found.append(self.network.extract_features(wide).mean(dim=(2, 3)))
            if progress is not None:
                progress(min(AT_ONCE * len(found), len(pictures)), len(pictures))
        return torch.cat(found)

    @torch.inference_mode()
    def distances(self, ones: Sequence[Image.Image], others: Sequence[Image.Image]) -> list[float]:
        """The perceptual distance of each pair."""
        pairs = zip(batches(ones), batches(others), strict=True)
        return [float(x) for one, other in pairs for x in self.loss(one, other).flatten()]


def batches(pictures: Sequence[Image.Image]) -> Iterator[Tensor]:
    """Tensors (B, 3, H, W) in [-1, 1]."""
    for first in range(0, len(pictures), AT_ONCE):
        some = pictures[first : first + AT_ONCE]
        yield torch.stack([to_image(np.asarray(picture.convert("RGB"))) for picture in some])


def psnr_of(images: Tensor, others: Tensor) -> Tensor:
    """Decibels between pictures (B, 3, H, W) in [-1, 1], as they would be saved; at most 88."""
    one, other = (((x.float() + 1.0) * 127.5).round().clamp(0, 255) for x in (images, others))
    error = (one - other).square().mean(dim=(1, 2, 3))
    return 10.0 * torch.log10(255.0**2 / error.clamp(min=1e-4))


def ssim_of(images: Tensor, others: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of pictures (B, 3, H, W) in [-1, 1], in (B,)."""
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure as ssim
    except ImportError as error:
        raise ImportError('SSIM needs torchmetrics: pip install "taming[eval]"') from error
    # At 11x11 windows and a Gaussian of 1.5 pixels, as published; small pictures have no more room.
    small = min(images.shape[-2:]) < 16
    values = ssim(
        (images.float() * 0.5 + 0.5).clamp(0.0, 1.0),  # it asks for brightness, which has no sign
        (others.float() * 0.5 + 0.5).clamp(0.0, 1.0),
        gaussian_kernel=not small,
        kernel_size=3 if small else 11,
        reduction="none",
        data_range=1.0,
    )
    assert isinstance(values, Tensor)
    return values.reshape(-1)


def open_inception() -> Any:
    """FID as published, by torchmetrics; Unavailable where its weights are not to be had."""
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        return FrechetInceptionDistance(feature=2048, normalize=True)
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise Unavailable(
            f"FID on Inception is left out: it needs torch-fidelity and its weights ({reason})"
        ) from error


def inception_distance(
    metric: Any,  # as `open_inception` gives it
    true: Sequence[Image.Image],
    others: Sequence[Image.Image],
) -> float:
    metric.reset()
    for is_true, pictures in ((True, true), (False, others)):
        for batch in batches(pictures):
            metric.update(batch * 0.5 + 0.5, real=is_true)
    return float(metric.compute())
