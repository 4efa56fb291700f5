"""The ground: its height anywhere, what covers it, and the colour of that cover.

Height is a sum of fractal noise around the camera and (ridged) fractal noise that grows with
distance, bent by the biome: a ramp into the sea, a hollow for a lake, terraces, dunes. Trees are
part of the height: one cone or dome per cell of a jittered grid, so they have silhouettes, cast
shadows and hide what is behind them without any object being stored.
"""

from typing import NamedTuple

import numpy as np

from taming.worlds.noise import Noise, Octaves, smoothstep
from taming.worlds.scene import Scene

_BLOCK = 1 << 13  # points computed at once
_TREE_LAYERS = ((7.0, 0.0), (5.0, 371.0))  # width of a cell in metres, shift of the grid


class Ground(NamedTuple):
    """Height of the surface seen (trees and boulders included), and what it is."""

    surface: np.ndarray
    bare: np.ndarray
    crown: np.ndarray  # 0 no tree; else 0.2 at the rim of a crown to 1 at its top
    stone: np.ndarray  # height of a boulder, 0 where there is none


class Terrain:
    """The landscape of one scene, camera at x = z = 0."""

    def __init__(self, scene: Scene) -> None:
        rng = np.random.default_rng((scene.seed, 10))
        self._near, self._far, self._mask = Noise(rng), Noise(rng), Noise(rng)
        self._cell = rng.random((1 << 14, 4), dtype=np.float32)
        self._scene = scene
        self.move(scene.place)

    def move(self, place: tuple[float, float]) -> None:
        """Puts the camera elsewhere in the landscape."""
        self._shift = np.float32(place[0]), np.float32(place[1])

    def ground(self, x: np.ndarray, z: np.ndarray, footprint: np.ndarray | None = None) -> Ground:
        """Heights at points (x, z) in metres; `footprint` as in `Noise.fractal`."""
        x, z = np.broadcast_arrays(x, z)
        surface, bare, crown, stone = (np.empty(x.shape, np.float32) for _ in range(4))
        rows = max(_BLOCK // x.shape[1], 1)  # a few rows at a time stay in the cache
        for start in range(0, len(x), rows):
            at = slice(start, start + rows)
            wide = None if footprint is None else footprint[at]
            distance = np.sqrt(x[at] * x[at] + z[at] * z[at])
            bare[at] = self._bare(x[at], z[at], distance, wide)
            trees, crown[at] = self._trees(x[at], z[at], distance, bare[at], wide)
            stone[at] = self._stones(x[at], z[at], distance, bare[at])
            surface[at] = bare[at] + np.maximum(trees, stone[at])
        return Ground(surface, bare, crown, stone)

    def _bare(
        self, x: np.ndarray, z: np.ndarray, distance: np.ndarray, footprint: np.ndarray | None
    ) -> np.ndarray:
        r = self._scene.relief
        px, pz = x + self._shift[0], z + self._shift[1]
        height = np.full(np.broadcast(x, z).shape, np.float32(r.level), np.float32)
        near = Octaves(r.near_scale, 9, r.gain)
        height += np.float32(r.near) * self._near.fractal(px, pz, near, footprint)
        hills = np.zeros_like(height)
        if distance.max() > r.far_start:
            grow = smoothstep(r.far_start, r.far_end, distance)
            far = self._far.fractal(px, pz, Octaves(r.far_scale, 9, r.gain, r.ridge), footprint)
            far = np.maximum(far + 0.35, -0.1)
            hills += np.float32(r.far) * grow * far * (0.35 + 0.65 * np.maximum(far, 0.0))
        if r.ramp:
            angle = np.radians(r.ramp_angle)
            inland = x * np.float32(np.cos(angle)) + z * np.float32(np.sin(angle))
            inland -= np.float32(r.ramp_shift) + (10 + 0.15 * distance) * self._mask(
                px / 170.0, pz / 170.0
            )
            height += np.float32(r.ramp) * np.tanh(inland / 40.0)
            hills *= smoothstep(-20.0, 160.0, inland)
        if r.basin:
            ahead = smoothstep(6.0, 40.0, z) * (1.0 - smoothstep(r.far_start, r.far_end, distance))
            height -= np.float32(r.basin) * ahead
        height += hills
        if r.stand > -99.0:
            knoll = np.float32(r.stand) - 0.02 * distance
            around = 1.0 - smoothstep(9.0, 30.0, distance)
            height += around * np.maximum(knoll - height, 0.0)
        if r.terrace:
            step = np.float32(r.terrace)
            level = height / step
            floor = np.floor(level)
            part = level - floor
            stepped = (floor + smoothstep(0.45, 0.85, part) * 0.85 + part * 0.15) * step
            height += (stepped - height) * smoothstep(4.0, 20.0, hills)
        if r.dunes:
            height += np.float32(r.dunes) * self._dunes(px, pz, distance)
        return height

    def _dunes(self, x: np.ndarray, z: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """Crests with a gentle windward and a steep lee side, 0..1; ripples near by."""
        bend = self._mask(x / 190.0, z / 190.0) + 0.3 * self._mask(x / 61.0, z / 61.0)
        phase = x / 150.0 + z / 95.0 + 1.1 * bend
        wave = phase - np.floor(phase)
        crest = np.where(wave < 0.74, wave / 0.74, (1.0 - wave) / 0.26)
        height = 0.6 + 0.4 * self._mask(x / 120.0 + 9.1, z / 260.0)
        ripples = np.sin((x * 1.4 + z * 0.9 + 2.2 * bend * 9.0) * 2.6)
        ripples *= np.clip(1.3 - distance / 35.0, 0.0, 1.0) * 0.0022
        return crest**1.35 * height * smoothstep(8.0, 60.0, distance) + ripples

    def _trees(
        self,
        x: np.ndarray,
        z: np.ndarray,
        distance: np.ndarray,
        bare: np.ndarray,
        footprint: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Height and crown position of the trees: none right at the camera."""
        height, crown = np.zeros_like(bare), np.zeros_like(bare)
        cover = self._scene.cover
        if cover.trees <= 0 or distance.max() < 9.0:
            return height, crown
        growth = self.tree_growth(x, z, bare) * smoothstep(9.0, 26.0, distance)
        if footprint is not None:  # a far tree is smaller than a pixel: a little roughness is left
            growth = growth * np.clip(9.0 / (footprint * 3.0) - 1.0, 0.25, 1.0)
        leaves = self._leaves(x, z, footprint)
        for width, shift in _TREE_LAYERS:
            dx, dz, draw = self._in_cell(x, z, width, shift)
            size = draw[..., 2]
            radius = 0.24 + 0.14 * size
            inside = 1.0 - np.sqrt(dx * dx + dz * dz) * (1.0 + leaves) / radius
            alive = smoothstep(0.0, 0.3, growth - draw[..., 3])
            pointed = np.float32(cover.conifer) > draw[..., 0]
            inside = np.maximum(inside, 0.0)
            dome = np.sqrt(np.maximum(inside * (2.0 - inside), 0.0))
            tiers = inside * 5.0 + size
            tiers -= np.floor(tiers)
            spire = inside * (1.0 + 0.10 * tiers)
            form = np.where(pointed, spire * (6.0 + 7.0 * size), dome * (2.4 + 3.6 * size))
            tree = form * alive * np.float32(width / 7.0)
            crown = np.where(tree > height, 0.2 + 0.8 * inside, crown)
            height = np.maximum(height, tree)
        return height, np.where(height > 0.15, crown, 0.0)

    def _leaves(self, x: np.ndarray, z: np.ndarray, footprint: np.ndarray | None) -> np.ndarray:
        """Unevenness of crowns, which makes domes and cones into trees."""
        octaves = Octaves(1.5, 3, 0.7)
        if footprint is not None and footprint[0, 0] * 2 > octaves.wavelength:
            return np.zeros_like(x)
        px, pz = x + self._shift[0], z + self._shift[1]
        return 1.0 * self._near.fractal(px, pz, octaves, footprint)

    def _in_cell(
        self, x: np.ndarray, z: np.ndarray, width: float, shift: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets from the one thing that may stand in a point's grid cell, and its four draws."""
        x, z = x + (self._shift[0] + np.float32(shift)), z + (self._shift[1] + np.float32(shift))
        # Turned and bent, so that nothing stands in rows.
        bend = 0.55 * self._mask(x / 19.0, z / 19.0)
        px = (np.float32(0.86) * x - np.float32(0.51) * z) / np.float32(width) + bend
        pz = (np.float32(0.51) * x + np.float32(0.86) * z) / np.float32(width) - bend
        fx, fz = np.floor(px), np.floor(pz)
        key = (fx.astype(np.int32) * 7919 + fz.astype(np.int32) * 104729) & ((1 << 14) - 1)
        draw = self._cell.take(key, axis=0)
        dx = px - fx - (0.36 + 0.28 * draw[..., 0])
        dz = pz - fz - (0.36 + 0.28 * draw[..., 1])
        return dx, dz, draw

    def _stones(
        self, x: np.ndarray, z: np.ndarray, distance: np.ndarray, bare: np.ndarray
    ) -> np.ndarray:
        """Boulders: flat lumps of up to a metre, some half in the ground or the water."""
        share = self._scene.cover.boulders
        reach = 11.0 if self._scene.people else 6.0
        if share <= 0 or distance.min() > 160.0 or distance.max() < reach:
            return np.zeros_like(bare)
        width = 4.6
        dx, dz, draw = self._in_cell(x, z, width, 57.0)
        size = draw[..., 2] ** 3
        radius = (0.03 + 0.15 * size) * (1.0 + 0.5 * self._near(x * 2.3, z * 2.3))
        inside = np.maximum(1.0 - (dx * dx + 1.4 * dz * dz) / (radius * radius), 0.0)
        present = (draw[..., 3] < share) & (distance > reach) & (bare > -0.6)
        return np.where(present, np.sqrt(inside) * radius * np.float32(width * 0.75), 0.0)

    def tree_growth(self, x: np.ndarray, z: np.ndarray, bare: np.ndarray) -> np.ndarray:
        """0..1.2: how well trees grow at a place."""
        scene = self._scene
        px, pz = x + self._shift[0], z + self._shift[1]
        patch = (
            self._mask(px / 130.0 + 7.7, pz / 130.0) * 0.6 + self._mask(px / 31.0, pz / 31.0) * 0.4
        )
        growth = np.clip(np.float32(scene.cover.trees * 1.5 - 0.25) + 0.9 * patch, 0.0, 1.2)
        shore = max(scene.cover.sand_height if scene.cover.sand_height < 100 else 0.0, 0.0) + 0.8
        growth = growth * smoothstep(shore, shore + 1.5, bare)
        line = scene.cover.snow_line
        if line > 0:
            growth = growth * (1.0 - smoothstep(line * 0.75, line * 1.05, bare))
        return growth
