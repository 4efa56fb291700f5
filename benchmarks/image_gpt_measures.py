"""What is measured of completed pictures, side by side, at one resolution.

Compared are always whole pictures with the true upper half and something else below: what a model
drew, the truth in Image-GPT's colours or through our codes (what each alphabet can say), or the
lower half of another picture (what has nothing to do with the upper one). All but the last meet the
upper half without an edge, as our pipeline sees to. Judge and perceptual distances
see pictures enlarged to one size by the same bilinear rule; the judge has learned from true
pictures alone, half of its batches shrunk by 1 to 4 times and enlarged by that rule.

- perceptual distance to the truth: the mean over the picture, doubled since half of it is equal
  (EfficientNet-Lite0, on which our first stage was trained; HED's VGG16, on which nobody was);
- kernel distance of lower halves to those of other held-out pictures, as collections;
- label agreement: the judge reads the picture, and what it reads below is held against the true
  label map. A completion may rightly be something else, and the last column says what luck gives.
  Contested are pixels where a third picture's map says otherwise than the true one;
- sharpness: mean steepness of brightness by that of the truth, and the same for the share of energy
  in fine detail, both of the lower halves' own pixels, so that 1 is as sharp as the truth;
- distance between two draws: how much a model varies.

Draws are measured one by one and averaged. Errors are standard errors over pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from taming.evaluation.completion import filled
from taming.evaluation.distribution import kernel_distance
from taming.evaluation.judge import Reader
from taming.evaluation.measures import derangement
from taming.evaluation.networks import NETWORK, Eyes, batches
from taming.evaluation.obedience import readings

TRUTH, OTHER = "truth", "another picture's"
BRIGHTNESS = (0.299, 0.587, 0.114)  # of red, green, blue: ITU-R BT.601
FINE = 0.25  # cycles a pixel, half of the highest there are: what is above is fine detail

Pictures = list[Image.Image]
Draws = list[Pictures]  # pictures of each draw


class Line(NamedTuple):
    """One measure of every column; what has no meaning is missing."""

    measure: str
    better: str  # "lower", "higher", "near 1", or "" where neither is
    values: dict[str, float]
    errors: dict[str, float]


@dataclass(frozen=True)
class Labels:
    """The judge, with the true label maps of the lower halves and those of other pictures."""

    judge: Reader
    targets: Tensor  # (N, H, W), VOID above
    others: Tensor


@dataclass(frozen=True)
class Networks:
    """Whatever looks at pictures; None where it is not installed or the set has no labels."""

    eyes: Eyes
    vgg: Any = None  # HEDLoss
    labels: Labels | None = None


# --- columns -------------------------------------------------------------------------------------


def columns_of(truth: Pictures, named: Mapping[str, Draws], seed: int = 0) -> dict[str, Draws]:
    """All columns, each with the true upper half; the first is the truth, the last another's."""
    height, width = np.asarray(truth[0]).shape[:2]
    above = np.zeros((height, width), bool)
    above[: height // 2] = True
    masks = [above] * len(truth)
    others = [truth[number] for number in derangement(len(truth), seed)]
    every = {TRUTH: [truth], **named, OTHER: [others]}
    return {
        name: [filled(truth, pictures, masks) for pictures in draws]
        for name, draws in every.items()
    }


def shrunk(pictures: Pictures, side: int) -> Pictures:
    """By area, to side x side; the pictures' own sides are multiples of it."""
    return [picture.reduce(picture.width // side) for picture in pictures]


def enlarged(pictures: Pictures, side: int, how: Image.Resampling) -> Pictures:
    return [picture.resize((side, side), how) for picture in pictures]


# --- all measures --------------------------------------------------------------------------------


def compared(
    columns: Mapping[str, Draws],  # as `columns_of` gives them
    reference: Pictures,  # other held-out pictures of the same resolution
    networks: Networks,
    side: int,  # at which networks see them
) -> list[Line]:
    """Every measure of every column."""
    seen = {
        name: [enlarged(pictures, side, Image.Resampling.BILINEAR) for pictures in draws]
        for name, draws in columns.items()
    }
    lines = [distances(f"perceptual distance, {NETWORK}", seen, networks.eyes.loss)]
    if networks.vgg is not None:
        lines.append(distances("perceptual distance, VGG16 of HED", seen, networks.vgg))
    lines.append(kernels(columns, reference, networks.eyes))
    if networks.labels is not None:
        lines += agreements(seen, networks.labels)
    lines += sharpness(columns)
    lines.append(variety(seen, networks.eyes.loss))
    return lines


def distances(measure: str, seen: Mapping[str, Draws], loss: Any) -> Line:
    """Of what lies below: the mean over a picture, half of which is equal, by that half."""
    truth = seen[TRUTH][0]
    each = {
        name: np.mean([2.0 * apart(loss, truth, pictures) for pictures in draws], axis=0)
        for name, draws in seen.items()
        if name != TRUTH
    }
    return averaged(measure, "lower", each)


def kernels(columns: Mapping[str, Draws], reference: Pictures, eyes: Eyes) -> Line:
    """Lower halves alone, stretched to what the network was trained on."""
    against = eyes.features(lower(reference))
    values = {
        name: float(np.mean([kernel_distance(against, eyes.features(lower(d))) for d in draws]))
        for name, draws in columns.items()
        if name != OTHER  # the same collection as the truth
    }
    return Line(f"kernel distance, {NETWORK}", "lower", values, {})


def agreements(seen: Mapping[str, Draws], labels: Labels) -> list[Line]:
    """What the judge reads below, held against the true label map there."""
    found: dict[str, dict[str, float]] = {}
    each: dict[str, NDArray[np.float64]] = {}
    for name, draws in seen.items():
        read = [readings(labels.judge, pictures) for pictures in draws]
        scores = [labels.judge.score(r, labels.targets, labels.others) for r in read]
        for measure in scores[0]:
            mean = float(np.mean([score[measure] for score in scores]))
            found.setdefault(measure, {})[name] = mean
        shares = [labels.judge.each(r, labels.targets).double().numpy() for r in read]
        each[name] = np.mean(shares, axis=0)
    lines = [averaged("label agreement, share of pixels", "higher", each)]
    for measure in ("mIoU", "contested accuracy"):
        lines.append(Line(f"label agreement, {measure}", "higher", found[measure], {}))
    return lines


def sharpness(columns: Mapping[str, Draws]) -> list[Line]:
    """Two measures of lower halves, each by what the truth has on average."""
    lines = []
    for measure, of in (("steepness", steepness), ("fine detail", fine_share)):
        means = {
            name: float(np.mean([of(brightness(picture)) for d in draws for picture in lower(d)]))
            for name, draws in columns.items()
            if name != OTHER
        }
        floor = max(means[TRUTH], 1e-12)
        values = {name: mean / floor for name, mean in means.items()}
        lines.append(Line(f"sharpness by the truth's, {measure}", "near 1", values, {}))
    return lines


def variety(seen: Mapping[str, Draws], loss: Any) -> Line:
    """Perceptual distance of the first two draws; for the truth, of two true lower halves."""
    pairs = {name: (draws[0], draws[1]) for name, draws in seen.items() if len(draws) > 1}
    pairs[TRUTH] = (seen[TRUTH][0], seen[OTHER][0])
    each = {name: 2.0 * apart(loss, *pair) for name, pair in pairs.items()}
    return averaged("distance between two draws (truth: two pictures)", "", each)


# --- single measures -----------------------------------------------------------------------------


@torch.inference_mode()
def apart(loss: Any, ones: Pictures, others: Pictures) -> NDArray[np.float64]:
    """The distance of each pair, (N,)."""
    pairs = zip(batches(ones), batches(others), strict=True)
    found = [loss(one, other).flatten().double() for one, other in pairs]
    return torch.cat(found).numpy()


def averaged(measure: str, better: str, each: Mapping[str, NDArray[np.float64]]) -> Line:
    values = {name: float(numbers.mean()) for name, numbers in each.items()}
    errors = {
        name: float(numbers.std(ddof=1) / len(numbers) ** 0.5) for name, numbers in each.items()
    }
    return Line(measure, better, values, errors)


def lower(pictures: Pictures) -> Pictures:
    """The lower halves alone."""
    return [p.crop((0, p.height // 2, p.width, p.height)) for p in pictures]


def brightness(picture: Image.Image) -> NDArray[np.float64]:
    """(H, W) in 0..255."""
    return np.asarray(picture, dtype=np.float64) @ np.array(BRIGHTNESS)


def steepness(values: NDArray[np.float64]) -> float:
    """Mean length of the gradient (H, W), from each pixel to the next ones right and down."""
    down, right = np.diff(values, axis=0)[:, :-1], np.diff(values, axis=1)[:-1]
    return float(np.hypot(down, right).mean())


def fine_share(values: NDArray[np.float64]) -> float:
    """Share of the energy of (H, W) without its mean that lies above `FINE` cycles a pixel.

    Edges are faded out (Hann), so that what a picture does not continue is no detail.
    """
    height, width = values.shape
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    centred = (values - np.average(values, weights=window)) * window
    energy = np.abs(np.fft.fft2(centred)) ** 2
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    total = float(energy.sum())
    return float(energy[frequency > FINE].sum()) / total if total > 0 else 0.0
