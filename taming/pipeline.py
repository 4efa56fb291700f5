"""Conditions in, pictures out: the object that users hold.

    model = taming.load("runs/rooms")
    pictures = model.paint(depth="depth.png", labels="labels.png", seeds=range(4), guidance=2.0)

One seed per picture: picture i depends on its own seed and never on its neighbours. Every picture
carries the settings and conditions that made it. Pictures larger than the model was trained on are
painted in windows. It knows nothing of training.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from taming.checkpoint import tensor_hash
from taming.cond_stage.holes import fill_hole, known_cells
from taming.cond_stage.known import Known
from taming.cond_stage.sources import as_image, to_float
from taming.first_stage.vqgan import VQModel
from taming.provenance import attach, describe_tensor, read_record, restore_tensor
from taming.sampling import UNKNOWN, Filters, Window, sample_windows, spread_orders
from taming.transformer.decoder import Branch, Decoder
from taming.transformer.multi_task import MultiTaskTransformer

Size = tuple[int, int]
Guidance = float | Mapping[str, float]
Progress = Callable[[int, int], None]  # done, in all

PICTURES_AT_ONCE = 16
STEPS = 32  # default number of sampling steps for a picture of the trained size


class Pipeline:
    """A trained model, ready to paint. Make one with `taming.load`."""

    def __init__(self, model: MultiTaskTransformer | VQModel, name: str = "") -> None:
        self.model = model.eval()
        self.name = name
        self._fingerprint: str | None = None

    @property
    def first_stage(self) -> VQModel:
        model = self.model
        return model if isinstance(model, VQModel) else model.first_stage_model

    @property
    def conditions(self) -> list[str]:
        """What this model can paint from."""
        return [] if isinstance(self.model, VQModel) else list(self.model.conditions)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, which a picture keeps to say what made it."""
        if self._fingerprint is None:
            self._fingerprint = tensor_hash(self.model.state_dict())
        return self._fingerprint

    # ---- tasks ----------------------------------------------------------------------------------

    def paint(
        self,
        *,
        size: Size | int | None = None,  # H x W; None: the trained size nearest to the input's
        seeds: int | Iterable[int] = 0,  # one picture for each
        steps: int | None = STEPS,  # for a picture of the trained size; None: one code at a time
        guidance: Guidance = 1.0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: Progress | None = None,
        **conditions: Any,
    ) -> list[Image.Image]:
        """Pictures that obey the conditions given: any subset of those the model knows.

        Conditions are what their `read` takes: paths, PIL images, arrays; `text` a sentence;
        `known` a pair (picture, mask), white = keep. ValueError names what does not fit.
        """
        values, shape = self._read(conditions, size)
        settings = _settings(shape, steps, guidance, temperature, top_k, top_p)
        return self._paint(settings, values, None, _as_seeds(seeds), progress)

    def paint_values(
        self,
        values: Mapping[str, Tensor],
        size: Size,
        *,
        seeds: int | Iterable[int] = 0,
        progress: Progress | None = None,
        **settings: Any,
    ) -> list[Image.Image]:
        """`paint` for conditions that were read before: one value of each, shared by all seeds."""
        return self._paint(_settings(size, **settings), values, None, _as_seeds(seeds), progress)

    def complete(
        self, image: Any, mask: Any, *, size: Size | None = None, **options: Any
    ) -> list[Image.Image]:
        """The picture with everything outside the mask (white = keep) painted anew.

        Kept pixels come back exactly. Options are those of `paint`. A size of None is that of the
        picture.
        """
        return self.paint(known=(image, mask), size=size or as_image(image).shape[:2], **options)

    def upscale(self, image: Any, factor: int = 4, **options: Any) -> list[Image.Image]:
        """The picture `factor` times as large. Options are those of `paint`."""
        pixels = as_image(image)
        size = (pixels.shape[0] * factor, pixels.shape[1] * factor)
        return self.paint(lowres=pixels, size=size, **options)

    def reconstruct(self, images: Any | Sequence[Any]) -> list[Image.Image]:
        """Pictures through the codebook and back: the limit of what this model can paint."""
        sources = images if isinstance(images, list | tuple) else [images]
        results = []
        for source in sources:
            pixels = self._for_first_stage(to_float(as_image(source)))
            with torch.inference_mode():
                decoded = self.first_stage.decode(self.first_stage.encode(pixels).z_q)
            results.append(Image.fromarray(_to_uint8(decoded)[0]))
        return results

    def vary(
        self,
        image: Any,
        share: float = 0.5,  # of the codes to paint anew, in (0, 1]
        *,
        seeds: int | Iterable[int] = 0,
        steps: int | None = STEPS,
        guidance: Guidance = 1.0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        progress: Progress | None = None,
        **conditions: Any,
    ) -> list[Image.Image]:
        """Variations: a share of the codes, spread over the picture, painted anew."""
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; give a number above 0 and up to 1")
        pixels = as_image(image)
        values, size = self._read(conditions, pixels.shape[:2])
        with torch.inference_mode():
            codes = self.first_stage.indices(self._for_first_stage(to_float(pixels)))[0]  # (h, w)
        settings = _settings(size, steps, guidance, temperature, top_k, top_p, share)
        return self._paint(settings, values, codes, _as_seeds(seeds), progress)

    def repaint(self, source: Any, **conditions: Any) -> Image.Image:
        """Paint a saved PNG again from what it says of itself; the same model gives the same bits.

        Conditions that were too large to be kept in the file are to be given again.
        """
        record = read_record(source)
        if record["model"] != self.fingerprint:
            raise ValueError(
                f'{source} was painted by the model {record["model"][:12]} ("{record["name"]}"), '
                f"this one is {self.fingerprint[:12]}; load that one"
            )
        settings = dict(record["settings"])
        given, _ = self._read(conditions, tuple(settings["size"]))
        values = {
            name: given[name] if name in given else restore_tensor(kept, name)
            for name, kept in record["conditions"].items()
        }
        for name, value in given.items():
            kept = record["conditions"].get(name, {})
            if describe_tensor(value)["sha256"] != kept.get("sha256"):
                raise ValueError(f"{name} is not the one that {source} was painted from")
        codes = restore_tensor(record["codes"], "codes") if record["codes"] else None
        return self._paint(settings, values, codes, [record["seed"]], None)[0]

    # ---- the one way to paint -------------------------------------------------------------------

    def _paint(
        self,
        settings: Mapping[str, Any],
        values: Mapping[str, Tensor],  # one value for each condition, shared by all seeds
        codes: Tensor | None,  # (h, w) of the picture that is varied
        seeds: list[int],
        progress: Progress | None,
    ) -> list[Image.Image]:
        model = self._second_stage()
        grid = model.grid(tuple(settings["size"]))
        filters = Filters(settings["temperature"], settings["top_k"], settings["top_p"])
        start = self._known_codes(values, grid)
        record = {
            "name": self.name,
            "model": self.fingerprint,
            "settings": settings,
            "conditions": {name: describe_tensor(value) for name, value in values.items()},
            "codes": None if codes is None else describe_tensor(codes),
        }
        window = self._window(grid)
        # Cells forgotten at random are not equally many in each window.
        at_once = PICTURES_AT_ONCE if codes is None or window == grid else 1
        pictures: list[Image.Image] = []
        for first in range(0, len(seeds), at_once):
            some = seeds[first : first + at_once]
            generators = [torch.Generator().manual_seed(seed) for seed in some]
            known = start.expand(len(some), -1, -1)
            if codes is not None:
                known = _forget(codes, settings["share"], generators)

            def report(done: int, places: int, first: int = first, count: int = len(some)) -> None:
                if progress is not None:
                    progress(first * places + done * count, len(seeds) * places)

            stacked = {
                name: value[None].expand(len(some), *value.shape).to(self.device)
                for name, value in values.items()
            }
            branches, scales = model.branches(stacked, len(some), grid, settings["guidance"])
            painted = sample_windows(
                lambda place, branches=branches, scales=scales: Decoder(
                    model.transformer, _crop(branches, place), scales
                ),
                known.to(self.device),
                window=window,
                stride=(max(1, window[0] // 2), max(1, window[1] // 2)),
                steps=settings["steps"],
                filters=filters,
                generators=generators,
                callback=report,
            )
            with torch.inference_mode():
                # One by one: a batch rounds its sums differently than a picture painted alone.
                decoded = [model.first_stage_model.decode_code(each[None]) for each in painted]
            pixels = _to_uint8(torch.cat(decoded))
            for seed, image in zip(some, self._keep_known(pixels, values), strict=True):
                pictures.append(attach(Image.fromarray(image), {**record, "seed": seed}))
        return pictures

    def _second_stage(self) -> MultiTaskTransformer:
        if isinstance(self.model, VQModel):
            raise ValueError(
                f"{self.name or 'this model'} is a first stage: it reconstructs, but does not "
                f"paint; load a second-stage run"
            )
        return self.model

    def _for_first_stage(self, image: Tensor) -> Tensor:
        """(3, H, W) -> (1, 3, H, W) where and as the first stage computes."""
        weight = self.first_stage.post_quant_conv.weight
        return image[None].to(weight.device, weight.dtype)

    def _read(
        self, conditions: Mapping[str, Any], size: Size | int | None
    ) -> tuple[dict[str, Tensor], Size]:
        """Values of the conditions, and the size H x W that they were read for."""
        model = self._second_stage()
        given = {name: source for name, source in conditions.items() if source is not None}
        strangers = sorted(set(given) - set(model.conditions))
        if strangers:
            raise ValueError(
                f"this model does not paint from {', '.join(strangers)}; it was trained with "
                f"{', '.join(model.conditions) or 'no conditions'}"
            )
        shape = self._fitting_size(given) if size is None else _as_size(size)
        model.grid(shape)  # refuses a size that is no multiple of the factor
        read = {name: model.conditions[name].read(source, shape) for name, source in given.items()}
        return read, shape

    def _fitting_size(self, given: Mapping[str, Any]) -> Size:
        """The shape of the first map given, at the scale trained on; a trained size if it is near.

        The short side is that of the trained size nearest in shape; a longer picture is painted
        in windows, so that nothing of the map is lost or squeezed.
        """
        model = self._second_stage()
        for name, source in given.items():
            blank = model.conditions[name].blank(model.sizes[0])
            shape = _shape_of(source) if blank.shape[-2:] == model.sizes[0] else None
            if shape is None:
                continue  # a sentence, a class, a list of joints: these have no shape
            height, width = shape
            near = min(model.sizes, key=lambda size: _stretch(size, (height, width)))
            if _stretch(near, (height, width)) < 0.1:
                return near
            scale = min(near) / min(height, width) / model.downsample_factor
            cells = [max(1, round(side * scale)) for side in (height, width)]
            return cells[0] * model.downsample_factor, cells[1] * model.downsample_factor
        return model.sizes[0]

    def _window(self, grid: Size) -> Size:
        """The grid to paint this one in: its own where it fits, else the nearest trained one."""
        grids = [self._second_stage().grid(size) for size in self._second_stage().sizes]
        inside = [each for each in grids if grid[0] <= each[0] and grid[1] <= each[1]]
        if inside:
            return grid
        return min(grids, key=lambda each: _stretch(each, grid))

    @torch.inference_mode()
    def _known_codes(self, values: Mapping[str, Tensor], grid: Size) -> Tensor:
        """Codes (1, h, w) of wholly kept cells of the half-finished picture, UNKNOWN elsewhere."""
        unknown = torch.full((1, *grid), UNKNOWN, device=self.device)
        if "known" not in values:
            return unknown
        value = values["known"].to(self.device)
        mask = Known.mask(value)
        filled = self._for_first_stage(fill_hole(value[:3], mask))
        encoded = self.first_stage.indices(filled)  # (1, h, w)
        return torch.where(known_cells(mask, self.first_stage.downsample_factor), encoded, unknown)

    def _keep_known(self, pixels: np.ndarray, values: Mapping[str, Tensor]) -> np.ndarray:
        """Kept pixels exactly as they were, in painted ones (B, H, W, 3)."""
        if "known" not in values:
            return pixels
        mask = Known.mask(values["known"]).cpu().numpy()[None, ..., None]
        return np.where(mask, _to_uint8(values["known"][None, :3]), pixels)


def _settings(
    size: Size,
    steps: int | None = STEPS,
    guidance: Guidance = 1.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    share: float | None = None,  # of the codes painted anew, where a picture is varied
) -> dict[str, Any]:
    """What decides a picture besides model, conditions and seed; plain enough for JSON."""
    numbers = {"steps": steps, "top_k": top_k}
    shares = {"temperature": temperature, "top_p": top_p, "share": share}
    return {
        "size": [int(side) for side in size],
        "guidance": _floats(guidance) if isinstance(guidance, Mapping) else float(guidance),
        **{name: None if value is None else int(value) for name, value in numbers.items()},
        **_floats(shares),
    }


def _floats(values: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: None if value is None else float(value) for name, value in values.items()}


def _stretch(one: Size, other: Size) -> float:
    """How far two shapes differ: |log| of the ratio of their aspects."""
    return abs(float(np.log(one[0] * other[1] / (one[1] * other[0]))))


def _shape_of(source: Any) -> Size | None:
    """Height and width of a map as people hand it in, None where there is no telling."""
    if isinstance(source, tuple | list) and len(source) == 2:
        source = source[0]  # of a picture and its mask
    try:
        if isinstance(source, str | os.PathLike) and os.fspath(source).endswith(".npy"):
            source = np.load(source, mmap_mode="r")
        # Values do not matter here: a depth in metres is no picture, but has a shape.
        shape = tuple(getattr(source, "shape", ())) or as_image(source).shape
    except (ValueError, TypeError, OSError):
        return None
    planes = len(shape) == 3 and shape[0] in (1, 3, 4) and shape[-1] not in (1, 3, 4)
    sides = shape[1:] if planes else shape[:2]
    return (int(sides[0]), int(sides[1])) if len(sides) == 2 and min(sides) > 0 else None


def _as_size(size: Size | int) -> Size:
    sides = [size, size] if isinstance(size, int | Integral) else list(size)
    if len(sides) != 2:
        raise ValueError(f"size is {size}; give height and width, or one number for both")
    return int(sides[0]), int(sides[1])


def _as_seeds(seeds: int | Iterable[int]) -> list[int]:
    listed = [seeds] if isinstance(seeds, int | Integral) else list(seeds)
    if not listed:
        raise ValueError("no seeds were given; each picture needs one")
    return [int(seed) for seed in listed]


def _crop(branches: Sequence[Branch], place: Window) -> list[Branch]:
    """Branches for one window; those that shared a prefix still do."""
    rows = slice(place.top, place.top + place.height)
    columns = slice(place.left, place.left + place.width)
    return [Branch(branch.control[:, :, rows, columns], branch.prefix) for branch in branches]


def _forget(codes: Tensor, share: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Codes (B, h, w) with a spread share of the cells UNKNOWN, other cells for each generator."""
    height, width = codes.shape
    count = max(1, round(share * codes.numel()))
    cells = spread_orders(height, width, generators, codes.device)[:, :count]
    known = codes.flatten().repeat(len(generators), 1).scatter(1, cells, UNKNOWN)
    return rearrange(known, "b (h w) -> b h w", h=height)


def _to_uint8(images: Tensor) -> np.ndarray:
    """float (B, 3, H, W) in [-1, 1] -> uint8 (B, H, W, 3)."""
    pixels = ((images.float() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return rearrange(pixels, "b c h w -> b h w c").cpu().numpy()
