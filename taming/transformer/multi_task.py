"""One second stage for every task: a frozen first stage, any conditions, the any-order transformer.

Values of conditions come in as stacked tensors with a flag per image that says whether they are
present; what is absent is null, whatever its value. It knows nothing of data sets, training loops
or files of pictures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from taming.checkpoint import load_weights, read_state_dict
from taming.cond_stage.base import Condition, combine
from taming.cond_stage.sizes import whole_grid
from taming.config import get_model_class, instantiate_model
from taming.first_stage.vqgan import VQModel
from taming.transformer.any_order import AnyOrderTransformer
from taming.transformer.decoder import Branch


class Codes(NamedTuple):
    """What the second stage is trained on: codes of whole pictures, and an order for each."""

    targets: Tensor  # (B, T) int64, the codes to predict, by cell
    context: (
        Tensor  # (B, T) int64, the codes that are fed; differ where a filled picture was encoded
    )
    order: Tensor  # (B, T) permutations of the cells
    known: Tensor  # (B,) int64, how many cells at the front of the order are given, not asked for


class MultiTaskTransformer(nn.Module):
    """p(codes | any subset of conditions), from one set of weights.

    `cond_stage_config` maps each condition's name to {target, params}; `width` and
    `downsample_factor` are filled in. Raises ValueError where widths or codebook sizes disagree.
    """

    def __init__(
        self,
        transformer_config: Mapping[str, Any],
        first_stage_config: Mapping[str, Any],
        cond_stage_config: Mapping[str, Mapping[str, Any]],
        sizes: Sequence[Sequence[int]] = ((256, 256),),  # H x W of the pictures trained on
        ckpt_path: str | Path | None = None,
        ignore_keys: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.sizes = [(int(height), int(width)) for height, width in sizes]
        self.first_stage_model: VQModel = instantiate_model(first_stage_config)
        self.first_stage_model.eval().requires_grad_(False)
        self.transformer: AnyOrderTransformer = instantiate_model(transformer_config)
        ours, theirs = self.transformer.codebook_size, self.first_stage_model.codebook_size
        if ours != theirs:
            raise ValueError(
                f"the transformer has codebook_size {ours}, the first stage {theirs}; "
                f"set transformer_config.params.codebook_size to {theirs}"
            )
        if not self.transformer.head.weight.is_meta:  # where only shapes are asked for
            self.transformer.place_codes(codebook(self.first_stage_model))
        self.cond_stage_model = nn.ModuleDict(
            {name: self._build_condition(name, each) for name, each in cond_stage_config.items()}
        )
        if ckpt_path is not None:
            load_weights(
                self, read_state_dict(ckpt_path), ignore=ignore_keys, source=str(ckpt_path)
            )

    def _build_condition(self, name: str, config: Mapping[str, Any]) -> Condition:
        condition = instantiate_model(config, **self._condition_sizes(config))
        if condition.name != name:
            raise ValueError(
                f'cond_stage_config names a condition "{name}" whose class paints from '
                f'"{condition.name}"; use that name'
            )
        return condition

    def _condition_sizes(self, config: Mapping[str, Any]) -> dict[str, int]:
        """Width and downsample factor follow from the other stages."""
        if get_model_class(config["target"]).kind == "prefix":
            return {"width": self.transformer.width}
        factor = self.first_stage_model.downsample_factor
        return {"width": self.transformer.control_width, "downsample_factor": factor}

    def train(self, mode: bool = True) -> MultiTaskTransformer:
        """The first stage stays as it is: frozen."""
        super().train(mode)
        self.first_stage_model.eval()
        return self

    @property
    def conditions(self) -> dict[str, Condition]:
        """The conditions that this model was built with, by name, in order of declaration."""
        return cast("dict[str, Condition]", dict(self.cond_stage_model.items()))

    @property
    def downsample_factor(self) -> int:
        return self.first_stage_model.downsample_factor

    def grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """The latent grid of a picture; ValueError if a side is no multiple of the factor."""
        return whole_grid(size, self.downsample_factor)

    def branch(
        self,
        values: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        batch: int,
        grid: tuple[int, int],
    ) -> Branch:
        """Controls (B, C, h, w) and prefix (B, P, C) of the conditions that are present."""
        with self._as_weights():
            control, prefix = combine(
                self.conditions, values, present, grid, batch=batch, width=self.transformer.width
            )
        if not any(each.kind == "control" for each in self.conditions.values()):
            control = control.new_zeros(batch, self.transformer.control_width, *grid)
        if prefix.shape[1] == 0:
            prefix = prefix.new_zeros(batch, 0, self.transformer.width)
        weight = self.transformer.head.weight
        return Branch(control.to(weight), prefix.to(weight))

    def _as_weights(self) -> contextlib.AbstractContextManager[Any]:
        """Values of conditions are float32: a model in bf16 takes them as they are."""
        weight = self.transformer.head.weight
        if weight.dtype == torch.bfloat16:
            return torch.autocast(weight.device.type, torch.bfloat16)
        return contextlib.nullcontext()

    def forward(
        self,
        codes: Codes,
        values: Mapping[str, Tensor],
        present: Mapping[str, Tensor],
        grid: tuple[int, int],
    ) -> Tensor:
        """Cross-entropy (B, T) in nats along the order, zero at the given cells."""
        branch = self.branch(values, present, codes.order.shape[0], grid)
        logits = self.transformer(codes.context, codes.order, branch.control, branch.prefix)
        targets = codes.targets.gather(1, codes.order)  # (B, T)
        # One row after the other: over an axis within, the softmax is several times slower.
        nats = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
        loss = nats.view(targets.shape)
        place = torch.arange(targets.shape[1], device=targets.device)
        return loss * (place[None] >= codes.known[:, None])

    @torch.no_grad()
    def branches(
        self,
        values: Mapping[str, Tensor],
        batch: int,
        grid: tuple[int, int],
        guidance: float | Mapping[str, float] = 1.0,
        present: Mapping[str, Tensor] | None = None,  # of those that are not in every image
    ) -> tuple[list[Branch], list[float]]:
        """What a decoder compares: branches u, c1, c12, ... and a guidance scale between each two.

        A number guides everything together: u + s (c_all - u). A mapping guides each condition by
        its own scale, in the order in which the model declares them (1 where none is given).
        """
        given = [name for name in self.conditions if name in values]
        chain, scales = guidance_chain(given, guidance)
        prefixes: dict[tuple[str, ...], Tensor] = {}
        branches = []
        for names in chain:
            kept = {name: values[name] for name in names}
            there = {name: flags for name, flags in (present or {}).items() if name in kept}
            branch = self.branch(kept, there, batch, grid)
            words = tuple(name for name in names if self.conditions[name].kind == "prefix")
            branches.append(Branch(branch.control, prefixes.setdefault(words, branch.prefix)))
        return branches, scales


@torch.no_grad()
def codebook(first_stage: VQModel) -> Tensor:
    """What each code stands for: (V, D)."""
    weight = first_stage.post_quant_conv.weight
    every = torch.arange(first_stage.codebook_size, device=weight.device)
    return rearrange(first_stage.lookup(every[None, None]), "1 d 1 v -> v d")


def guidance_chain(
    given: Sequence[str], guidance: float | Mapping[str, float]
) -> tuple[list[list[str]], list[float]]:
    """The nested sets of conditions to compare, and a scale between each two.

    Neighbours with equal scales are one step, since their difference telescopes; a first scale of
    1 makes the unconditional branch cancel, so that it is left out.
    """
    if isinstance(guidance, Mapping):
        unknown = sorted(set(guidance) - set(given))
        if unknown:
            raise ValueError(
                f"guidance names {unknown[0]!r}, but the conditions given are {list(given)}"
            )
        each = {name: float(guidance.get(name, 1.0)) for name in given}
    else:
        each = dict.fromkeys(given, float(guidance))
    chain: list[list[str]] = [[]]
    scales: list[float] = []
    for count, (_, scale) in enumerate(each.items(), start=1):
        if scales and scales[-1] == scale:
            chain.pop()
        else:
            scales.append(scale)
        chain.append(list(given[:count]))
    if scales and scales[0] == 1.0:
        chain, scales = chain[1:], scales[1:]
    return chain, scales
