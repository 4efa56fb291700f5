"""Conditions in, pictures out: the object that users hold.

    model = taming.load("runs/rooms")
    pictures = model.paint(depth="depth.png", labels="labels.png", seeds=range(4), guidance=2.0)

One seed per picture: picture i depends on its own seed and not on its neighbours, to the last bit
in float32 on one machine; bf16 may round otherwise in a batch. Every picture carries the settings
and conditions that made it. Pictures larger than the model was trained on are painted in windows.
It knows nothing of training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

from taming.cond_stage.base import Part
from taming.cond_stage.sizes import fitting_window, stretch
from taming.cond_stage.sources import as_image, resize, to_float, whole
from taming.first_stage.vqgan import VQModel
from taming.painting import (
    Painter,
    Progress,
    Size,
    as_seeds,
    as_size,
    floats,
    shape_of,
    spelt_otherwise,
)
from taming.sampling import UNKNOWN, Filters, Window, sample_windows, spread_orders
from taming.transformer.decoder import Branch, Decoder, Guides
from taming.transformer.multi_task import MultiTaskTransformer

Guidance = float | Mapping[str, float]

STEPS = 32  # default number of sampling steps for a picture of the trained size


class Pipeline(Painter):
    """A first stage, or one with a second stage that paints in any order."""

    model: MultiTaskTransformer | VQModel

    def __init__(
        self,
        model: MultiTaskTransformer | VQModel,
        name: str = "",
        precision: str | None = None,  # that it was loaded in, where it was
    ) -> None:
        first_stage = model if isinstance(model, VQModel) else model.first_stage_model
        super().__init__(model, first_stage, name, precision)

    @property
    def conditions(self) -> list[str]:
        """What this model can paint from."""
        return [] if isinstance(self.model, VQModel) else list(self.model.conditions)

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
        return self._paint(settings, values, None, as_seeds(seeds), progress)

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
        return self._paint(_settings(size, **settings), values, None, as_seeds(seeds), progress)

    def paint_each(
        self,
        records: Sequence[Mapping[str, Tensor]],  # values of the same conditions in each
        size: Size,
        *,
        seeds: Sequence[int],  # one for each record
        progress: Progress | None = None,  # records done, in all
        **settings: Any,
    ) -> list[Image.Image]:
        """`paint_values` for many records, one picture of each, several at a time."""
        if len(seeds) != len(records):
            raise ValueError(f"{len(records)} records with {len(seeds)} seeds; give each its own")
        decided, grid = _settings(size, **settings), self.grid(size)
        known = [self._known_codes(values, grid) for values in records]  # each (1, h, w)
        kept = [codes != UNKNOWN for codes in known]
        pictures: list[Image.Image] = []
        while (first := len(pictures)) < len(records):
            # Pictures drawn together know the same cells, also in each window.
            ends = (n for n in range(first, len(records)) if not kept[n].equal(kept[first]))
            last = min(next(ends, len(records)), first + self._at_once(None, grid))
            some = records[first:last]
            painted = self._draw_stacked(
                decided,
                {name: torch.stack([values[name] for values in some]) for name in some[0]},
                torch.cat(known[first:last]),
                [torch.Generator().manual_seed(seed) for seed in seeds[first:last]],
                lambda done, places: None,
            )
            pictures += self._pictures(painted, decided, some, seeds[first:last])
            if progress is not None:
                progress(len(pictures), len(records))
        return pictures

    def vary(
        self,
        image: Any,
        share: float = 0.5,  # of the codes to paint anew, in (0, 1]
        *,
        size: Size | int | None = None,  # H x W; None: that of the picture
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
        if conditions.get("known") is not None:
            raise ValueError("known: a variation keeps no part of its picture; call complete")
        pixels = to_float(as_image(image))
        own = (int(pixels.shape[-2]), int(pixels.shape[-1]))
        values, shape = self._read(conditions, own if size is None else size)
        codes = self.prepared.indices(self._for_first_stage(resize(pixels, shape)))[0]  # (h, w)
        settings = _settings(shape, steps, guidance, temperature, top_k, top_p, share)
        return self._paint(settings, values, codes, as_seeds(seeds), progress)

    # ---- conditions to codes --------------------------------------------------------------------

    def grid(self, size: Size) -> Size:
        return self._second_stage().grid(size)

    def _second_stage(self) -> MultiTaskTransformer:
        if isinstance(self.model, VQModel):
            raise ValueError(
                f"{self.name or 'this model'} is a first stage: it reconstructs, but does not "
                f"paint; load a second-stage run"
            )
        return self.model

    def _read(
        self, conditions: Mapping[str, Any], size: Size | int | None
    ) -> tuple[dict[str, Tensor], Size]:
        model = self._second_stage()
        given = {name: source for name, source in conditions.items() if source is not None}
        strangers = sorted(set(given) - set(model.conditions))
        if "window" in strangers:
            raise ValueError(
                "window is a setting of published second stages; this one has one way to paint "
                "large pictures, leave it out"
            )
        if strangers:
            raise ValueError(
                f"this model does not paint from {', '.join(strangers)}; it was trained with "
                f"{', '.join(model.conditions) or 'no conditions'}{spelt_otherwise(strangers)}"
            )
        shape = self._fitting_size(given) if size is None else as_size(size)
        self.grid(shape)  # refuses a size that is no multiple of the factor
        read = {name: model.conditions[name].read(source, shape) for name, source in given.items()}
        return read, shape

    def _fitting_size(self, given: Mapping[str, Any]) -> Size:
        """The shape of the first map of the model's, at the scale trained on; else a trained size.

        A map is also what tells the size of its picture, as a file of joints does. ValueError where
        another differs from it in shape by more than a cell of that size.
        """
        model = self._second_stage()
        shapes: dict[str, Size] = {}
        for name in [name for name in model.conditions if name in given]:
            condition, source = model.conditions[name], given[name]
            is_map = condition.blank(model.sizes[0]).shape[-2:] == model.sizes[0]
            shape = shape_of(source) if is_map else condition.source_shape(source)
            if shape is not None:  # a sentence, a class, an array of joints: these have none
                shapes[name] = shape
        if not shapes:
            return model.sizes[0]
        first, *others = shapes
        fitting = model.conditions[first].fitting_size
        size = fitting(shapes[first], model.sizes, model.downsample_factor)
        for name in others:
            away = stretch(shapes[name], shapes[first])
            if away > math.log1p(model.downsample_factor / max(size)):
                (height, width), (its_height, its_width) = shapes[first], shapes[name]
                raise ValueError(
                    f"{first} is {height}x{width}, {name} {its_height}x{its_width}, of another "
                    f"shape; give size, to which both are stretched, or crop one of them"
                )
        return size

    def _draw(
        self,
        settings: Mapping[str, Any],
        values: Mapping[str, Tensor],
        codes: Tensor | None,
        generators: Sequence[torch.Generator],
        report: Progress,
    ) -> Tensor:
        count = len(generators)
        known = self._known_codes(values, self.grid(tuple(settings["size"]))).expand(count, -1, -1)
        if codes is not None:
            known = _forget(codes, settings["share"], generators)
        stacked = {name: value[None].expand(count, *value.shape) for name, value in values.items()}
        return self._draw_stacked(settings, stacked, known, generators, report)

    def _draw_stacked(
        self,
        settings: Mapping[str, Any],
        values: Mapping[str, Tensor],  # (B, ...): one value for each picture
        known: Tensor,  # codes (B, h, w), UNKNOWN where they are to be drawn
        generators: Sequence[torch.Generator],
        report: Progress,
    ) -> Tensor:
        model = self._second_stage()
        grid = self.grid(tuple(settings["size"]))
        window = self._window(grid)
        stacked = {name: value.to(self.device) for name, value in values.items()}
        count, guidance = len(generators), settings["guidance"]
        branches, scales = model.branches(stacked, count, grid, guidance)
        guides = Guides(model.transformer)

        def decoder_at(place: Window) -> Decoder:
            inside, there = self._within(stacked, place, grid)
            if all(inside[name] is value for name, value in stacked.items()):
                return Decoder(model.transformer, _crop(branches, place), scales, guides)
            own, _ = model.branches(inside, count, grid, guidance, there)
            return Decoder(model.transformer, _crop(own, place), scales)

        return sample_windows(
            decoder_at,
            known.to(self.device),
            window=window,
            stride=(max(1, window[0] // 2), max(1, window[1] // 2)),
            steps=settings["steps"],
            filters=Filters(settings["temperature"], settings["top_k"], settings["top_p"]),
            generators=generators,
            callback=report,
        )

    def _within(
        self, stacked: Mapping[str, Tensor], place: Window, grid: Size
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Values for a window, the same tensors where they do not change, and which are there."""
        if place[2:] == grid:
            return dict(stacked), {}
        part = Part(
            place.top / grid[0],
            place.left / grid[1],
            (place.top + place.height) / grid[0],
            (place.left + place.width) / grid[1],
        )
        conditions = self._second_stage().conditions
        cut = {name: conditions[name].within(value, part) for name, value in stacked.items()}
        there = {name: flags for name, (_, flags) in cut.items() if flags is not None}
        return {name: value for name, (value, _) in cut.items()}, there

    def _settled(self, images: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        for name, value in values.items():
            images = self._second_stage().conditions[name].settle(images, value)
        return super()._settled(images, values)

    def _at_once(self, codes: Tensor | None, grid: Size) -> int:
        """Cells that are forgotten at random are not equally many in each window."""
        alone = codes is not None and self._window(grid) != grid
        return 1 if alone else super()._at_once(codes, grid)

    def _window(self, grid: Size) -> Size:
        model = self._second_stage()
        return fitting_window(grid, [model.grid(size) for size in model.sizes])


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
    scales = guidance.values() if isinstance(guidance, Mapping) else [guidance]
    if not all(math.isfinite(scale) for scale in scales):
        raise ValueError(f"guidance is {guidance}; give finite numbers, 1 follows as trained")
    return {
        "size": list(as_size(size)),
        "guidance": floats(guidance) if isinstance(guidance, Mapping) else float(guidance),
        **{name: None if value is None else whole(name, value) for name, value in numbers.items()},
        **floats(shares),
    }


def _crop(branches: Sequence[Branch], place: Window) -> list[Branch]:
    """Branches for one window; those that shared a prefix still do."""
    return [
        Branch(branch.control[:, :, place.rows, place.columns], branch.prefix)
        for branch in branches
    ]


def _forget(codes: Tensor, share: float, generators: Sequence[torch.Generator]) -> Tensor:
    """Codes (B, h, w) with a spread share of the cells UNKNOWN, other cells for each generator."""
    height, width = codes.shape
    count = max(1, round(share * codes.numel()))
    cells = spread_orders(height, width, generators, codes.device)[:, :count]
    known = codes.flatten().repeat(len(generators), 1).scatter(1, cells, UNKNOWN)
    return rearrange(known, "b (h w) -> b h w", h=height)
