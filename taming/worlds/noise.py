"""Fractal value noise over the plane, vectorised and cheap enough to draw landscapes with.

One table of random values per seed; a point is interpolated between the four values around it
with a cubic fade (Perlin, "An Image Synthesizer", SIGGRAPH 1985; the value form of it). The four
values are stored as the coefficients of that interpolation, so that a point costs one gather.
Octaves finer than the footprint of a pixel are faded out: this is what keeps distant ground calm.
"""

from typing import NamedTuple

import numpy as np

_BITS = 7
_SIDE = 1 << _BITS
_TURN = np.float32(0.8), np.float32(0.6)  # a rotation between octaves hides the lattice


class Octaves(NamedTuple):
    """`count` layers, the coarsest `wavelength` metres long, each `gain` times the one before."""

    wavelength: float
    count: int
    gain: float = 0.5
    ridge: float = 0.0  # 0 rolling, 1 sharp crests


class Noise:
    """A field of random values, smooth in between, that repeats after 128 lattice cells."""

    def __init__(self, rng: np.random.Generator) -> None:
        value = rng.random((_SIDE, _SIDE), dtype=np.float32) * 2 - 1
        right, below = np.roll(value, -1, 1), np.roll(value, -1, 0)
        across = np.roll(below, -1, 1)
        table = (value, right - value, below - value, value - right - below + across)
        self._table = np.ascontiguousarray(np.stack(table, -1).reshape(-1, 4))

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Values in [-1, 1] at lattice coordinates x, y (float32, one shape)."""
        floor_x, floor_y = np.floor(x), np.floor(y)
        fade_x, fade_y = _fade(x - floor_x), _fade(y - floor_y)
        cell = floor_y.astype(np.int32) & (_SIDE - 1)
        cell <<= _BITS
        cell |= floor_x.astype(np.int32) & (_SIDE - 1)
        c = self._table.take(cell, axis=0)
        return c[..., 0] + c[..., 1] * fade_x + fade_y * (c[..., 2] + c[..., 3] * fade_x)

    def fractal(
        self,
        x: np.ndarray,
        y: np.ndarray,
        octaves: Octaves,
        footprint: np.ndarray | None = None,
    ) -> np.ndarray:
        """Sum of octaves, about [-1, 1], at positions in metres.

        `footprint` is the width of a pixel in metres for each row of x (N,1), ascending; an octave
        shorter than about two footprints is left out, and rows where none is left cost nothing.
        """
        total = np.zeros(np.broadcast(x, y).shape, np.float32)
        amplitude, norm, wavelength = 1.0, 0.0, octaves.wavelength
        for _ in range(octaves.count):
            rows = len(total)
            if footprint is not None:
                rows = int(np.searchsorted(footprint[:, 0] * 2.0, wavelength))
            norm += amplitude
            if rows:
                layer = self(x[:rows] / np.float32(wavelength), y[:rows] / np.float32(wavelength))
                if octaves.ridge:
                    crest = 1.0 - 2.0 * np.abs(layer)
                    layer += np.float32(octaves.ridge) * (crest - layer)
                if footprint is not None:
                    layer *= np.minimum(wavelength / (footprint[:rows] * 2.0) - 1.0, 1.0)
                layer *= np.float32(amplitude)
                total[:rows] += layer
                x, y = _TURN[0] * x - _TURN[1] * y, _TURN[1] * x + _TURN[0] * y
                x = x + np.float32(wavelength * 17.3)
            amplitude *= octaves.gain
            wavelength *= 0.47
        return total / np.float32(norm)


def _fade(t: np.ndarray) -> np.ndarray:
    return t * t * (3.0 - 2.0 * t)


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth in between; float32 stays float32."""
    return _fade(np.clip((value - np.float32(low)) / np.float32(high - low), 0.0, 1.0))
