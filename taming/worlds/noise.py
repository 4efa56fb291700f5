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
_FINER = 0.47  # wavelength of an octave against the one before
_TURN = np.float32(0.8 / _FINER), np.float32(0.6 / _FINER)  # a rotation hides the lattice
_APART = np.float32(36.8)


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
        part_x, part_y = np.floor(x), np.floor(y)
        cell, across = part_y.astype(np.int32), part_x.astype(np.int32)
        cell &= _SIDE - 1
        cell <<= _BITS
        across &= _SIDE - 1
        cell |= across
        fade_x = _fade(np.subtract(x, part_x, out=part_x))
        fade_y = _fade(np.subtract(y, part_y, out=part_y))
        c = self._table.take(cell, axis=0)
        value = c[..., 3] * fade_x
        value += c[..., 2]
        value *= fade_y
        fade_x *= c[..., 1]
        value += fade_x
        value += c[..., 0]
        return value

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
        total = np.zeros(x.shape, np.float32)
        norm = sum(octaves.gain**i for i in range(octaves.count))
        amplitude, wavelength = 1.0 / norm, octaves.wavelength
        x, y = x * np.float32(1.0 / wavelength), y * np.float32(1.0 / wavelength)
        for octave in range(octaves.count):
            rows = len(x)
            if footprint is not None:
                rows = min(rows, int(np.searchsorted(footprint[:, 0] * 2.0, wavelength)))
            if not rows:
                break
            if octave:  # finer and turned
                x, y = x[:rows], y[:rows]
                x, y = _TURN[0] * x - _TURN[1] * y, _TURN[1] * x + _TURN[0] * y
                x += _APART
            layer = self(x[:rows], y[:rows])
            if octaves.ridge:
                crest = np.abs(layer)
                crest *= np.float32(-2.0 * octaves.ridge)
                layer *= np.float32(1.0 - octaves.ridge)
                layer += crest
                layer += np.float32(octaves.ridge)
            if footprint is not None:
                layer *= np.minimum(wavelength / (footprint[:rows] * 2.0) - 1.0, 1.0)
            layer *= np.float32(amplitude)
            total[:rows] += layer
            amplitude *= octaves.gain
            wavelength *= _FINER
        return total


def _fade(t: np.ndarray) -> np.ndarray:
    faded = t * np.float32(-2.0)
    faded += np.float32(3.0)
    faded *= t
    faded *= t
    return faded


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth in between; float32 stays float32."""
    return _fade(np.clip((value - np.float32(low)) / np.float32(high - low), 0.0, 1.0))
