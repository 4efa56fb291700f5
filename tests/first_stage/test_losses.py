"""Laws of the losses of the first stage."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from taming.config import ConfigError
from taming.first_stage.losses import VQLPIPSWithDiscriminator, hinge_d_loss, vanilla_d_loss


class Squares(nn.Module):
    """Stands for a perceptual network."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().mean(dim=(1, 2, 3), keepdim=True)


def build(disc_start: int = 0, **options: Any) -> VQLPIPSWithDiscriminator:
    torch.manual_seed(0)
    loss = VQLPIPSWithDiscriminator(
        disc_start, perceptual_weight=0.0, disc_ndf=4, disc_num_layers=1, **options
    )
    return loss.eval()  # batch norm that stays, so that two computations see the same network


def picture(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(self.first(x)))


def naive_gradients(loss: VQLPIPSWithDiscriminator, step: int, cap: float) -> list[Tensor]:
    """Eq. 4-7 as written, every term on the whole graph."""
    net, x = Decoder(), picture()
    r = net(x)
    nll = (x - r).abs().mean()
    adversarial = -loss.discriminator(r).mean()
    of_nll, of_adversarial = (
        torch.autograd.grad(term, net.last.weight, retain_graph=True)[0].norm()
        for term in (nll, adversarial)
    )
    weight = (of_nll / (of_adversarial + 1e-4)).clamp(0, cap).detach()
    total = nll + weight * loss.disc_weight * loss.disc_share(step) * adversarial
    return list(torch.autograd.grad(total, list(net.parameters())))


@pytest.mark.parametrize("cap", [1e4, 0.01])
def test_gradient_is_that_of_the_equations(cap: float) -> None:
    loss = build(disc_weight=0.8, max_adaptive_weight=cap)
    net, x = Decoder(), picture()
    value, _ = loss.generator_loss(torch.zeros(()), x, net(x), 0, net.last.weight)
    found = torch.autograd.grad(value, list(net.parameters()))
    for a, b in zip(found, naive_gradients(loss, 0, cap), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-7)


def test_adaptive_weight_is_capped() -> None:
    loss = build(max_adaptive_weight=0.01)
    net = Decoder()
    _, logs = loss.generator_loss(torch.zeros(()), picture(), net(picture()), 0, net.last.weight)
    assert float(logs["d_weight"]) == pytest.approx(0.01)


def test_codebook_loss_keeps_its_gradient() -> None:
    loss = build(disc_start=5, codebook_weight=3.0)
    codebook = torch.tensor(2.0, requires_grad=True)
    value, _ = loss.generator_loss(codebook, picture(), Decoder()(picture()), 0)
    value.backward()
    assert codebook.grad == 3.0


def test_value_is_the_sum_of_its_parts() -> None:
    loss = build(disc_start=5, pixelloss_weight=2.0)
    x, r = picture(), picture(1)
    value, logs = loss.generator_loss(torch.tensor(0.5), x, r, 0)
    assert float(value) == pytest.approx(2 * float((x - r).abs().mean()) + 0.5)
    assert logs["total_loss"] == value


def test_l2_is_the_squared_error() -> None:
    x, r = picture(), picture(1)
    value, _ = build(5, pixel_loss="l2").generator_loss(torch.zeros(()), x, r, 0)
    assert float(value) == pytest.approx(float((x - r).square().mean()))


def test_perceptual_distance_has_its_weight() -> None:
    loss = build(5)
    loss.perceptual_loss, loss.perceptual_weight = Squares(), 0.25
    x, r = picture(), picture(1)
    value, logs = loss.generator_loss(torch.zeros(()), x, r, 0)
    expected = (x - r).abs().mean() + 0.25 * (x - r).square().mean()
    assert float(value) == pytest.approx(float(expected))
    assert float(logs["p_loss"]) == pytest.approx(float((x - r).square().mean()))


def test_discriminator_waits_for_disc_start() -> None:
    loss = build(disc_start=10)
    net = Decoder()
    _, logs = loss.generator_loss(torch.zeros(()), picture(), net(picture()), 9, net.last.weight)
    assert "g_loss" not in logs
    value, _ = loss.discriminator_loss(picture(), picture(1), 9)
    assert value == 0
    assert loss.discriminator_loss(picture(), picture(1), 10)[0] > 0


