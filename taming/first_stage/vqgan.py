"""The first stage: a picture as a grid of codebook indices, and back.

    x (B,3,H,W) -encoder-> -quant_conv-> (B,D,h,w) -quantize-> z_q -post_quant_conv-> -decoder-> x

Esser et al., arXiv 2012.09841, section 3.1. Plain modules: how they are trained is told elsewhere.
`VQModel` loads the published checkpoints key for key. The losses, where a config asks for them,
hang at `.loss` and may be deleted.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taming.checkpoint import LoadReport, load_weights, read_first_stage
from taming.config import from_mapping, instantiate_model
from taming.first_stage.autoencoder import AutoencoderConfig, Decoder, Encoder
from taming.first_stage.hub import HubMixin
from taming.first_stage.losses import VQLPIPSWithDiscriminator
from taming.first_stage.published_calls import PublishedCalls
from taming.first_stage.quantize import VectorQuantizer2
from taming.first_stage.quantize_base import Quantized, Quantizer
from taming.first_stage.quantize_gumbel import GumbelQuantizer
from taming.first_stage.quantize_published import EMAVectorQuantizer, GumbelQuantize

logger = logging.getLogger(__name__)


class VQModel(HubMixin, PublishedCalls):
    """Images in [-1, 1] to codes in [0, V) and back; H and W are multiples of `downsample_factor`.

    `quantizer` is `{target, params}` of any `Quantizer`; it is given V = `n_embed` as `n_e` and
    D = `embed_dim` as `e_dim`. Without it the quantizer is the published one.
    """

    loss: nn.Module | None
    quantize: Quantizer

    def __init__(
        self,
        ddconfig: Mapping[str, Any],  # `AutoencoderConfig`
        lossconfig: Mapping[str, Any] | None = None,  # {target, params}; None: not for training
        n_embed: int = 1024,  # V
        embed_dim: int = 256,  # D
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),  # beginnings of keys not to be read from ckpt_path
        image_key: str = "image",
        colorize_nlabels: int
        | None = None,  # for label maps: makes the colours of pictures of them
        monitor: str | None = None,
        remap: str | None = None,
        sane_index_shape: bool = False,
        quantizer: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.config = from_mapping(AutoencoderConfig, ddconfig, "ddconfig")
        self.image_key = image_key  # of batches: what is encoded
        self.monitor = monitor
        self.encoder = Encoder(self.config)
        self.decoder = Decoder(self.config)
        self.loss = instantiate_model(lossconfig) if lossconfig is not None else None
        if quantizer is None:
            self.quantize = self._own_quantizer(n_embed, embed_dim, remap, sane_index_shape)
        else:
            given = {} if remap is None else {"remap": remap}
            self.quantize = instantiate_model(quantizer, n_e=n_embed, e_dim=embed_dim, **given)
        self.quant_conv = nn.Conv2d(self.config.z_channels, embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(embed_dim, self.config.z_channels, 1)
        if colorize_nlabels is not None:
            self.register_buffer("colorize", torch.randn(3, colorize_nlabels, 1, 1))
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys)

    def _own_quantizer(
        self, n_embed: int, embed_dim: int, remap: str | None, sane_index_shape: bool
    ) -> Quantizer:
        """What a config without `quantizer` means."""
        return VectorQuantizer2(
            n_embed, embed_dim, beta=0.25, remap=remap, sane_index_shape=sane_index_shape
        )

    @property
    def downsample_factor(self) -> int:
        """f: one code stands for f x f pixels."""
        return self.config.downsample_factor

    @property
    def codebook_size(self) -> int:
        """V: indices are in [0, V)."""
        return self.quantize.codebook_size

    def encode(self, x: Tensor) -> Quantized:
        """x (B,3,H,W) in [-1, 1] -> z_q (B,D,h,w), the quantizer's loss, and its info."""
        return self.quantize(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """(B,3,H,W) -> what the quantizer rounds: (B,D,h,w)."""
        check_size(x, self.downsample_factor)
        return self.quant_conv(self.encoder(x))  # (B, D, h, w)

    def decode(self, z_q: Tensor) -> Tensor:
        """z_q (B,D,h,w) -> (B,3,H,W), about [-1, 1], not clamped."""
        # z_q is float32 whatever the weights are
        z_q = z_q.to(self.post_quant_conv.weight.dtype)
        return self.decoder(self.post_quant_conv(z_q))

    @torch.no_grad()
    def indices(self, x: Tensor) -> Tensor:
        """x (B,3,H,W) -> int64 (B,h,w)."""
        return self.quantize.nearest(self.features(x))

    def lookup(self, indices: Tensor) -> Tensor:
        """int64 (B,h,w) -> z_q (B,D,h,w); ValueError if an index is outside the codebook."""
        if indices.ndim != 3:
            raise ValueError(
                f"indices have shape {tuple(indices.shape)}; lookup expects a grid (B, h, w)"
            )
        low, high = (int(v) for v in torch.aminmax(indices)) if indices.numel() else (0, 0)
        if low < 0 or high >= self.codebook_size:
            raise ValueError(
                f"indices are in [{low}, {high}], the codebook has {self.codebook_size} codes; "
                "were they made by another first stage?"
            )
        return self.quantize.lookup(indices)

    def decode_code(self, indices: Tensor) -> Tensor:
        """int64 (B,h,w), or (B,h*w) of a square grid -> (B,3,H,W)."""
        if indices.ndim == 2:
            side = math.isqrt(indices.shape[1])
            if side**2 != indices.shape[1]:
                raise ValueError(
                    f"{indices.shape[1]} codes are no square grid, so nothing says how they lie; "
                    "give them as (B, h, w)"
                )
            indices = indices.reshape(len(indices), side, side)
        return self.decode(self.lookup(indices))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction (B,3,H,W) and the quantizer's loss ()."""
        quantized = self.encode(x)
        return self.decode(quantized.z_q), quantized.loss

    def get_last_layer(self) -> Tensor:
        """The weight at which the adaptive weight compares gradients (2012.09841, eq. 7)."""
        return self.decoder.conv_out.weight

    def init_from_ckpt(self, path: str, ignore_keys: Sequence[str] = ()) -> LoadReport:
        """Reads weights, of a second stage's file those of its first stage.

        CheckpointError if they do not fit. `ignore_keys` are beginnings of this model's own names.
        """
        return load_weights(self, read_first_stage(path), ignore=ignore_keys, source=str(path))

    @torch.no_grad()
    def to_rgb(self, x: Tensor) -> Tensor:
        """One-hot label maps (B,N,H,W) as colours (B,3,H,W) in [-1, 1], to look at."""
        colorize = getattr(self, "colorize", None)
        if colorize is None:  # colours of no meaning, always the same
            generator = torch.Generator().manual_seed(0)
            colorize = torch.randn(3, x.shape[1], 1, 1, generator=generator)
        colours = F.conv2d(x, weight=colorize.to(x))
        low, high = colours.min(), colours.max()
        return 2.0 * (colours - low) / (high - low).clamp(min=1e-12) - 1.0


def check_size(x: Tensor, factor: int) -> None:
    """ValueError unless x is (B,C,H,W) with H and W multiples of `factor`."""
    h, w = x.shape[-2:]
    if x.ndim != 4 or h % factor or w % factor or h < factor or w < factor:
        fits = f"{max(h // factor, 1) * factor}x{max(w // factor, 1) * factor}"
        raise ValueError(
            f"images of {h}x{w} (shape {tuple(x.shape)}) do not divide by the first stage's "
            f"factor {factor}; crop or resize them to multiples of {factor}, such as {fits}"
        )


class EMAVQ(VQModel):
    """A `VQModel` whose codes follow their features instead of a gradient."""

    def _own_quantizer(
        self, n_embed: int, embed_dim: int, remap: str | None, sane_index_shape: bool
    ) -> Quantizer:
        return EMAVectorQuantizer(
            n_embed, embed_dim, beta=0.25, remap=remap, sane_index_shape=sane_index_shape
        )


class VQNoDiscModel(VQModel):
    """A `VQModel` trained without a discriminator, whatever its loss brings."""

    def __init__(
        self,
        ddconfig: Mapping[str, Any],
        lossconfig: Mapping[str, Any] | None = None,
        n_embed: int = 1024,
        embed_dim: int = 256,
        **options: Any,  # as for VQModel
    ) -> None:
        super().__init__(ddconfig, lossconfig, n_embed, embed_dim, **options)
        if isinstance(self.loss, VQLPIPSWithDiscriminator):
            self.loss.disc_factor = 0.0


class GumbelVQ(VQModel):
    """A `VQModel` that draws its codes from a softmax.

    `temperature_scheduler_config` is `{target, params}` of a callable step -> temperature.
    """

    def __init__(
        self,
        ddconfig: Mapping[str, Any],
        lossconfig: Mapping[str, Any] | None = None,
        n_embed: int = 8192,
        embed_dim: int = 256,
        temperature_scheduler_config: Mapping[str, Any] | None = None,
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),
        image_key: str = "image",
        colorize_nlabels: int | None = None,
        monitor: str | None = None,
        kl_weight: float = 1e-8,
        remap: str | None = None,
    ) -> None:
        self._kl_weight = kl_weight
        super().__init__(
            ddconfig, lossconfig, n_embed, embed_dim, ckpt_path, ignore_keys, image_key,
            colorize_nlabels, monitor, remap, sane_index_shape=True,
        )  # fmt: skip
        self.vocab_size = n_embed
        self.temperature_scheduler = (
            instantiate_model(temperature_scheduler_config)
            if temperature_scheduler_config is not None
            else None
        )

    def _own_quantizer(
        self, n_embed: int, embed_dim: int, remap: str | None, sane_index_shape: bool
    ) -> Quantizer:
        return GumbelQuantize(embed_dim, embed_dim, n_embed, kl_weight=self._kl_weight, remap=remap)

    def encode_to_prequant(self, x: Tensor) -> Tensor:
        """The published spelling of `features`."""
        return self.features(x)

    def set_step(self, step: int) -> float:
        """Moves the temperature along its schedule; called before every training step."""
        assert isinstance(self.quantize, GumbelQuantizer)
        if self.temperature_scheduler is not None:
            self.quantize.temperature = float(self.temperature_scheduler(step))
        return self.quantize.temperature
