"""p(code_i | codes before i): the published second stage, a causal transformer over one sequence.

Learned positions, LayerNorm, GELU; condition tokens and image tokens share one table and stand in
one sequence. Parameter names are those of the published checkpoints. It knows nothing of pictures
or conditions, and not how it is sampled: `gpt_decoder.py` does that.

Sources: Radford et al. 2019 (GPT-2) in the form of Esser et al., arXiv 2012.09841, section 3.2.
`n_unmasked` tokens at the front see one another in both directions.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from taming.first_stage.autoencoder import run_layer
from taming.transformer.layers import attend, causal_mask


@dataclasses.dataclass(frozen=True)
class GPTConfig:
    """Sizes of a GPT. Dropout is on by default here, off in `GPT`: as published."""

    vocab_size: int  # V: condition tokens and image tokens together
    block_size: int  # longest sequence that can be fed
    n_layer: int = 12
    n_head: int = 8
    n_embd: int = 256  # C
    embd_pdrop: float = 0.1
    resid_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    n_unmasked: int = 0  # tokens at the front that see one another

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd is {self.n_embd}, which does not divide into {self.n_head} heads (n_head)"
            )
        if not 0 <= self.n_unmasked <= self.block_size:
            raise ValueError(
                f"n_unmasked is {self.n_unmasked}; give 0 to block_size = {self.block_size}"
            )


def visible(queries: int, keys: int, n_unmasked: int, device: torch.device) -> Tensor | None:
    """True where a query may see a key, when the last query stands at the last key; None if all."""
    mask = causal_mask(queries, keys, device)
    if mask is not None and n_unmasked:
        first = keys - queries  # the place of the first query
        mask[: max(0, n_unmasked - first), :n_unmasked] = True
    return mask


class CausalSelfAttention(nn.Module):
    """Every token sees itself and those before it."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.n_embd
        self.n_head = config.n_head
        self.n_unmasked = config.n_unmasked
        self.key, self.query = nn.Linear(width, width), nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attn_drop = nn.Dropout(config.attn_pdrop)
        self.resid_drop = nn.Dropout(config.resid_pdrop)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            rearrange(layer(x), "b t (heads d) -> b heads t d", heads=self.n_head)
            for layer in (self.query, self.key, self.value)
        )
        # A mask costs the fastest kernels; plain causality needs none.
        is_causal = self.n_unmasked == 0
        mask = None if is_causal else visible(x.shape[1], x.shape[1], self.n_unmasked, x.device)
        dropout = self.attn_drop.p if self.training else 0.0
        return self.resid_drop(self.proj(attend(q, k, v, is_causal, mask, dropout)))

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Published files carry the causal mask, which follows from the sizes."""
        state_dict.pop(f"{prefix}mask", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


class Block(nn.Module):
    """Pre-norm transformer layer: self-attention, then a feed-forward layer of four times C."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.n_embd
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = CausalSelfAttention(config)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
            nn.Dropout(config.resid_pdrop),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    """Logits for the next token at every place of a sequence of at most `block_size` tokens."""

    recomputes = False  # set by `recompute_activations`

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_layer: int = 12,
        n_head: int = 8,
        n_embd: int = 256,
        embd_pdrop: float = 0.0,
        resid_pdrop: float = 0.0,
        attn_pdrop: float = 0.0,
        n_unmasked: int = 0,
    ) -> None:
        super().__init__()
        self.config = config = GPTConfig(
            vocab_size, block_size, n_layer, n_head, n_embd,
            embd_pdrop, resid_pdrop, attn_pdrop, n_unmasked,
        )  # fmt: skip
        self.block_size = block_size
        self.tok_emb = nn.Embedding(vocab_size, n_embd)
        self.pos_emb = nn.Parameter(torch.zeros(1, block_size, n_embd))
        self.drop = nn.Dropout(embd_pdrop)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(n_layer)))
        self.ln_f = nn.LayerNorm(n_embd)
        self.head = nn.Linear(n_embd, vocab_size, bias=False)
        self.apply(_start_small)

    def get_block_size(self) -> int:
        return self.block_size

    def recompute_activations(self, recomputes: bool = True) -> None:
        """Keep only what lies between blocks for the backward pass, and compute the rest again."""
        self.recomputes = recomputes

    def forward(
        self,
        idx: Tensor,  # (B, T) int64
        embeddings: Tensor | None = None,  # (B, P, C) in front of the tokens
        targets: Tensor | None = None,  # (B, P + T) int64
        answered_from: int = 0,  # the first place whose logits are wanted
    ) -> tuple[Tensor, Tensor | None]:
        """Logits (B, P + T, V), each for the token that follows, and the loss if there are targets.

        Without the places before `answered_from`, in the logits and in the targets.
        ValueError if the sequence is longer than `block_size`.
        """
        tokens = self.tok_emb(idx)  # (B, T, C)
        if embeddings is not None:
            tokens = torch.cat([embeddings, tokens], dim=1)
        x = self.drop(tokens + self.positions(0, tokens.shape[1]))
        for block in self.blocks:
            x = run_layer(block, x, self.recomputes)
        logits = self.head(self.ln_f(x[:, answered_from:]))  # (B, P + T, V)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(rearrange(logits, "b t v -> b v t"), targets)

    def positions(self, start: int, stop: int) -> Tensor:
        """Learned positions (1, n, C) of a part of the sequence."""
        if stop > self.block_size:
            raise ValueError(
                f"a sequence of {stop} tokens does not fit this transformer, whose block_size is "
                f"{self.block_size}; use a smaller grid, or windows of the trained size"
            )
        return self.pos_emb[:, start:stop]


def _start_small(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
