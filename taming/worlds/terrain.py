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

_TREE_LAYERS = ((7.0, 0.0), (5.0, 371.0))  # width of a cell in metres, shift of the grid


class Ground(NamedTuple):
    """Height of the surface seen (trees included), of the bare ground, and 0..1 crown position."""

    surface: np.ndarray
    bare: np.ndarray
    crown: np.ndarray  # 0 no tree; else 0.2 at the rim of a crown to 1 at its top


class Terrain:
    """The landscape of one scene, camera at x = z = 0."""

    def __init__(self, scene: Scene) -> None:
        rng = np.random.default_rng((scene.seed, 10))
        self._near, self._far, self._mask = Noise(rng), Noise(rng), Noise(rng)
        self._cell = rng.random((1 << 14, 4), dtype=np.float32)
        self._scene = scene
        self._shift = np.float32(scene.place[0]), np.float32(scene.place[1])

    def ground(self, x: np.ndarray, z: np.ndarray, footprint: np.ndarray | None = None) -> Ground:
        """Heights at points (x, z) in metres; `footprint` as in `Noise.fractal`."""
        bare = self._bare(x, z, footprint)
        trees, crown = self._trees(x, z, bare, footprint)
        return Ground(bare + trees, bare, crown)

    def _bare(self, x: np.ndarray, z: np.ndarray, footprint: np.ndarray | None) -> np.ndarray:
        r = self._scene.relief
        distance = np.sqrt(x * x + z * z)
        px, pz = x + self._shift[0], z + self._shift[1]
        height = np.full(np.broadcast(x, z).shape, np.float32(r.level), np.float32)
        near = Octaves(r.near_scale, 9, r.gain)
        height += np.float32(r.near) * self._near.fractal(px, pz, near, footprint)
        grow = smoothstep(r.far_start, r.far_end, distance)
        far = self._far.fractal(px, pz, Octaves(r.far_scale, 9, r.gain, r.ridge), footprint)
        far = np.maximum(far + 0.35, -0.1)
        hills = np.float32(r.far) * grow * far * (0.35 + 0.65 * np.maximum(far, 0.0))
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
        """Crests with a gentle windward and a steep lee side, 0..1."""
        bend = self._mask(x / 140.0, z / 140.0)
        phase = x / 85.0 + z / 150.0 + 0.9 * bend
        wave = phase - np.floor(phase)
        crest = np.where(wave < 0.72, wave / 0.72, (1.0 - wave) / 0.28)
        crest = smoothstep(0.0, 1.05, crest) * (0.55 + 0.45 * self._mask(x / 60.0, z / 210.0))
        return crest * smoothstep(8.0, 50.0, distance)

    def _trees(
        self, x: np.ndarray, z: np.ndarray, bare: np.ndarray, footprint: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        shape = np.broadcast(x, z).shape
        height, crown = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        cover = self._scene.cover
        if cover.trees <= 0:
            return height, crown
        distance = np.sqrt(x * x + z * z)
        growth = self.tree_growth(x, z, bare) * smoothstep(9.0, 26.0, distance)
        if footprint is not None:  # a far tree is smaller than a pixel: a little roughness is left
            growth = growth * np.clip(9.0 / (footprint * 3.0) - 1.0, 0.25, 1.0)
        for width, shift in _TREE_LAYERS:
            px = (x + (self._shift[0] + np.float32(shift))) / np.float32(width)
            pz = (z + (self._shift[1] + np.float32(shift))) / np.float32(width)
            fx, fz = np.floor(px), np.floor(pz)
            key = (fx.astype(np.int32) * 7919 + fz.astype(np.int32) * 104729) & ((1 << 14) - 1)
            draw = self._cell.take(key, axis=0)
            size = draw[..., 2]
            dx = px - fx - (0.38 + 0.24 * draw[..., 0])
            dz = pz - fz - (0.38 + 0.24 * draw[..., 1])
            radius = 0.24 + 0.14 * size
            inside = 1.0 - np.sqrt(dx * dx + dz * dz) / radius
            alive = smoothstep(0.0, 0.3, growth - draw[..., 3])
            pointed = np.float32(cover.conifer) > size
            inside = np.maximum(inside, 0.0)
            dome = np.sqrt(np.maximum(inside * (2.0 - inside), 0.0))
            form = np.where(pointed, inside * (7.0 + 8.0 * size), dome * (3.5 + 4.5 * size))
            tree = form * alive * np.float32(width / 7.0)
            crown = np.where(tree > height, 0.2 + 0.8 * inside, crown)
            height = np.maximum(height, tree)
        return height, np.where(height > 0.6, crown, 0.0)

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