def test_discriminator_starts_softly() -> None:
    loss = build(disc_start=10, disc_warmup=3, disc_factor=2.0)
    assert [loss.disc_share(step) for step in (9, 10, 11, 12, 13, 99)] == [0, 0.5, 1, 1.5, 2, 2]


def test_generator_leaves_the_discriminator_alone() -> None:
    loss, net = build(), Decoder()
    value, _ = loss.generator_loss(torch.zeros(()), picture(), net(picture()), 0, net.last.weight)
    value.backward()
    assert all(parameter.grad is None for parameter in loss.discriminator.parameters())


def test_discriminator_leaves_the_autoencoder_alone() -> None:
    loss, net = build(), Decoder()
    loss.discriminator_loss(picture(), net(picture()), 0)[0].backward()
    assert all(parameter.grad is None for parameter in net.parameters())
    assert all(parameter.grad is not None for parameter in loss.discriminator.parameters())


def test_hinge_is_zero_beyond_the_margin() -> None:
    assert hinge_d_loss(torch.tensor([1.5]), torch.tensor([-1.0])) == 0
    assert hinge_d_loss(torch.tensor([0.0]), torch.tensor([0.0])) == 1


def test_vanilla_is_log_two_for_the_undecided() -> None:
    assert float(vanilla_d_loss(torch.zeros(1), torch.zeros(1))) == pytest.approx(0.693147, 1e-5)


def test_lecam_holds_logits_near_the_means_of_the_other_side() -> None:
    loss = build(lecam_weight=1.0)
    x, r = picture(), picture(1)
    real, fake = loss.discriminator(x), loss.discriminator(r)
    loss.lecam_real.fill_(0.3)
    loss.lecam_fake.fill_(-0.2)
    plain = hinge_d_loss(real, fake)
    value, logs = loss.discriminator_loss(x, r, 0)
    pull = (real + 0.2).relu().square().mean() + (0.3 - fake).relu().square().mean()
    assert value.item() == pytest.approx((plain + pull).item(), rel=1e-5)
    assert float(loss.lecam_real) == pytest.approx(0.99 * 0.3 + 0.01 * float(logs["logits_real"]))


def test_published_form_gives_the_same_numbers() -> None:
    loss = build()
    x, r = picture(), picture(1)
    value, logs = loss(torch.zeros(()), x, r, 0, 0, split="val")
    assert value == loss.generator_loss(torch.zeros(()), x, r, 0)[0]
    assert {"val/total_loss", "val/rec_loss", "val/quant_loss"} <= set(logs)
    value, logs = loss(torch.zeros(()), x, r, 1, 0)
    assert value == loss.discriminator_loss(x, r, 0)[0]
    assert "train/disc_loss" in logs


def test_names_are_those_of_published_checkpoints() -> None:
    names = set(VQLPIPSWithDiscriminator(0).state_dict())
    assert "perceptual_loss.net.slice3.14.weight" in names
    assert "discriminator.main.11.bias" in names
    assert {name.split(".")[0] for name in names} == {"perceptual_loss", "discriminator"}


def test_conditional_discriminator_sees_the_condition() -> None:
    loss = build(disc_conditional=True, disc_in_channels=4)
    cond = torch.zeros(2, 1, 16, 16)
    assert loss.discriminator_loss(picture(), picture(1), 0, cond)[0] > 0
    with pytest.raises(ValueError, match="no condition was given"):
        loss.discriminator_loss(picture(), picture(1), 0)


def test_an_unknown_loss_is_named() -> None:
    with pytest.raises(ConfigError, match="disc_loss is 'hinges'; did you mean 'hinge'"):
        build(disc_loss="hinges")


def test_training_state_survives_a_round_trip() -> None:
    loss, other = build(lecam_weight=1.0), build(lecam_weight=1.0)
    loss.discriminator_loss(picture(), picture(1), 0)
    other.load_training_state(loss.training_state())
    assert other.lecam_real == loss.lecam_real != 0
