"""What every pipeline does, whatever its second stage: seeds, batches, records, kept pixels.

A `Painter` turns codes into pictures that carry what made them and can be painted again from it. A
subclass says how conditions are read and how codes are drawn. One seed per picture: picture i
depends on its own seed and not on its neighbours, to the last bit in float32 on one machine; bf16
may round otherwise in a batch. It knows no second stage and no sampling rule.
"""

from __future__ import annotations

import logging
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from taming.checkpoint import tensor_hash
from taming.cond_stage.holes import fill_hole, known_cells, meet_rim
from taming.cond_stage.known import Known, has_hole, is_pair, upper_half
from taming.cond_stage.sizes import Size
from taming.cond_stage.sources import as_image, is_path, to_float, to_uint8, whole
from taming.data.pictures import DECODING_ERRORS, upright_size
from taming.first_stage.prepared import PreparedFirstStage
from taming.first_stage.vqgan import VQModel
from taming.provenance import (
    attach,
    check_record,
    describe_tensor,
    read_record,
    restore_tensor,
)
from taming.sampling import UNKNOWN
from taming.transformer.prepared import shares_scales, version_of_all

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]  # done, in all

PICTURES_AT_ONCE = 16
RIM_CELLS = 2.0  # how far behind the rim of a hole its colours are moved towards what was kept
SPELT_HERE = {  # keywords that people know from elsewhere
    "generator": "generator is seeds here, numbers",
    "guidance_scale": "guidance_scale is guidance here",
    "height": "height is size=(height, width) here",
    "mask": "mask goes with its picture, known=(picture, mask)",
    "negative_prompt": "negative_prompt has no counterpart here",
    "num_images_per_prompt": "num_images_per_prompt is seeds here, one for each picture",
    "num_inference_steps": "num_inference_steps is steps here",
    "prompt": "prompt is text here",
    "width": "width is size=(height, width) here",
}


