"""The patch discriminator: (B,3,H,W) -> one logit for each patch.

Isola et al., "Image-to-Image Translation with Conditional Adversarial Networks" (arXiv 1611.07004,
appendix 6.1.2): strided 4x4 convolutions, leaky ReLU, normalised but at the ends. Module names,
shapes and initialisation are those of the published checkpoints (`loss.discriminator.main.*`); do
not rename.
"""

import torch
from torch import Tensor, nn

from taming.first_stage.devices import sum_over_devices


class ActNorm(nn.Module):
    """A scale and a shift for each channel, set by the first batch to give mean 0, variance 1.

    Kingma & Dhariwal, "Glow" (arXiv 1807.03039, section 3.1). Takes (B,C,H,W) or (B,C).
    """

    initialized: Tensor

    def __init__(
        self,
        num_features: int,  # C
        logdet: bool = False,  # also return log |det| of the map (B,)
        affine: bool = True,
        allow_reverse_init: bool = False,  # the first batch may come from the other side
    ) -> None:
        super().__init__()
        if not affine:
            raise ValueError("ActNorm is a scale and a shift; affine=False would leave nothing")
        self.logdet = logdet
        self.allow_reverse_init = allow_reverse_init
        self.loc = nn.Parameter(torch.zeros(1, num_features, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, num_features, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    @torch.no_grad()
    def _initialize(self, x: Tensor) -> None:
        x, dims = x.float(), (0, 2, 3)
        # The first batch of all devices, or every device would go its own way
        count = sum_over_devices(x.new_tensor(x.numel() / x.shape[1]))
        mean = sum_over_devices(x.sum(dims, keepdim=True)) / count  # (1, C, 1, 1)
        variance = sum_over_devices((x - mean).square().sum(dims, keepdim=True)) / (count - 1)
        self.loc.copy_(-mean)
        self.scale.copy_(1.0 / (variance.sqrt() + 1e-6))
        self.initialized.fill_(1)

    def _starts(self) -> bool:
        return self.training and self.initialized.item() == 0

    def forward(self, x: Tensor, reverse: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        if reverse:
            return self.reverse(x)
        planes = x if x.ndim == 4 else x[:, :, None, None]
        if self._starts():
            self._initialize(planes)
        y = (self.scale * (planes + self.loc)).reshape(x.shape)
        if not self.logdet:
            return y
        cells = planes.shape[2] * planes.shape[3]
        return y, (cells * self.scale.abs().log().sum()).expand(len(x))

    def reverse(self, y: Tensor) -> Tensor:
        """The x of which y was made."""
        planes = y if y.ndim == 4 else y[:, :, None, None]
        if self._starts():
            if not self.allow_reverse_init:
                raise ValueError(
                    "ActNorm has seen no batch yet, so there is nothing to reverse; run it forward "
                    "first, or make it with allow_reverse_init=True"
                )
            self._initialize(planes)
        return (planes / self.scale - self.loc).reshape(y.shape)


def weights_init(module: nn.Module) -> None:
    """Convolutions from N(0, 0.02), batch norms from N(1, 0.02) (1611.07004, appendix 6.2)."""
    if isinstance(module, nn.modules.conv._ConvNd):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class NLayerDiscriminator(nn.Module):
    """`n_layers` 3 judges patches of 70 pixels, 2 of 34; H and W at least 2^(n_layers + 1)."""

    def __init__(
        self, input_nc: int = 3, ndf: int = 64, n_layers: int = 3, use_actnorm: bool = False
    ) -> None:
        super().__init__()
        self.input_nc = input_nc

        def norm(channels: int) -> nn.Module:
            return ActNorm(channels) if use_actnorm else nn.BatchNorm2d(channels)

        layers: list[nn.Module] = [nn.Conv2d(input_nc, ndf, 4, stride=2, padding=1)]
        layers.append(nn.LeakyReLU(0.2, inplace=True))
        width = ndf
        for layer in range(1, n_layers + 1):
            wider = ndf * min(2**layer, 8)
            stride = 2 if layer < n_layers else 1
            # A bias before batch norm would have no effect
            convolution = nn.Conv2d(width, wider, 4, stride, padding=1, bias=use_actnorm)
            layers += [convolution, norm(wider), nn.LeakyReLU(0.2, inplace=True)]
            width = wider
        layers.append(nn.Conv2d(width, 1, 4, stride=1, padding=1))
        self.main = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] != self.input_nc:
            raise ValueError(
                f"the discriminator is built for {self.input_nc} channels and is shown "
                f"{x.shape[1]}; set disc_in_channels to {x.shape[1]}"
            )
        return self.main(x)  # (B, 1, about H/8, W/8 with three layers)
