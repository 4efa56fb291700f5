"""What the codebook keeps: held-out pictures through a first stage and back, set by set.

PSNR is that of each picture (8 bits, all channels together), averaged over the pictures. Usage is
the share of the codebook that occurs in a set, perplexity the number of equally likely codes that
would be as varied. A first stage trained on small crops is judged on whole pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taming.cond_stage.sources import to_uint8
from taming.evaluation.measures import derangement
from taming.evaluation.networks import Eyes, batches, psnr_of, ssim_of
from taming.evaluation.reaches import PSNR, USAGE
from taming.evaluation.report import Row
from taming.first_stage.prepared import PreparedFirstStage
from taming.first_stage.quantize_base import perplexity, usage
from taming.first_stage.vqgan import VQModel

Progress = Callable[[int, int], None]


class Reconstructed(NamedTuple):
    pictures: list[Image.Image]
    counts: Tensor  # (V,): how often each code occurs


@torch.inference_mode()
def reconstruct(
    first_stage: VQModel, pictures: Sequence[Image.Image], progress: Progress | None = None
) -> Reconstructed:
    """Pictures of one size through the codebook and back."""
    weight = first_stage.post_quant_conv.weight
    prepared = PreparedFirstStage(first_stage)
    counts = torch.zeros(first_stage.codebook_size)
    found: list[Image.Image] = []
    for batch in batches(pictures):
        encoded = prepared.encode(batch.to(weight.device, weight.dtype))
        found += [Image.fromarray(each) for each in to_uint8(prepared.decode(encoded.z_q))]
        codes = encoded.info.indices.flatten().cpu()
        counts += torch.bincount(codes, minlength=first_stage.codebook_size)
        if progress is not None:
            progress(len(found), len(pictures))
    return Reconstructed(found, counts)


def measured(
    set_name: str,
    true: Sequence[Image.Image],
    reconstructed: Sequence[Image.Image],
    counts: Tensor,
    eyes: Eyes,
    seed: int = 0,
) -> list[Row]:
    """Shuffled: against another true picture, which is how far pictures of the set are apart."""
    shuffle = derangement(len(true), seed)
    others = [true[n] for n in shuffle]

    def row(measure: str, *values: float | None) -> Row:
        best, own, other = values
        return Row(set_name, "reconstruction", measure, best, own, None, other)

    def mean(of: Callable[[Tensor, Tensor], Tensor], pictures: Sequence[Image.Image]) -> float:
        pairs = zip(batches(pictures), batches(reconstructed), strict=True)
        return float(torch.cat([of(one, other) for one, other in pairs]).mean())

    apart, far = (float(np.mean(eyes.distances(each, reconstructed))) for each in (true, others))
    return [
        row(PSNR, None, mean(psnr_of, true), mean(psnr_of, others)),
        row("SSIM", 1.0, mean(ssim_of, true), mean(ssim_of, others)),
        row("perceptual distance", 0.0, apart, far),
        *code_rows(set_name, counts),
    ]


def code_rows(set_name: str, counts: Tensor) -> list[Row]:
    return [
        Row(set_name, "reconstruction", USAGE, reconstructed=float(usage(counts))),
        Row(set_name, "reconstruction", "perplexity", reconstructed=float(perplexity(counts))),
    ]
