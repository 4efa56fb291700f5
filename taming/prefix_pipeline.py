"""Conditions in, pictures out, with the published second stage.

    model = taming.load("runs/faceshq")
    pictures = model.paint(size=(256, 1024), seeds=range(4), top_k=100)

The published transformer reads its one condition as tokens in front of the codes and knows one
order, so it paints one code at a time and completes what lies behind in that order. Larger pictures
than it was trained on are painted through its window: the published rule, a window for every cell,
or blocks, which cost a fraction and join less well. Everything else is as in `pipeline.py`.

Esser et al., arXiv 2012.09841, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taming.cond_stage import published
from taming.cond_stage.known import read_known
from taming.cond_stage.scenes import draw_scene, read_scenes, tokens_of
from taming.cond_stage.sizes import (
    fitting_size,
    fitting_window,
    nearest_window,
    stretch,
    whole_grid,
)
from taming.cond_stage.sources import to_pixels, whole
from taming.data.published_batch import one_plane_each
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
from taming.sampling import UNKNOWN, Filters, Window, WindowRule, published_visits, sample_sequence
from taming.transformer.gpt_decoder import PreparedGPT
from taming.transformer.net2net import Net2NetTransformer
from taming.transformer.prepared import version_of_all

ANY_ORDER = "train the any-order model (taming.transformer.multi_task) for that"
SETTINGS = ("guidance", "steps")  # of that one


class PrefixPipeline(Painter):
    """A published second stage. Make one with `taming.load`."""

    model: Net2NetTransformer

    def __init__(
        self,
        model: Net2NetTransformer,
        name: str = "",
        sizes: Sequence[Size] = (),  # H x W trained on; else the first stage's own, a square
        precision: str | None = None,  # that it was loaded in, where it was
    ) -> None:
        super().__init__(model, model.first_stage_model, name, precision)
        side = self.first_stage.config.resolution
        self.sizes = [as_size(size) for size in sizes] or [(side, side)]
        # Positions are places in the sequences that were learned. But the resolution of a first
        # stage may be one that it was never trained at.
        self.window_rule = nearest_window if sizes else fitting_window
        self._prepared: tuple[list[Any], PreparedGPT] | None = None  # of a version of the weights

    @property
    def condition(self) -> str | None:
        """The name of the one condition that has to be given; None where there is none."""
        key = self.model.cond_stage_key
        if self.model.be_unconditional or key == "coord":
            return None
        return published.NAMES.get(key, key)

    @property
    def conditions(self) -> list[str]:
        return [*([] if self.condition is None else [self.condition]), "known"]

    # ---- tasks ----------------------------------------------------------------------------------

    def paint(
        self,
        *,
        size: Size | int | None = None,  # H x W; None: the trained size nearest to the input's
        seeds: int | Iterable[int] = 0,  # one picture for each, and for each class
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        window: WindowRule = "published",  # how pictures larger than trained are painted
        progress: Progress | None = None,
        **conditions: Any,
    ) -> list[Image.Image]:
        """Pictures that obey the model's condition, one of `labels`, `depth`, `class_label`,
        `boxes`, `pose`, `lowres`, or a picture under the model's own key; see `condition`.

        Several classes, `class_label=[5, 12]`, give every seed of the first, then of the second.
        ValueError names what does not fit.
        """
        classes = conditions.pop("class_label", None)
        classes = list(classes) if np.ndim(classes) == 1 else [classes]
        listed, pictures = as_seeds(seeds), []
        read = [self._read({**conditions, "class_label": each}, size) for each in classes]
        if not read:
            raise ValueError("no classes were given; each picture needs one")
        for index, (values, shape) in enumerate(read):

            def report(done: int, total: int, index: int = index) -> None:
                if progress is not None:
                    progress(index * total + done, len(read) * total)

            settings = _settings(shape, window, temperature, top_k, top_p)
            pictures += self._paint(settings, values, None, listed, report)
        return pictures

    def vary(self, image: Any, share: float = 0.5, **options: Any) -> list[Image.Image]:
        """ValueError: this model cannot."""
        raise ValueError(
            "this model paints in one order and cannot paint a share of the codes, spread over the "
            f"picture, anew; {ANY_ORDER}"
        )

    def draw_boxes(self, boxes: Any, size: Size | int | None = None) -> Image.Image:
        """What is where in a scene as `paint` takes it, with the names of things."""
        key, vocabulary = self.model.cond_stage_key, self.model.transformer.config.vocab_size
        shape = self.sizes[0] if size is None else as_size(size)
        return Image.fromarray(to_pixels(draw_scene(read_scenes(boxes), key, vocabulary, shape)))

    # ---- conditions to codes --------------------------------------------------------------------

    def grid(self, size: Size) -> Size:
        factor = self.first_stage.downsample_factor
        grid = whole_grid(size, factor)
        if not self._has_room(grid):
            window = self._window(grid)
            fits = [max(side, least * factor) for side, least in zip(size, window, strict=True)]
            raise ValueError(
                f"size {size[0]}x{size[1]} has no room for this model's window of "
                f"{window[0] * factor}x{window[1] * factor}; give at least {fits[0]}x{fits[1]}"
            )
        return grid

    def _window(self, grid: Size) -> Size:
        factor = self.first_stage.downsample_factor
        grids = [(height // factor, width // factor) for height, width in self.sizes]
        return self.window_rule(grid, grids)

    def _has_room(self, grid: Size) -> bool:
        window = self._window(grid)
        return grid[0] >= window[0] and grid[1] >= window[1]

    def _read(
        self, conditions: Mapping[str, Any], size: Size | int | None
    ) -> tuple[dict[str, Tensor], Size]:
        given = {name: source for name, source in conditions.items() if source is not None}
        if self.model.cond_stage_key == "lr" and "edges" in given:
            given["lowres"] = given.pop("edges")  # drawings came under the key of small pictures
        strangers = sorted(set(given) - set(self.conditions))
        settings = [name for name in strangers if name in SETTINGS]
        if settings:
            raise ValueError(
                f"{' and '.join(settings)} cannot be set: this model paints one code at a time, "
                f"without guidance; {ANY_ORDER}"
            )
        if strangers:
            raise ValueError(
                f"this model does not paint from {', '.join(strangers)}; it takes "
                f"{', '.join(self.conditions)}{spelt_otherwise(strangers)}; for more, {ANY_ORDER}"
            )
        if size is not None:
            shape = as_size(size)
        else:
            shapes = [shape_of(given[name]) for name in self._maps() if name in given]
            factor = self.first_stage.downsample_factor
            found = next((shape for shape in shapes if shape is not None), None)
            shape = self.sizes[0] if found is None else fitting_size(found, self.sizes, factor)
            if not self._has_room(whole_grid(shape, factor)):
                shape = min(self.sizes, key=lambda size: stretch(size, shape))
        self.grid(shape)  # refuses a size that does not fit
        return {name: self._read_one(name, source, shape) for name, source in given.items()}, shape

    def _maps(self) -> list[str]:
        """Conditions whose shape is the picture's."""
        return [name for name in self.conditions if name not in ("class_label", "boxes", "pose")]

    def _read_one(self, name: str, source: Any, size: Size) -> Tensor:
        stage, planes = self.model.cond_stage_model, self._planes()
        if name == "known":
            return read_known(source, size)
        if name == "class_label":
            return published.read_class(source, getattr(stage, "n_classes", None))
        if name == "boxes":
            vocabulary = self.model.transformer.config.vocab_size
            return tokens_of(source, self.model.cond_stage_key, vocabulary)
        if name == "pose":
            return published.read_pose(source, getattr(stage, "size", size))
        if isinstance(source, Tensor) and tuple(source.shape) == (planes, *size):
            return source.float()
        if name == "labels":
            return published.read_labels(source, size, planes)
        if name == "depth":
            return published.read_depth(source, size)
        return published.read_picture(source, size, planes)

    # ---- drawing codes --------------------------------------------------------------------------

    @torch.inference_mode()
    def _draw(
        self,
        settings: Mapping[str, Any],
        values: Mapping[str, Tensor],
        codes: Tensor | None,
        generators: Sequence[torch.Generator],
        report: Progress,
    ) -> Tensor:
        grid = self.grid(tuple(settings["size"]))
        window, rule = self._window(grid), settings["window"]
        order = self.model.permuter(torch.arange(window[0] * window[1], device=self.device)[None])[
            0
        ]
        known = self._known_codes(values, grid)
        if "known" in values:
            _check_is_behind(known[0], window, order)
        condition = self._condition(values, tuple(settings["size"]))
        prefix = _Prefix(self.model, condition, grid)
        version = version_of_all(self.model.transformer)
        if self._prepared is None or self._prepared[0] != version:
            self._prepared = version, PreparedGPT(self.model.transformer)
        _, prepared = self._prepared
        return sample_sequence(
            lambda place: self.model.decoder(
                prefix.at(place).expand(len(generators), -1), prepared
            ),
            known.expand(len(generators), -1, -1),
            window,
            rule,
            order=order,
            filters=Filters(settings["temperature"], settings["top_k"], settings["top_p"]),
            generators=generators,
            callback=report,
        )

    def _condition(self, values: Mapping[str, Tensor], size: Size) -> Tensor:
        """What the condition stage encodes, a batch of one."""
        if self.model.be_unconditional:
            return torch.zeros(1, device=self.device)
        if self.condition is None:
            return published.coordinates(size)[None].to(self.device)
        if self.condition not in values:
            raise ValueError(
                f"this model paints from {self.condition} and not without; give "
                f"{self.condition}=..."
            )
        value = values[self.condition][None].to(self.device)
        if self.condition in ("class_label", "boxes", "pose"):
            return value
        if self.condition == "labels" and value.ndim == 3:
            value = one_plane_each(value, self._planes())
        return value.to(self.first_stage.post_quant_conv.weight.dtype)

    def _planes(self) -> int:
        """Planes of the map that the condition stage encodes."""
        return getattr(getattr(self.model.cond_stage_model, "config", None), "in_channels", 3)