class Painter(ABC):
    """A trained model, ready to paint. Make one with `taming.load`."""

    def __init__(
        self,
        model: nn.Module,
        first_stage: VQModel,
        name: str = "",
        precision: str | None = None,  # that it was loaded in, where it was
    ) -> None:
        self.model = model.eval()
        self.first_stage = first_stage
        self.name = name
        self.precision = precision
        self._fingerprint: tuple[list[Any], str] | None = None  # of a version of the weights

    @property
    @abstractmethod
    def conditions(self) -> list[str]:
        """What this model can paint from."""

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def prepared(self) -> PreparedFirstStage:
        """The first stage as pictures are made with it; made at first use."""
        return PreparedFirstStage(self.first_stage)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, which a picture keeps to say what made it."""
        version = version_of_all(self.model)
        if self._fingerprint is None or self._fingerprint[0] != version:
            self._fingerprint = version, tensor_hash(self.model.state_dict())
        return self._fingerprint[1]

    @abstractmethod
    def paint(self, **options: Any) -> list[Image.Image]:
        """Pictures that obey the conditions given, one for each seed."""

    def complete(
        self, image: Any, mask: Any = None, *, size: Size | None = None, **options: Any
    ) -> list[Image.Image]:
        """The picture with everything outside the mask (white = keep) painted anew.

        Without a mask, what is transparent is painted anew; of a picture without such a hole the
        upper half is kept. Kept pixels come back exactly. Options are those of `paint`. A size of
        None is that of the picture.
        """
        _refuse(options, "known", "the picture and its mask are what is known")
        known = _with_mask(image) if mask is None else (image, mask)
        shape = as_image(image).shape[:2] if size is None else size
        return self.paint(known=known, size=shape, **options)

    def upscale(self, image: Any, factor: int = 4, **options: Any) -> list[Image.Image]:
        """The picture `factor` times as large, whatever its size. Options are those of `paint`."""
        for name in ("lowres", "size"):
            _refuse(options, name, "the picture and the factor decide it")
        factor = whole("factor", factor)
        if factor < 1:
            raise ValueError(f"factor is {factor}; give how many times larger, such as 2")
        pixels = as_image(image)
        height, width = pixels.shape[:2]
        small = self._for_enlargement(pixels, factor)
        size = (small.shape[0] * factor, small.shape[1] * factor)
        painted = self.paint(lowres=small, size=size, **options)
        return [cropped(picture, (height * factor, width * factor)) for picture in painted]

    def reconstruct(self, images: Any | Sequence[Any]) -> list[Image.Image]:
        """Pictures through the codebook and back: the limit of what this model can paint.

        They may be of any size.
        """
        if (planes := self.first_stage.config.in_channels) != 3:
            raise ValueError(f"{self.name} encodes maps of {planes} planes, and no pictures")
        sources = images if isinstance(images, list | tuple) else [images]
        results = []
        for source in sources:
            image = as_image(source)
            height, width = image.shape[:2]
            whole = padded(image, self.first_stage.downsample_factor)
            pixels = self._for_first_stage(to_float(whole))
            with torch.inference_mode():
                decoded = self.prepared.decode(self.prepared.encode(pixels).z_q)
            results.append(Image.fromarray(to_uint8(decoded[..., :height, :width])[0]))
        return results

    def repaint(self, source: Any, **conditions: Any) -> Image.Image:
        """Paint a saved PNG again from what it says of itself.

        The same model gives the same bits in float32 on one machine; bf16, and a device of another
        type, may round otherwise. Conditions too large to be kept in it are to be given again.
        """
        record = read_record(source)
        check_record(record, source)
        theirs, ours = record.get("precision"), self.precision
        if record["name"] == self.name and theirs and ours and theirs != ours:
            raise ValueError(
                f"{source} was painted in {theirs}, this model was loaded in {ours}; "
                + ("leave precision out" if theirs == "float32" else f"load it in {theirs}")
            )
        if record["model"] != self.fingerprint:
            raise ValueError(
                f'{source} was painted by the model {record["model"][:12]} ("{record["name"]}"), '
                f"this one is {self.fingerprint[:12]}; load that one"
            )
        if record.get("device", self.device.type) != self.device.type:
            logger.warning(
                "%s was painted on %s, this model is on %s, where numbers are rounded otherwise",
                source, record["device"], self.device.type,
            )  # fmt: skip
        settings = dict(record["settings"])
        given, _ = self._read(self._as_painted(conditions, record), tuple(settings["size"]))
        values = {
            name: given[name] if name in given else restore_tensor(kept, name)
            for name, kept in record["conditions"].items()
        }
        for name, value in given.items():
            kept = record["conditions"].get(name, {})
            if describe_tensor(value)["sha256"] != kept.get("sha256"):
                raise ValueError(f"{name} is not the one that {source} was painted from")
        codes = restore_tensor(record["codes"], "codes") if record["codes"] else None
        picture = self._paint(settings, values, codes, [record["seed"]], None)[0]
        return cropped(picture, record["crop"]) if "crop" in record else picture

    def _as_painted(
        self, conditions: Mapping[str, Any], record: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Conditions given again, as `complete` and `upscale` hand them to `paint`."""
        given = {name: source for name, source in conditions.items() if source is not None}
        known = given.get("known")
        is_value = isinstance(known, Tensor) and len(known) == 4
        if known is not None and not is_value and not is_pair(known):
            given["known"] = _with_mask(known)
        if "lowres" in given and "crop" in record:
            small = as_image(given["lowres"])
            factor = max(1, round(record["crop"][0] / small.shape[0]))
            given["lowres"] = self._for_enlargement(small, factor)
        return given

    def _for_enlargement(self, small: np.ndarray, factor: int) -> np.ndarray:
        """A picture (H, W, 3), padded so that it becomes whole cells `factor` times as large."""
        cell = self.first_stage.downsample_factor
        return padded(small, cell // math.gcd(cell, factor))

    # ---- what a subclass says -------------------------------------------------------------------

    @abstractmethod
    def grid(self, size: Size) -> Size:
        """The latent grid of a picture; ValueError if it cannot be of this size."""

    @abstractmethod
    def _read(
        self, conditions: Mapping[str, Any], size: Size | int | None
    ) -> tuple[dict[str, Tensor], Size]:
        """Values of the conditions, and the size H x W that they were read for."""

    @abstractmethod
    def _draw(
        self,
        settings: Mapping[str, Any],
        values: Mapping[str, Tensor],  # one value for each condition, shared by all seeds
        codes: Tensor | None,  # (h, w) of the picture that is varied
        generators: Sequence[torch.Generator],  # one for each picture
        report: Progress,
    ) -> Tensor:
        """Codes (B, h, w), one picture for each generator."""

    def _at_once(self, codes: Tensor | None, grid: Size) -> int:
        """How many pictures are drawn in one batch; none may depend on what its neighbours are."""
        return 1 if shares_scales(self.model) else PICTURES_AT_ONCE

    # ---- the one way to paint -------------------------------------------------------------------

    def _paint(
        self,
        settings: Mapping[str, Any],
        values: Mapping[str, Tensor],  # one value for each condition, shared by all seeds
        codes: Tensor | None,  # (h, w) of the picture that is varied
        seeds: list[int],
        progress: Progress | None,
    ) -> list[Image.Image]:
        at_once = self._at_once(codes, self.grid(tuple(settings["size"])))
        pictures: list[Image.Image] = []
        for first in range(0, len(seeds), at_once):
            some = seeds[first : first + at_once]
            generators = [torch.Generator().manual_seed(seed) for seed in some]

            def report(done: int, places: int, first: int = first, count: int = len(some)) -> None:
                if progress is not None:
                    progress(first * places + done * count, len(seeds) * places)

            painted = self._draw(settings, values, codes, generators, report)  # (B, h, w)
            pictures += self._pictures(painted, settings, [values] * len(some), some, codes)
        return pictures

    def _pictures(
        self,
        painted: Tensor,  # codes (B, h, w)
        settings: Mapping[str, Any],
        values: Sequence[Mapping[str, Tensor]],  # of each picture; often one object B times
        seeds: Sequence[int],
        codes: Tensor | None = None,  # of the picture that was varied
    ) -> list[Image.Image]:
        """Codes as pictures, with what is kept pixel for pixel and with what made them."""
        pictures: list[Image.Image] = []
        told: dict[int, dict[str, Any]] = {}  # descriptions, once for values that are shared
        for number, (seed, own) in enumerate(zip(seeds, values, strict=True)):
            with torch.inference_mode():
                # One by one: a batch rounds its sums differently than a picture painted alone.
                decoded = self.prepared.decode_code(painted[number][None])
                pixels = to_uint8(self._settled(decoded.float(), own))
            image = Image.fromarray(pixels[0])
            if id(own) not in told:
                told[id(own)] = {name: describe_tensor(value) for name, value in own.items()}
            record = {
                "name": self.name,
                "model": self.fingerprint,
                "settings": settings,
                "conditions": told[id(own)],
                "codes": None if codes is None else describe_tensor(codes),
                "seed": seed,
                "device": self.device.type,
            }
            if self.precision is not None:
                record["precision"] = self.precision
            pictures.append(attach(image, record))
        return pictures

    def _for_first_stage(self, image: Tensor) -> Tensor:
        """(3, H, W) -> (1, 3, H, W) where and as the first stage computes."""
        weight = self.first_stage.post_quant_conv.weight
        return image[None].to(weight.device, weight.dtype)

    @torch.inference_mode()
    def _known_codes(self, values: Mapping[str, Tensor], grid: Size) -> Tensor:
        """Codes (1, h, w) of wholly kept cells of the half-finished picture, UNKNOWN elsewhere."""
        unknown = torch.full((1, *grid), UNKNOWN, device=self.device)
        if "known" not in values:
            return unknown
        value = values["known"].to(self.device)
        mask = Known.mask(value)
        filled = self._for_first_stage(fill_hole(value[:3], mask))
        encoded = self.prepared.indices(filled)  # (1, h, w)
        return torch.where(known_cells(mask, self.first_stage.downsample_factor), encoded, unknown)

    def _settled(self, images: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """Painted images (B, 3, H, W) with what conditions say of them for certain."""
        if "known" not in values:
            return images
        known = values["known"]
        met = meet_rim(images, known[:3], Known.mask(known), reach_of(self.first_stage))
        return met.clamp(-1.0, 1.0)


def reach_of(first_stage: VQModel) -> float:
    """How far behind the rim of a hole its colours are moved, in pixels."""
    return RIM_CELLS * first_stage.downsample_factor


def _refuse(options: Mapping[str, Any], name: str, reason: str) -> None:
    if name in options:
        raise ValueError(f"{name}: {reason}; leave it out")


def _with_mask(image: Any) -> Any:
    """A picture as `known` without a mask: its own transparency, else with its upper half kept."""
    return image if has_hole(image) else (image, upper_half(image))


def padded(pixels: np.ndarray, multiple: int) -> np.ndarray:
    """A picture (H, W, 3) whose last pixels are repeated until its sides are multiples of this."""
    below, beside = (-side % multiple for side in pixels.shape[:2])
    return np.pad(pixels, ((0, below), (0, beside), (0, 0)), mode="edge")


def cropped(picture: Image.Image, size: Sequence[int]) -> Image.Image:
    """The upper left of a painted picture, H x W, of which its record tells."""
    height, width = size
    if picture.size == (width, height):
        return picture
    record = read_record(picture) | {"crop": [height, width]}
    return attach(picture.crop((0, 0, width, height)), record)


def floats(values: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: None if value is None else float(value) for name, value in values.items()}


def shape_of(source: Any) -> Size | None:
    """Height and width of a map as people hand it in, None where there is no telling."""
    whole: Any = source[0] if is_pair(source) else source  # of a picture and its mask
    try:
        if is_path(whole) and Path(whole).suffix.lower() == ".npy":
            whole = np.load(whole, mmap_mode="r")
        # Values do not matter here: a depth in metres is no picture, but has a shape.
        if is_path(whole) or isinstance(whole, Image.Image):
            shape = upright_size(whole)
        else:
            shape = np.shape(whole)
    except DECODING_ERRORS:
        return None
    planes = len(shape) == 3 and shape[0] in (1, 3, 4) and shape[-1] not in (1, 3, 4)
    sides = shape[1:] if planes else shape[:2]
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 and min(sides) > 0 else None


def as_size(size: Size | int) -> Size:
    sides = list(size) if isinstance(size, Iterable) else [size, size]
    if len(sides) != 2:
        raise ValueError(f"size is {size}; give height and width, or one number for both")
    return whole("size", sides[0]), whole("size", sides[1])


def as_seeds(seeds: int | Iterable[int]) -> list[int]:
    try:
        listed = [seeds] if isinstance(seeds, int | Integral) else seeds
        numbers = [operator.index(seed) for seed in listed]
    except TypeError:
        raise ValueError(
            f"seeds is {seeds!r}; give a whole number, or several, one for each picture"
        ) from None
    if not numbers:
        raise ValueError("no seeds were given; each picture needs one")
    for seed in numbers:
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"seed {seed} does not fit 64 bits; give a smaller number")
    return numbers


def spelt_otherwise(names: Iterable[str]) -> str:
    """What keywords from elsewhere are called here; nothing for other names."""
    return "".join(f"; {SPELT_HERE[name]}" for name in names if name in SPELT_HERE)
