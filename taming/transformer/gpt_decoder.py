"""Step-by-step decoding with the published transformer: the `next_logits` of the sampling loop.

The sequence is condition tokens, then image tokens in a fixed order; keys and values of what was
fed stay in a cache of fixed size, and the head is asked for the last place alone. `NaiveGPTDecoder`
feeds the whole sequence at every step; it is the reference that the cached one must equal.

`sample` and `sample_with_past` are the published call forms; the loop behind them is the one of
`taming.sampling`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from taming.sampling.autoregressive import UNKNOWN, NextLogits
from taming.sampling.autoregressive import sample as sample_codes
from taming.sampling.filters import Filters
from taming.transformer.cache import KVCache, LayerCache
from taming.transformer.gpt import GPT, Block, visible
from taming.transformer.prepared import (
    Linear,
    PackedLinear,
    Packing,
    pack,
    prepare,
    prepare_batches,
)


class PreparedBlock:
    """One layer's weights as decoding wants them."""

    def __init__(self, block: Block) -> None:
        attention, mlp = block.attn, block.mlp
        self.heads = attention.n_head
        self.ln1, self.ln2 = block.ln1, block.ln2
        self.qkv = prepare(attention.query, attention.key, attention.value)  # C -> 3C
        self.proj = prepare(attention.proj)
        self.widen, self.activate, self.narrow = prepare(mlp[0]), mlp[1], prepare(mlp[2])

    def layers(self) -> list[Linear]:
        return [self.qkv, self.proj, self.widen, self.narrow]

    def __call__(self, x: Tensor, cache: LayerCache, mask: Tensor | None) -> Tensor:
        """x (B, n, C) of the tokens fed now; those before are in the cache. No dropout."""
        qkv = self.qkv(self.ln1(x))  # (B, n, 3C)
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(2)
        k, v = cache.extend(k, v)
        seen = F.scaled_dot_product_attention(q, k, v, mask)  # (B, heads, n, C / heads)
        x = x + self.proj(seen.transpose(1, 2).flatten(2))
        return x + self.narrow(self.activate(self.widen(self.ln2(x))))


class PreparedGPT:
    """The weights of a GPT as decoding wants them, for any number of decoders.

    They are those of the model, not copies. Batches make a copy laid out for them, kept from the
    first one on; training makes that one stale.
    """

    def __init__(self, gpt: GPT) -> None:
        self.gpt = gpt
        self.blocks = [PreparedBlock(block) for block in gpt.blocks]  # pyright: ignore[reportArgumentType]
        self.head = prepare(gpt.head)

    def new_cache(self, batch: int) -> KVCache:
        """Room for `block_size` tokens."""
        if batch > 1:
            for layer in [self.head, *(each for block in self.blocks for each in block.layers())]:
                prepare_batches(layer)
        config, weight = self.gpt.config, self.gpt.tok_emb.weight
        kind = weight.device.type
        is_mixed = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if is_mixed else weight.dtype
        head_dim = config.n_embd // config.n_head
        return KVCache(
            config.n_layer, batch, config.n_head, config.block_size, head_dim, dtype, weight.device
        )

    def feed(self, tokens: Tensor, cache: KVCache) -> Tensor:
        """Tokens (B, n) behind those in the cache -> the last one's features (B, 1, C)."""
        start, stop = cache.length, cache.length + tokens.shape[1]
        x = self.gpt.tok_emb(tokens) + self.gpt.positions(start, stop)
        mask = visible(stop - start, stop, self.gpt.config.n_unmasked, tokens.device)
        for index, block in enumerate(self.blocks):
            x = block(x, cache.layer(index), mask)
        cache.advance(stop - start)
        return self.gpt.ln_f(x[:, -1:])

    def logits(self, features: Tensor, codebook_size: int | None = None) -> Tensor:
        """(B, m, C) -> float32 (B, m, V), V the first `codebook_size` rows of the head."""
        return self.head(features)[..., :codebook_size].float()


def pack_gpt(gpt: GPT, packing: Packing) -> None:
    """Weights in 16 or 8 bits, in place; those of the head in 16, as logits feel them directly."""
    pack(gpt.blocks, packing)
    setattr(gpt, "head", PackedLinear(gpt.head, "bf16"))  # noqa: B010 - no longer what it was typed