class _Prefix:
    """The condition tokens of every window, from one condition for the whole picture."""

    def __init__(self, model: Net2NetTransformer, condition: Tensor, grid: Size) -> None:
        self.model, self.condition, self.grid = model, condition, grid
        quantized, self.tokens = model.encode_to_c(condition)  # (1, P)
        self.is_map = quantized.ndim == 4
        self.is_aligned = self.is_map and tuple(quantized.shape[-2:]) == tuple(grid)

    def at(self, place: Window) -> Tensor:
        """(1, P). A class, a start token or boxes are the same everywhere."""
        if not self.is_map or place[2:] == self.grid:
            return self.tokens
        if self.is_aligned:
            window = self.tokens.unflatten(1, self.grid)[:, place.rows, place.columns]
            return window.flatten(1)
        # A map that is scaled down before it is encoded: each window has its own part of it.
        factors = [
            side // cells for side, cells in zip(self.condition.shape[-2:], self.grid, strict=True)
        ]
        top, left = place.top * factors[0], place.left * factors[1]
        bottom, right = top + place.height * factors[0], left + place.width * factors[1]
        return self.model.encode_to_c(self.condition[..., top:bottom, left:right])[1]


def _settings(
    size: Size,
    window: WindowRule,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> dict[str, Any]:
    """What decides a picture besides model, conditions and seed; plain enough for JSON."""
    return {
        "size": list(as_size(size)),
        "window": window,
        "top_k": None if top_k is None else whole("top_k", top_k),
        **floats({"temperature": temperature, "top_p": top_p}),
    }


def _check_is_behind(known: Tensor, window: Size, order: Tensor) -> None:
    """ValueError unless the known cells (h, w) stand before all others in the order of painting."""
    is_known = (known != UNKNOWN).flatten()
    if len(published_visits((known.shape[0], known.shape[1]), window)) == 1:
        is_known = is_known[order]
    count = int(is_known.sum())
    if not bool(is_known[:count].all()):
        raise ValueError(
            "this model paints in one order, row by row unless it has a permuter, and completes "
            f"only what lies behind; the mask keeps parts that come later: keep upper rows alone, "
            f"or {ANY_ORDER}"
        )
