"""Step-by-step decoding with the any-order transformer: the `next_logits` of the sampling loop.

Guidance compares branches: the same known codes under different controls and prefixes. The content
stream depends on the prefix alone, so branches that share a prefix share its cache, and their
queries are asked side by side. `NaiveDecoder` recomputes everything at every step; it is the
reference that the cached one must equal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from taming.sampling.filters import guide as guided
from taming.transformer.any_order import AnyOrderTransformer, Guide
from taming.transformer.cache import KVCache


class Branch(NamedTuple):
    """One side of a guidance comparison. Branches with the *same* prefix tensor share a cache."""

    control: Tensor  # (B, C, h, w)
    prefix: Tensor  # (B, P, C)


class Guides:
    """The guides of branches; one that repeats from window to window of a large picture once.

    Where no condition speaks of places the control is the same at every cell, and then it is in
    every window: half of the work of the trunk, with guidance.
    """

    def __init__(self, model: AnyOrderTransformer) -> None:
        self.model = model
        self.kept: list[tuple[Branch, Guide]] = []

    def __call__(self, control: Tensor, prefix: Tensor) -> Guide:
        for branch, guide in self.kept:
            if branch.prefix is prefix and torch.equal(branch.control, control):
                return guide
        guide = self.model.guide(control, prefix)
        if bool((control == control[:, :, :1, :1]).all()):
            self.kept.append((Branch(control, prefix), guide))
        return guide


class Decoder:
    """Feeds known codes, answers logits for targets; keys and values are cached.

    All branches are guided into one answer: u + s1 (c1 - u) + s2 (c12 - c1) + ..., branches in the
    order u, c1, c12, ... and one scale less than branches.
    """

    def __init__(
        self,
        model: AnyOrderTransformer,
        branches: Sequence[Branch],
        scales: Sequence[float] = (),
        guides: Guides | None = None,  # shared by the decoders of several windows
    ) -> None:
        self.model, self.scales = model, tuple(scales)
        self.rows, self.guide = _arrange(model, branches, guides or Guides(model))
        batch, _, height, width = branches[0].control.shape
        weight = model.head.weight
        self.rotation = model.rotation(height, width, weight.device)
        front = self.guide.prefix.shape[1]
        heads = model.heads
        size = (len(self.rows) * batch, heads, front + height * width, model.width // heads)
        layers = len(model.content)
        kind = weight.device.type
        is_mixed = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if is_mixed else weight.dtype
        self.content_cache = KVCache(layers, *size, dtype, weight.device)
        self.query_cache = KVCache(layers, *size, dtype, weight.device)

    @torch.inference_mode()
    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        """Feed codes (B, n) at cells (B, n); guided float32 logits (B, m, V) for targets (B, m)."""
        branches = sum(map(len, self.rows))
        columns = branches // len(self.rows)
        batch = codes.shape[0]
        keys_values = self._feed(
            codes.repeat(len(self.rows), 1), positions.repeat(len(self.rows), 1)
        )
        asked = targets.repeat(len(self.rows), columns)  # (rows * B, columns * m)
        # The guide of a row holds its branches one behind the other, T cells each.
        cells = self.rotation.cos.shape[1]
        shift = torch.arange(columns, device=targets.device).repeat_interleave(targets.shape[1])
        logits = self.model.run_queries(
            self.guide,
            asked,
            self.rotation,
            keys_values,
            causal=False,
            guide_cells=asked + shift * cells,
        )
        each = rearrange(
            logits.float(),
            "(rows b) (columns m) v -> rows columns b m v",
            b=batch,
            columns=columns,
        )
        by_branch: list[Tensor] = [each[0, 0]] * branches
        for row, members in enumerate(self.rows):
            for column, branch in enumerate(members):
                by_branch[branch] = each[row, column]
        return guided(by_branch, self.scales)

    def _feed(self, codes: Tensor, positions: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Run new content; keys and values of all content for each query layer."""
        tokens = self.model.tok_emb(codes)
        if self.content_cache.length == 0:
            front = self.guide.prefix.to(tokens.dtype)
            tokens = torch.cat([front, tokens], dim=1)
            placed = self.model.place_tokens(self.rotation, positions, front.shape[1])
        else:
            placed = self.rotation.at(positions)
        content = self.model.run_content(tokens, placed, self.content_cache)
        keys_values = [
            self.query_cache.layer(index).extend(*layer.project_content(content, placed))
            for index, layer in enumerate(self.model.query_layers())
        ]
        self.content_cache.advance(tokens.shape[1])
        self.query_cache.advance(tokens.shape[1])
        return keys_values


class NaiveDecoder:
    """The same answers without any cache: the whole sequence again at every step."""

    def __init__(
        self, model: AnyOrderTransformer, branches: Sequence[Branch], scales: Sequence[float] = ()
    ) -> None:
        self.model, self.branches, self.scales = model, tuple(branches), tuple(scales)
        self.codes: list[Tensor] = []
        self.positions: list[Tensor] = []

    @torch.inference_mode()
    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        self.codes.append(codes)
        self.positions.append(positions)
        known, cells = torch.cat(self.codes, dim=1), torch.cat(self.positions, dim=1)
        logits = []
        for branch in self.branches:
            model, guide = self.model, self.model.guide(branch.control, branch.prefix)
            height, width = branch.control.shape[-2:]
            rotation = model.rotation(height, width, branch.control.device)
            placed = model.place_tokens(rotation, cells, guide.prefix.shape[1])
            tokens = torch.cat([guide.prefix, model.tok_emb(known)], dim=1)
            content = model.run_content(tokens, placed)
            keys_values = [layer.project_content(content, placed) for layer in model.query_layers()]
            logits.append(
                model.run_queries(guide, targets, rotation, keys_values, causal=False).float()
            )
        return guided(logits, self.scales)


@torch.inference_mode()
def _arrange(
    model: AnyOrderTransformer, branches: Sequence[Branch], guide_of: Guides
) -> tuple[list[list[int]], Guide]:
    """Rows of branches that share a content cache, and their guides: (rows * B, columns * T, C).

    Rows must be equally long to run as one batch; where they would not be, each branch takes a row
    of its own, as it does where the control stands in the content.
    """
    by_prefix: dict[int, list[int]] = {}
    for index, branch in enumerate(branches):
        by_prefix.setdefault(id(branch.prefix), []).append(index)
    rows = list(by_prefix.values())
    if model.control_mode == "prefix" or len({len(row) for row in rows}) > 1:
        rows = [[index] for index in range(len(branches))]
    guides = [guide_of(branch.control, branch.prefix) for branch in branches]

    def lay_out(features: list[Tensor]) -> Tensor:
        return torch.cat([torch.cat([features[index] for index in row], dim=1) for row in rows])

    return rows, Guide(
        queries=lay_out([guide.queries for guide in guides]),
        controls={
            layer: lay_out([guide.controls[layer] for guide in guides])
            for layer in guides[0].controls
        },
        prefix=torch.cat([guides[row[0]].prefix for row in rows]),
    )