class _Sequence:
    """What has been fed, and the law that a GPT is asked for one place after the other."""

    def __init__(self, prefix: Tensor) -> None:
        if prefix.ndim != 2 or prefix.shape[1] == 0:
            raise ValueError(
                f"the prefix has shape {tuple(prefix.shape)}; a GPT needs at least one condition "
                "token per image (B, P), a start token if nothing else"
            )
        self.pending = prefix  # (B, P): goes in front of the first codes
        self.fed = 0  # image tokens

    def take(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        """The tokens (B, n) to feed now; ValueError out of order."""
        if targets.shape[1] != 1:
            raise ValueError(
                f"{targets.shape[1]} places asked for at once; this transformer gives one at a "
                "time: use groups of 1"
            )
        asked = torch.cat([positions, targets], dim=1)  # (B, n + 1)
        expected = torch.arange(self.fed, self.fed + asked.shape[1], device=asked.device)
        if bool((asked != expected).any()):
            raise ValueError(
                f"places {asked.tolist()} of the sequence are fed and asked for; the next are "
                f"{expected.tolist()}, and this transformer knows one order only"
            )
        tokens = torch.cat([self.pending, codes], dim=1)
        self.pending = codes[:, :0]
        self.fed += codes.shape[1]
        return tokens


class GPTDecoder:
    """Feeds known codes, answers logits for the next one; keys and values are cached.

    Positions and targets are places in the sequence of image tokens, 0 to T - 1: a permuter has
    been there before. `codebook_size` leaves out tokens that only conditions use. ValueError where
    `n_unmasked` reaches into codes not fed at first: they would have to see what comes later.
    """

    def __init__(
        self,
        gpt: GPT | PreparedGPT,
        prefix: Tensor,  # (B, P) int64 condition tokens
        codebook_size: int | None = None,
    ) -> None:
        self.weights = gpt if isinstance(gpt, PreparedGPT) else PreparedGPT(gpt)
        self.sequence = _Sequence(prefix)
        self.codebook_size = codebook_size
        self.cache = self.weights.new_cache(prefix.shape[0])
        self.answer = prefix.new_empty(0)

    @torch.inference_mode()
    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        """Feed codes (B, n) at their places (B, n); float32 logits (B, 1, V) for targets (B, 1)."""
        tokens = self.sequence.take(codes, positions, targets)
        if tokens.shape[1]:
            unmasked = self.weights.gpt.config.n_unmasked
            if self.cache.length == 0 and tokens.shape[1] < unmasked:
                raise ValueError(
                    f"n_unmasked is {unmasked}, but only {tokens.shape[1]} tokens are known; "
                    "decode with NaiveGPTDecoder"
                )
            features = self.weights.feed(tokens, self.cache)  # (B, 1, C)
            self.answer = self.weights.logits(features, self.codebook_size)
        return self.answer  # asked again without anything new, it is the same


class NaiveGPTDecoder:
    """The same answers without any cache: the last `block_size` tokens again at every step.

    Beyond `block_size` the context slides, which moves every token's position: nothing to cache.
    """

    def __init__(
        self,
        gpt: GPT,
        prefix: Tensor,
        codebook_size: int | None = None,
    ) -> None:
        if gpt.training:
            raise ValueError("decoding in training mode would drop features; call eval() first")
        self.gpt = gpt
        self.sequence = _Sequence(prefix)
        self.codebook_size = codebook_size
        self.tokens = prefix[:, :0]

    @torch.inference_mode()
    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        fresh = self.sequence.take(codes, positions, targets)
        self.tokens = torch.cat([self.tokens, fresh], dim=1)
        logits, _ = self.gpt(self.tokens[:, -self.gpt.block_size :])
        return logits[:, -1:, : self.codebook_size].float()


# --- published call forms ------------------------------------------------------------------------


def continue_codes(
    next_logits: NextLogits,
    known: Tensor,  # (B, n) int64, the first codes of the sequence
    steps: int,
    filters: Filters,
    callback: Callable[[int], object] | None = None,
) -> Tensor:
    """Codes (B, n + steps). Seeds come from torch's own stream, as the published loops drew."""
    batch, count = known.shape
    order = torch.arange(count + steps, device=known.device).expand(batch, -1)

    def tell(step: int, _: Tensor) -> None:
        if callback is not None:
            callback(step)

    start = F.pad(known, (0, steps), value=UNKNOWN)
    return sample_codes(next_logits, start, order, [1] * steps, filters, seeds(batch), tell)


def seeds(batch: int) -> list[torch.Generator]:
    """One generator per image, seeded from torch's own stream."""
    drawn = torch.randint(1 << 62, (batch,)).tolist()
    return [torch.Generator().manual_seed(seed) for seed in drawn]


def published_filters(
    temperature: float, is_sampling: bool, top_k: int | None, top_p: float | None = None
) -> Filters:
    """Not sampling is greedy; 0 meant "off" for top_k and top_p."""
    return Filters(temperature, top_k or None, top_p or None) if is_sampling else Filters(0.0)


def sample(
    model: GPT,
    x: Tensor,  # (B, n) int64 tokens to begin with, n >= 1
    steps: int,
    temperature: float = 1.0,
    sample: bool = False,
    top_k: int | None = None,
) -> Tensor:
    """x continued by `steps` tokens: (B, n + steps). The model is put in evaluation mode.

    Sequences longer than `block_size` see the last `block_size` tokens.
    """
    model.eval()
    fits = x.shape[1] + steps - 1 <= model.block_size and x.shape[1] >= model.config.n_unmasked
    decoder = (GPTDecoder if fits else NaiveGPTDecoder)(model, x)
    drawn = continue_codes(decoder, x[:, :0], steps, published_filters(temperature, sample, top_k))
    return torch.cat([x, drawn], dim=1)


def sample_with_past(
    x: Tensor,  # (B, n) int64 condition tokens, n >= 1
    model: GPT,
    steps: int,
    temperature: float = 1.0,
    sample_logits: bool = True,
    top_k: int | None = None,
    top_p: float | None = None,
    callback: Callable[[int], object] | None = None,
) -> Tensor:
    """The `steps` tokens (B, steps) that follow x, through the cache."""
    filters = published_filters(temperature, sample_logits, top_k, top_p)
    return continue_codes(GPTDecoder(model, x), x[:, :0], steps, filters, callback)
