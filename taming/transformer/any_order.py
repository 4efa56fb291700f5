"""The any-order transformer: p(codes | controls, prefix), factorised along any order of the cells.

Two streams share the depth. The *content* stream reads a start token, a few prefix tokens and the
codes known so far, each at its own cell, causally. The *query* stream asks for a cell: a learned
vector plus the cell's coordinates plus its control, attending to the content before it. Raster,
random and parallel decoding and the completion of any mask are therefore one model, and a layer of
training costs T tokens, not 2T.

Spatial conditions never enter the content: summed on the latent grid, they pass a small
bidirectional trunk once per picture, so that each cell's control knows the whole map, and are added
to the queries by target cell at query layers 1, 1/3 and 2/3. What the content stream has computed
therefore serves every guidance branch with the same prefix. `control_mode: prefix` puts the control
in front of the content instead, the classic design, for comparison.

It knows nothing of images, conditions or sampling. Sources: two streams, Yang et al. 2019
(arXiv 1906.08237) section 2.3 and Li et al. 2025 (ARPG, arXiv 2503.10568); control by target
position, Li et al. 2024 (ControlAR, arXiv 2410.02705) section 3.2.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn

from taming.first_stage.autoencoder import run_layer
from taming.transformer.cache import KVCache
from taming.transformer.layers import Block, QueryBlock, RMSNorm, Rotation, grid_rotation

COORDINATE_FREQUENCIES = 8  # octaves of the normalised coordinates


class Guide(NamedTuple):
    """What the query stream adds at each cell, computed once per picture."""

    queries: Tensor  # (B, T, C): learned vector + coordinates (+ control)
    controls: dict[int, Tensor]  # query layer -> (B, T, C), added before that layer
    prefix: Tensor  # (B, P, C): start token, prefix tokens (, control tokens)


class AnyOrderTransformer(nn.Module):
    """Logits for any target cell given any set of known codes."""

    recomputes = False  # set by `recompute_activations`

    def __init__(
        self,
        codebook_size: int,
        width: int = 512,
        layers: int = 12,  # half content, half query
        heads: int = 8,
        control_width: int | None = None,  # width of control features and trunk; None = width
        trunk_layers: int = 2,  # 0: every cell's control knows only itself
        control_mode: Literal["query", "prefix"] = "query",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if layers % 2 or layers < 2:
            raise ValueError(f"layers is {layers}; give an even number, half for each stream")
        if width % (4 * heads):
            raise ValueError(f"width {width} over {heads} heads is no multiple of 4 per head")
        if control_mode not in ("query", "prefix"):
            raise ValueError(f'control_mode is "{control_mode}"; give "query" or "prefix"')
        self.codebook_size, self.width, self.heads = codebook_size, width, heads
        self.control_width = control_width or width
        trunk_heads = max(1, self.control_width // 64)
        if self.control_width % (4 * trunk_heads):
            raise ValueError(
                f"control_width {self.control_width} over {trunk_heads} heads is no multiple of 4 "
                f"per head; give a multiple of 64"
            )
        self.control_mode = control_mode
        streams = layers // 2

        self.tok_emb = nn.Embedding(codebook_size, width)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.query = nn.Parameter(torch.zeros(1, 1, width))
        self.coordinates = nn.Linear(4 * COORDINATE_FREQUENCIES, width)

        self.trunk_head_dim = self.control_width // trunk_heads
        self.trunk = nn.ModuleList(
            Block(self.control_width, trunk_heads, dropout) for _ in range(trunk_layers)
        )
        self.trunk_norm = RMSNorm(self.control_width)
        at = {0, streams // 3, 2 * streams // 3} if control_mode == "query" else {0}
        self.control_proj = nn.ModuleDict(
            {str(layer): nn.Linear(self.control_width, width, bias=False) for layer in sorted(at)}
        )

        self.content = nn.ModuleList(Block(width, heads, dropout) for _ in range(streams))
        self.content_norm = RMSNorm(width)
        self.query_blocks = nn.ModuleList(QueryBlock(width, heads, dropout) for _ in range(streams))
        self.norm = RMSNorm(width)
        self.head = nn.Linear(width, codebook_size, bias=False)
        self._init_weights(layers)

    def _init_weights(self, layers: int) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                is_residual = name.endswith((".proj", ".down"))
                std = 0.02 / math.sqrt(2 * layers) if is_residual else 0.02
                nn.init.normal_(module.weight, std=std)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.start, std=0.02)
        nn.init.normal_(self.query, std=0.02)

    @torch.no_grad()
    def place_codes(self, codebook: Tensor) -> None:
        """Start where the first stage ends: codes that look alike get embeddings that are alike.

        codebook (V, D). A random projection keeps its distances (Johnson and Lindenstrauss 1984);
        the same directions begin to score codes in the head.
        """
        codebook = (codebook - codebook.mean(0)) / codebook.std().clamp(min=1e-6)
        directions = torch.randn(codebook.shape[1], self.width, device=codebook.device)
        placed = codebook.float() @ directions / math.sqrt(codebook.shape[1])  # (V, C)
        self.tok_emb.weight.add_(placed * 0.5)
        self.head.weight.add_(placed / math.sqrt(self.width) * 0.5)

    def recompute_activations(self, recomputes: bool = True) -> None:
        """Keep only what lies between blocks for the backward pass, and compute the rest again."""
        self.recomputes = recomputes

    # ---- the whole sequence at once: training -------------------------------------------------

    def forward(self, codes: Tensor, order: Tensor, control: Tensor, prefix: Tensor) -> Tensor:
        """Logits (B, T, V); [:, i] is for cell order[:, i], given the codes at order[:, :i].

        codes (B, T) int64 by cell, order (B, T) permutations of cells, control (B, C, h, w),
        prefix (B, P, C).
        """
        height, width = control.shape[-2:]
        if order.shape[1] != height * width:
            raise ValueError(
                f"grid {height}x{width} has {height * width} cells, the order {order.shape[1]}"
            )
        guide = self.guide(control, prefix)
        rotation = self.rotation(height, width, codes.device)
        before = order[:, :-1]  # the last code is a target only
        placed = self.place_tokens(rotation, before, guide.prefix.shape[1])
        tokens = torch.cat([guide.prefix, self.tok_emb(codes.gather(1, before))], dim=1)
        content = self.run_content(tokens, placed)
        keys_values = [layer.project_content(content, placed) for layer in self.query_layers()]
        return self.run_queries(guide, order, rotation, keys_values, causal=True)

    # ---- its parts, which a decoder calls step by step ------------------------------------------

    def query_layers(self) -> list[QueryBlock]:
        return cast("list[QueryBlock]", list(self.query_blocks))

    def rotation(self, height: int, width: int, device: torch.device) -> Rotation:
        return grid_rotation(height, width, self.width // self.heads, device)

    def place_tokens(self, rotation: Rotation, cells: Tensor, front: int) -> Rotation:
        """Of `front` tokens, as a guide has them, and of codes at cells (B, n) behind these.

        Where controls stand in front, they come last there, each at its own cell; start token and
        prefix stand nowhere.
        """
        if self.control_mode == "prefix":
            every = torch.arange(rotation.cos.shape[1], device=cells.device)
            cells = torch.cat([every.expand(len(cells), -1), cells], dim=1)
            front -= len(every)
        return rotation.at(cells).pad_front(front)

    def guide(self, control: Tensor, prefix: Tensor) -> Guide:
        """Run the control trunk and collect what is added at each cell."""
        batch, _, height, width = control.shape
        tokens = rearrange(control, "b c h w -> b (h w) c")
        rotation = grid_rotation(height, width, self.trunk_head_dim, control.device)
        for block in self.trunk:
            run = partial(block, rotation=rotation, causal=False)
            tokens = run_layer(run, tokens, self.recomputes)
        tokens = self.trunk_norm(tokens)
        controls = {int(layer): proj(tokens) for layer, proj in self.control_proj.items()}
        coordinates = normalised_coordinates(height, width, control.device)
        places = self.coordinates(coordinates.to(self.coordinates.weight.dtype))  # (T, C)
        queries = (self.query + places).expand(batch, -1, -1)
        front = [self.start.expand(batch, -1, -1), prefix]
        if self.control_mode == "prefix":
            front.append(controls.pop(0) + places)
        return Guide(queries, controls, torch.cat(front, dim=1))

    def run_content(self, x: Tensor, rotation: Rotation, cache: KVCache | None = None) -> Tensor:
        """Content stream over new tokens (B, n, C), behind what the cache holds."""
        for index, block in enumerate(self.content):
            past = None if cache is None else cache.layer(index)
            run = partial(block, rotation=rotation, causal=True, cache=past)
            x = run_layer(run, x, self.recomputes)
        return self.content_norm(x)

    def run_queries(
        self,
        guide: Guide,
        targets: Tensor,  # (B, m) cells asked for
        rotation: Rotation,  # table of the grid
        keys_values: list[tuple[Tensor, Tensor]],  # of the content, for each query layer
        causal: bool,
        guide_cells: Tensor | None = None,  # (B, m) rows of the guide, where it holds more than T
    ) -> Tensor:
        """Logits (B, m, V) for the targets."""
        at_targets = rotation.at(targets)
        guide_cells = targets if guide_cells is None else guide_cells
        x = gather_cells(guide.queries, guide_cells)
        for index, block in enumerate(self.query_layers()):
            if index in guide.controls:
                x = x + gather_cells(guide.controls[index], guide_cells)
            known = keys_values[index]
            run = partial(block, rotation=at_targets, keys_values=known, causal=causal)
            x = run_layer(run, x, self.recomputes)
        return self.head(self.norm(x))


def gather_cells(features: Tensor, cells: Tensor) -> Tensor:
    """Rows of features (B, T, C) at cells (B, m): (B, m, C)."""
    return features.gather(1, cells[..., None].expand(-1, -1, features.shape[-1]))


def normalised_coordinates(height: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of the cell centres in [0, 1], octave by octave: (T, 4 * frequencies)."""
    rows = (torch.arange(height, device=device) + 0.5) / height
    columns = (torch.arange(width, device=device) + 0.5) / width
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)  # (h, w, 2)
    octaves = math.pi * 2.0 ** torch.arange(COORDINATE_FREQUENCIES, device=device)
    angles = rearrange(grid[..., None] * octaves, "h w two o -> (h w) (two o)")
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
