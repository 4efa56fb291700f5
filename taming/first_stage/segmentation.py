"""A first stage of label maps, and its losses: one plane for each label, cross-entropy per plane.

Esser et al., arXiv 2012.09841, section 4.1: the condition "semantic map" is itself encoded by a
VQGAN without perceptual or adversarial loss. Inputs are one-hot (B,N,H,W) in {0, 1}; a pixel that
nobody has labelled is 0 in all planes. Outputs are logits.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from taming.first_stage.losses import FirstStageLoss, Logs
from taming.first_stage.vqgan import VQModel


class VQSegmentationModel(VQModel):
    """A `VQModel` of `n_labels` planes; `to_rgb` shows them."""

    def __init__(
        self,
        n_labels: int,  # N: in_channels and out_ch of the ddconfig
        ddconfig: Mapping[str, Any],
        lossconfig: Mapping[str, Any] | None = None,
        n_embed: int = 1024,
        embed_dim: int = 256,
        ckpt_path: str | None = None,
        ignore_keys: Sequence[str] = (),
        image_key: str = "image",
        colorize_nlabels: int | None = None,  # N again, where it is given
        monitor: str | None = None,
        remap: str | None = None,
        sane_index_shape: bool = False,
        quantizer: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            ddconfig, lossconfig, n_embed, embed_dim, ckpt_path, ignore_keys, image_key,
            colorize_nlabels or n_labels, monitor, remap, sane_index_shape, quantizer,
        )  # fmt: skip


class BCELoss(nn.Module):
    """Cross-entropy of each plane; in the form of the other losses, with nothing to log."""

    def forward(self, prediction: Tensor, target: Tensor) -> tuple[Tensor, Logs]:
        return F.binary_cross_entropy_with_logits(prediction, target), {}


class BCELossWithQuant(FirstStageLoss):
    """Cross-entropy of each plane, and the quantizer's loss."""

    def __init__(self, codebook_weight: float = 1.0) -> None:
        super().__init__()
        self.codebook_weight = codebook_weight

    def generator_loss(
        self,
        codebook_loss: Tensor,
        inputs: Tensor,
        reconstructions: Tensor,
        step: int = 0,
        last_layer: Tensor | None = None,
        cond: Tensor | None = None,
    ) -> tuple[Tensor, Logs]:
        entropy = F.binary_cross_entropy_with_logits(reconstructions.float(), inputs.float())
        loss = entropy + self.codebook_weight * codebook_loss
        parts = {"total_loss": loss, "bce_loss": entropy, "quant_loss": codebook_loss}
        parts["rec_loss"] = entropy
        return loss, {name: value.detach().mean() for name, value in parts.items()}

    def quality(self, inputs: Tensor, reconstructions: Tensor) -> Logs:
        """The share of labelled pixels whose label is the most likely one."""
        is_labelled = inputs.amax(dim=1) > 0  # (B, H, W)
        is_right = (inputs.argmax(dim=1) == reconstructions.argmax(dim=1)) & is_labelled
        return {"accuracy": is_right.sum() / is_labelled.sum().clamp(min=1)}

    def forward(
        self, qloss: Tensor, target: Tensor, prediction: Tensor, split: str
    ) -> tuple[Tensor, Logs]:
        """The published form."""
        loss, logs = self.generator_loss(qloss, target, prediction)
        return loss, {f"{split}/{name}": value for name, value in logs.items()}
