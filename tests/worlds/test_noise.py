"""Laws of the noise that landscapes are made of."""

import numpy as np

from taming.worlds.noise import Noise, Octaves, smoothstep


def _grid(n: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    axis = np.arange(n, dtype=np.float32)[:, None] * np.float32(step) + 0.3
    return np.repeat(axis, n, 1), np.repeat(axis.T, n, 0)


def test_values_stay_between_minus_one_and_one():
    value = Noise(np.random.default_rng(0))(*_grid(64, 0.37))
    assert np.abs(value).max() <= 1.0
    assert value.std() > 0.2


def test_noise_is_continuous_across_lattice_lines():
    noise = Noise(np.random.default_rng(0))
    x = np.array([[4.9999, 5.0001]], np.float32)
    y = np.array([[2.5, 2.5]], np.float32)
    assert np.ptp(noise(x, y)) < 1e-3


def test_octaves_below_the_footprint_of_a_pixel_are_left_out():
    noise = Noise(np.random.default_rng(0))
    x, y = _grid(32, 0.05)
    full, none = Octaves(8.0, 6), Octaves(8.0, 1)
    fine = noise.fractal(x, y, full, footprint=np.full((32, 1), 1e-3, np.float32))
    coarse = noise.fractal(x, y, full, footprint=np.full((32, 1), 2.5, np.float32))
    assert np.allclose(fine, noise.fractal(x, y, full), atol=1e-6)
    norm = sum(full.gain**i for i in range(full.count))
    weight = 8.0 / 5.0 - 1.0
    assert np.allclose(coarse * norm, noise.fractal(x, y, none) * weight, atol=1e-5)


def test_smoothstep_reaches_both_ends():
    assert smoothstep(1.0, 3.0, np.array([0.0, 2.0, 9.0], np.float32)).tolist() == [0.0, 0.5, 1.0]
