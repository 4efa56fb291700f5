"""Pictures that show how far a published second stage is: what goes in, what comes out.

Names and sampling settings are the published ones. A condition is shown by its own stage
(`show(c, size)`) or, for stages with a network, as the map it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from taming.cond_stage.drawing import draw_planes

if TYPE_CHECKING:
    from taming.transformer.net2net import Net2NetTransformer

SHOWN = 4  # pictures of a batch


@torch.no_grad()
def log_images(
    model: Net2NetTransformer,
    batch: Mapping[str, Any],
    temperature: float | None = None,  # None: 1
    top_k: int | None = None,  # None: 100
    callback: Callable[[int], object] | None = None,
    count: int = SHOWN,  # pictures shown
) -> dict[str, Tensor]:
    """Pictures (B,3,H,W), about [-1, 1], of the first few of a batch.

    `inputs`, `reconstructions`; `conditioning` and what its codes keep of it, `conditioning_rec`;
    `samples_half`: the second half of the codes is drawn, `samples_nopix`: all, `samples_det`: all,
    the most likely each time.
    """
    device = model.transformer.tok_emb.weight.device
    x, c = (entry.to(device) for entry in model.get_xc(batch, count))
    quantized, codes = model.encode_to_z(x)
    condition, prefix = model.encode_to_c(c)

    def painted(known: int, is_sampling: bool) -> Tensor:
        drawn = model.sample(
            codes[:, :known], prefix, codes.shape[1] - known,
            temperature=1.0 if temperature is None else temperature, sample=is_sampling,
            top_k=100 if top_k is None else top_k, callback=callback,
        )  # fmt: skip
        return model.decode_to_img(drawn, quantized.shape)

    log = {"inputs": x, "reconstructions": model.decode_to_img(codes, quantized.shape)}
    if not model.be_unconditional:
        size = (x.shape[2], x.shape[3])
        log |= _conditions(model.cond_stage_model, c, condition, size)
    log["samples_half"] = painted(codes.shape[1] // 2, True)
    log["samples_nopix"] = painted(0, True)
    log["samples_det"] = painted(0, False)
    return log


def _conditions(
    stage: Any, c: Tensor, quantized: Tensor, size: tuple[int, int]
) -> dict[str, Tensor]:
    """What the stage can show: tokens without a picture of their own are left out."""
    show = getattr(stage, "show", map_picture)
    if show is map_picture and c.ndim != 4:
        return {}
    shown = {"conditioning": show(c, size).to(c.device)}
    if quantized.ndim == 4:  # a map of codes, so that there is something to decode
        shown["conditioning_rec"] = show(stage.decode(quantized), size).to(c.device)
    return shown


def map_picture(c: Tensor, size: tuple[int, int]) -> Tensor:
    """A ramp for one plane, colour for three, for more a colour for the largest: (B,3,H,W)."""
    if c.shape[1] != 3:
        colours = torch.from_numpy(draw_planes(c)).to(c.device)
        c = rearrange(colours, "b h w rgb -> b rgb h w") / 127.5 - 1
    return F.interpolate(c.float(), size=size, mode="nearest")
