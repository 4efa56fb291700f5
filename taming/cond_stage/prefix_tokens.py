"""Prefix tokens of the published second stage that need no network: a class, or a start token.

They speak the language of a first stage, `encode(c) -> (c, None, [None, None, indices])`, because
that is how the published second stage asks for its condition; they are no `Condition`s, hold no
weights and leave no keys in a checkpoint. Esser et al., arXiv 2012.09841, section 3.2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from taming.cond_stage.drawing import text_card

Encoded = tuple[Tensor, None, list[Any]]  # values, no loss, [None, None, indices]


class PrefixTokens(nn.Module, ABC):
    """Base of the stages without weights. With `quantize_interface=False` only values come back."""

    def __init__(self, quantize_interface: bool = True) -> None:
        super().__init__()
        self.quantize_interface = quantize_interface

    @abstractmethod
    def encode(self, c: Tensor) -> Encoded | Tensor:
        """Values, no loss, and their tokens as a quantizer gives them; or the values alone."""

    def decode(self, c: Tensor) -> Tensor:
        """Values that are their own reconstruction."""
        return c

    def _as_quantizer(self, tokens: Tensor) -> Encoded | Tensor:
        return (tokens, None, [None, None, tokens.long()]) if self.quantize_interface else tokens


class Labelator(PrefixTokens):
    """Class ids (B,) or (B, 1) -> one token (B, 1)."""

    def __init__(self, n_classes: int, quantize_interface: bool = True) -> None:
        super().__init__(quantize_interface)
        self.n_classes = n_classes

    @property
    def codebook_size(self) -> int:
        return self.n_classes

    def encode(self, c: Tensor) -> Encoded | Tensor:
        """ValueError if an id is not in [0, n_classes)."""
        if c.ndim == 2 and c.shape[1] == 1:
            c = c[:, 0]
        if c.ndim != 1:
            raise ValueError(f"classes have shape {tuple(c.shape)}; expected one id per image (B,)")
        if c.numel() and not 0 <= int(c.min()) <= int(c.max()) < self.n_classes:
            raise ValueError(
                f"classes are in [{int(c.min())}, {int(c.max())}], the model has {self.n_classes} "
                "(n_classes of cond_stage_config)"
            )
        return self._as_quantizer(c[:, None])

    def show(self, c: Tensor, size: tuple[int, int]) -> Tensor:
        """Cards with the ids: classes (B,) -> pictures (B, 3, H, W) in [-1, 1]."""
        cards = np.stack([text_card(f"class {int(label)}", size) for label in c])
        return torch.from_numpy(cards).permute(0, 3, 1, 2) / 127.5 - 1


class SOSProvider(PrefixTokens):
    """Anything (B, ...) -> the start token (B, 1), for a model without conditions."""

    def __init__(self, sos_token: int, quantize_interface: bool = True) -> None:
        super().__init__(quantize_interface)
        self.sos_token = sos_token

    @property
    def codebook_size(self) -> int:
        return self.sos_token + 1

    def encode(self, c: Tensor) -> Encoded | Tensor:
        tokens = torch.full((c.shape[0], 1), self.sos_token, dtype=torch.long, device=c.device)
        return self._as_quantizer(tokens)
