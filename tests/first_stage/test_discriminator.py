"""Laws of the patch discriminator."""

import pytest
import torch
from torch import nn

from taming.first_stage.discriminator import ActNorm, NLayerDiscriminator, weights_init


def test_names_are_those_of_published_checkpoints() -> None:
    published = {f"main.{n}.weight" for n in (0, 2, 3, 5, 6, 8, 9, 11)}
    published |= {f"main.{n}.bias" for n in (0, 3, 6, 9, 11)}
    published |= {
        f"main.{n}.{name}"
        for n in (3, 6, 9)
        for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert set(NLayerDiscriminator(ndf=4).state_dict()) == published


def test_two_layers_end_at_number_eight() -> None:
    discriminator = NLayerDiscriminator(ndf=4, n_layers=2)
    assert discriminator.main[8].weight.shape == (1, 16, 4, 4)


@pytest.mark.parametrize("use_actnorm", [False, True])
def test_a_logit_for_each_patch(use_actnorm: bool) -> None:
    discriminator = NLayerDiscriminator(ndf=4, n_layers=3, use_actnorm=use_actnorm)
    assert discriminator(torch.zeros(2, 3, 32, 48)).shape == (2, 1, 2, 4)


def test_pictures_of_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"built for 3 channels.*set disc_in_channels to 1"):
        NLayerDiscriminator(ndf=4)(torch.zeros(2, 1, 32, 32))


def test_a_patch_has_70_pixels() -> None:
    discriminator = NLayerDiscriminator(ndf=2, n_layers=3).apply(weights_init).eval()
    x = torch.randn(1, 3, 160, 160, requires_grad=True)
    discriminator(x)[0, 0, 9, 9].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert int(rows[-1] - rows[0]) + 1 == 70


def test_initial_weights_are_small() -> None:
    convolution = nn.Conv2d(64, 64, 4)
    weights_init(convolution)
    assert abs(float(convolution.weight.std()) - 0.02) < 1e-3


def test_actnorm_normalises_its_first_batch_and_keeps_that() -> None:
    norm = ActNorm(3)
    first = torch.randn(4, 3, 8, 8) * torch.tensor([1.0, 5.0, 0.1])[None, :, None, None] + 2
    out = norm(first)
    assert torch.allclose(out.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(out.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-3)
    norm(torch.randn(4, 3, 8, 8))
    assert torch.equal(norm(first), out)
