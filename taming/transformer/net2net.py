"""The published second stage: codes of a picture, modelled after the codes of its condition.

    c -cond_stage_model-> prefix (B,P)      x -first_stage_model-> -permuter-> codes (B,T)
    p(codes | prefix) = prod_i p(code_i | prefix, codes before i)      `transformer`, one sequence

Condition tokens and image tokens share one table, unshifted; the permuter and the loss are for
image tokens alone. Esser et al., arXiv 2012.09841, section 3.2. Loads the published checkpoints key
for key. A plain module: how it is trained, and with what optimiser, is told elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from taming.checkpoint import LoadReport, load_weights, read_state_dict
from taming.cond_stage.prefix_tokens import SOSProvider
from taming.config import instantiate_model
from taming.data.published_batch import read_input
from taming.first_stage.plain_module import PlainModule
from taming.first_stage.vqgan import VQModel
from taming.sampling.autoregressive import NextLogits
from taming.sampling.filters import Filters, apply_filters, draw
from taming.transformer import net2net_log
from taming.transformer.gpt import GPT
from taming.transformer.gpt_decoder import (
    GPTDecoder,
    NaiveGPTDecoder,
    PreparedGPT,
    continue_codes,
    published_filters,
    seeds,
)
from taming.transformer.permuter import Identity

IS_FIRST_STAGE = "__is_first_stage__"  # the condition is a picture, read by the first stage itself
IS_UNCONDITIONAL = "__is_unconditional__"  # a start token instead of a condition


class Net2NetTransformer(PlainModule):
    """p(codes | condition), with a frozen first stage and a frozen or weightless condition stage.

    `cond_stage_config` is `{target, params}` of anything with `encode(c) -> (values, loss, (...,
    indices))`, or one of the two words above. ValueError where the transformer's vocabulary is
    smaller than that of a stage.
    """

    def __init__(
        self,
        transformer_config: Mapping[str, Any],
        first_stage_config: Mapping[str, Any],
        cond_stage_config: Mapping[str, Any] | str,
        permuter_config: Mapping[str, Any] | None = None,  # None: row by row
        ckpt_path: str | Path | None = None,
        ignore_keys: Sequence[str] = (),  # beginnings of keys not to be read from ckpt_path
        first_stage_key: str = "image",
        cond_stage_key: str = "depth",
        downsample_cond_size: int = -1,  # side of the square map to encode; -1: as it comes
        pkeep: float = 1.0,  # share of codes that training feeds as they are, not at random
        sos_token: int = 0,
        unconditional: bool = False,
    ) -> None:
        super().__init__()
        self.first_stage_key = first_stage_key
        self.cond_stage_key = cond_stage_key
        self.downsample_cond_size = downsample_cond_size
        self.pkeep = pkeep
        self.sos_token = sos_token
        self.be_unconditional = unconditional
        self.first_stage_model: VQModel = instantiate_model(first_stage_config)
        self.cond_stage_model: Any = self._build_cond_stage(cond_stage_config)
        self.permuter: nn.Module = (
            instantiate_model(permuter_config) if permuter_config is not None else Identity()
        )
        self.transformer: GPT = instantiate_model(transformer_config)
        for frozen in (self.first_stage_model, self.cond_stage_model):
            if isinstance(frozen, nn.Module):
                frozen.eval().requires_grad_(False)
        self._check_vocabulary()
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys)

    def _build_cond_stage(self, config: Mapping[str, Any] | str) -> Any:
        if config == IS_FIRST_STAGE:
            return self.first_stage_model
        if config == IS_UNCONDITIONAL or self.be_unconditional:
            self.be_unconditional = True
            self.cond_stage_key = self.first_stage_key
            return SOSProvider(self.sos_token)
        if isinstance(config, str):
            raise ValueError(
                f"cond_stage_config is '{config}'; give a section with target and params, "
                f'"{IS_FIRST_STAGE}" or "{IS_UNCONDITIONAL}"'
            )
        return instantiate_model(config)

    def _check_vocabulary(self) -> None:
        size = self.transformer.config.vocab_size
        for name, stage in (("first", self.first_stage_model), ("cond", self.cond_stage_model)):
            needed = getattr(stage, "codebook_size", 0)
            if needed > size:
                raise ValueError(
                    f"the {name} stage has {needed} codes, the transformer's vocab_size is {size}; "
                    f"set transformer_config.params.vocab_size to {needed} at least"
                )

    def init_from_ckpt(self, path: str | Path, ignore_keys: Sequence[str] = ()) -> LoadReport:
        """CheckpointError where the file does not fit; see `taming.checkpoint.load_weights`."""
        return load_weights(self, read_state_dict(path), ignore=ignore_keys, source=str(path))

    def train(self, mode: bool = True) -> Net2NetTransformer:
        """The stages around the transformer stay as they are: frozen."""
        super().train(mode)
        for frozen in (self.first_stage_model, self.cond_stage_model):
            if isinstance(frozen, nn.Module):
                frozen.eval()
        return self

    # --- pictures and conditions to tokens, and back ---

    @torch.no_grad()
    def encode_to_z(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B,3,H,W) -> z_q (B,D,h,w) and codes (B,T) in the order of the sequence."""
        quantized = self.first_stage_model.encode(x)
        return quantized.z_q, self.permuter(quantized.info.indices.reshape(x.shape[0], -1))

    @torch.no_grad()
    def encode_to_c(self, c: Tensor) -> tuple[Tensor, Tensor]:
        """A condition as `get_xc` gives it -> its quantized values and its tokens (B,P)."""
        if self.downsample_cond_size > -1:
            c = F.interpolate(c, size=(self.downsample_cond_size,) * 2)
        quantized, _, (_, _, indices) = self.cond_stage_model.encode(c)
        return quantized, indices.reshape(c.shape[0], -1)

    @torch.no_grad()
    def decode_to_img(self, index: Tensor, zshape: Sequence[int]) -> Tensor:
        """Codes (B,T) in the order of the sequence, shape (B,D,h,w) of z_q -> (B,3,H,W)."""
        codes = self.permuter(index, reverse=True)
        grid = rearrange(codes, "b (h w) -> b h w", h=zshape[2], w=zshape[3])
        return self.first_stage_model.decode_code(grid)

    # --- training ---

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B,T,V) for every image token given those before it, and the codes (B,T)."""
        _, target = self.encode_to_z(x)
        _, prefix = self.encode_to_c(c)
        return self.predict(target, prefix), target

    def predict(self, codes: Tensor, prefix: Tensor) -> Tensor:
        """Logits (B,T,V) for codes (B,T) in the order of the sequence, behind a prefix (B,P).

        In training a share 1 - pkeep of the codes fed is replaced by random ones, drawn from
        torch's own stream as dropout is.
        """
        fed = codes
        if self.training and self.pkeep < 1:
            is_kept = torch.bernoulli(torch.full(codes.shape, self.pkeep, device=codes.device))
            random = torch.randint_like(codes, self.transformer.config.vocab_size)
            fed = torch.where(is_kept.bool(), codes, random)
        # The answer at the last condition token is for the first image token.
        first = prefix.shape[1] - 1
        return self.transformer(torch.cat([prefix, fed], dim=1)[:, :-1], answered_from=first)[0]

    def loss(self, x: Tensor, c: Tensor) -> Tensor:
        """Cross-entropy in nats per image token: ()."""
        return _cross_entropy(*self(x, c))

    def loss_of_codes(self, codes: Tensor, prefix: Tensor) -> Tensor:
        """The same for what is encoded already: codes (B,T) in the order of the sequence."""
        return _cross_entropy(self.predict(codes, prefix), codes)

    # --- sampling ---

    def decoder(self, prefix: Tensor, prepared: PreparedGPT | None = None) -> NextLogits:
        """What `taming.sampling.sample` asks: places in the sequence, one after the other.

        `prepared` spares laying out the weights anew for every decoder.
        """
        size = self.first_stage_model.codebook_size
        if prefix.shape[1] < self.transformer.config.n_unmasked:
            return NaiveGPTDecoder(self.transformer, prefix, codebook_size=size)
        return GPTDecoder(prepared or self.transformer, prefix, codebook_size=size)

    @torch.no_grad()
    def sample(
        self,
        x: Tensor,  # (B, n) int64 codes to begin with, in the order of the sequence; n may be 0
        c: Tensor,  # (B, P) int64 condition tokens
        steps: int,
        temperature: float = 1.0,
        sample: bool = False,  # False: the most likely code at every step
        top_k: int | None = None,
        callback: Callable[[int], object] | None = None,  # is told the step
    ) -> Tensor:
        """Codes (B, n + steps) in the order of the sequence.

        ValueError in training mode and beyond `block_size`.
        """
        if self.transformer.training:
            raise ValueError("the model is in training mode; call eval() before sampling")
        filters = published_filters(temperature, sample, top_k)
        if self.pkeep > 0:
            return continue_codes(self.decoder(c), x, steps, filters, callback)
        # Trained on noise alone, the codes are independent given the condition: one pass draws all,
        # those of x included. The published form feeds the condition's tokens as the noise.
        count = x.shape[1] + steps
        if c.shape[1] == count:
            noise = c[:, x.shape[1] : -1]
        else:
            size = (len(c), steps - 1)
            noise = torch.randint(self.transformer.config.vocab_size, size, device=c.device)
        logits, _ = self.transformer(torch.cat([c, x, noise], dim=1))
        logits = logits[:, c.shape[1] - 1 :, : self.first_stage_model.codebook_size]
        return draw(logits, filters, seeds(x.shape[0]))

    def top_k_logits(self, logits: Tensor, k: int) -> Tensor:
        """Logits (..., V), float32, with all but the k highest at -inf; notebooks draw by it."""
        return apply_filters(logits, Filters(top_k=k))

    # --- batches and pictures of them ---

    def get_input(self, key: str, batch: Mapping[str, Any]) -> Tensor:
        """What a batch holds under a published key, channels first; see `published_batch`."""
        is_picture = key == self.first_stage_key
        stage = self.first_stage_model if is_picture else self.cond_stage_model
        return read_input(batch, key, getattr(getattr(stage, "config", None), "in_channels", None))

    def get_xc(self, batch: Mapping[str, Any], N: int | None = None) -> tuple[Tensor, Tensor]:
        """Pictures and conditions of (the first N of) a batch."""
        x = self.get_input(self.first_stage_key, batch)
        c = self.get_input(self.cond_stage_key, batch)
        return x[:N], c[:N]

    def log_images(
        self, batch: Mapping[str, Any], split: str = "train", **options: Any
    ) -> dict[str, Tensor]:
        """Pictures (B,3,H,W) of what goes in and what comes out; see `net2net_log`.

        `split` is what the published logger says; nothing depends on it.
        """
        return net2net_log.log_images(self, batch, **options)


def _cross_entropy(logits: Tensor, codes: Tensor) -> Tensor:
    return F.cross_entropy(rearrange(logits, "b t v -> (b t) v").float(), codes.flatten())
