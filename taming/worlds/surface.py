"""What covers the ground where a ray meets it, in which colour, and how light falls on it."""

from typing import NamedTuple

import numpy as np

from taming.worlds.noise import Noise, smoothstep
from taming.worlds.scene import Scene
from taming.worlds.sky import Light
from taming.worlds.terrain import Terrain

LABELS = (
    "sky",
    "water",
    "sand",
    "grass",
    "forest",
    "rock",
    "snow",
    "skin",
    "hair",
    "top",
    "bottoms",
    "shoes",
)
SKY, WATER, SAND, GRASS, FOREST, ROCK, SNOW = range(7)


class Points(NamedTuple):
    """Ground points that rays meet, all (n,)."""

    x: np.ndarray
    y: np.ndarray  # height above the water
    z: np.ndarray
    bare: np.ndarray
    crown: np.ndarray
    slope_x: np.ndarray
    slope_z: np.ndarray


class Cover(NamedTuple):
    label: np.ndarray  # (n,) uint8
    albedo: np.ndarray  # (n,3)


def _rgb(*rows: tuple[float, float, float]) -> np.ndarray:
    """sRGB triples as linear light."""
    return (np.array(rows, np.float32) / 255.0) ** 2.2


_SAND = _rgb((224, 202, 158), (206, 128, 78))  # pale, red
_GRASS = _rgb((92, 124, 44), (188, 164, 92))  # lush, straw
_BROAD = _rgb((58, 92, 34), (70, 92, 40))
_PINE = _rgb((34, 62, 38), (46, 70, 40))
_AUTUMN = _rgb((196, 120, 30), (160, 62, 28))
_ROCK = _rgb((128, 124, 120), (176, 98, 62))  # grey, red
_SNOW = _rgb((240, 244, 250))[0]


def cover(scene: Scene, terrain: Terrain, p: Points, detail: Noise) -> Cover:
    """Label and colour of each point; patches follow height, slope and noise."""
    c = scene.cover
    px, pz = p.x + np.float32(scene.place[0]), p.z + np.float32(scene.place[1])
    broad = detail(px / 43.0, pz / 43.0)
    middle = _faded(detail, px, pz, 6.1, p.z)
    fine = _faded(detail, px, pz, 0.9, p.z)
    grain = _faded(detail, px * 2.0, pz, 0.23, p.z)
    patch = 0.6 * broad + 0.4 * middle
    mix = (0.5 + 0.5 * patch)[:, None]
    grass = _GRASS[0] + (np.clip(c.dry + 0.28 * patch, 0, 1))[:, None] * (_GRASS[1] - _GRASS[0])
    grass = grass * (1.0 + 0.16 * fine + 0.22 * grain + 0.12 * middle)[:, None]
    rock = _ROCK[0] + np.float32(c.red) * (_ROCK[1] - _ROCK[0])
    band = detail(p.y / 5.0, 0.05 * broad + 0 * p.y) if scene.relief.terrace else middle
    rock = rock * (1.0 + 0.22 * band + 0.18 * fine + 0.12 * grain)[:, None]
    sand = _SAND[0] + np.float32(c.red * 0.7) * (_SAND[1] - _SAND[0])
    sand = sand * (1.0 + 0.05 * broad + 0.05 * fine + 0.07 * grain)[:, None]
    steep = np.sqrt(p.slope_x**2 + p.slope_z**2) + 0.12 * middle
    albedo, label = grass, np.full(len(p.x), GRASS, np.uint8)

    def lay(amount: np.ndarray, colour: np.ndarray, name: int) -> None:
        nonlocal albedo
        albedo = albedo + amount[:, None] * (colour - albedo)
        label[amount > 0.5] = name

    if c.sand_height > -5:
        edge = c.sand_height + 0.7 * broad
        lay(1.0 - smoothstep(-0.35, 0.35, p.bare - edge), sand, SAND)
        if c.sand_height < 100:  # wet at the water's edge
            wet = 1.0 - smoothstep(0.1, 0.7, p.bare)
            albedo = albedo * (1.0 - 0.45 * wet)[:, None]
    lay(smoothstep(c.rock_slope * 0.85, c.rock_slope * 1.25, steep), rock, ROCK)
    if c.snow_line < 1e3:
        snowy = smoothstep(-9.0, 9.0, p.y - c.snow_line + 14.0 * patch)
        snowy = snowy * (1.0 - smoothstep(c.rock_slope * 1.0, c.rock_slope * 1.5, steep))
        lay(snowy, _SNOW * (1.0 + 0.04 * fine[:, None]), SNOW)
    if c.trees > 0:
        conifer = np.float32(c.conifer)
        leaf = _BROAD[0] + mix * (_BROAD[1] - _BROAD[0])
        tint = smoothstep(
            0.0, 0.5, detail(px / 9.0 + 3.3, pz / 9.0) * 0.8 + np.float32(c.autumn) - 0.35
        )
        leaf = leaf + (np.float32(c.autumn > 0) * tint)[:, None] * (
            _AUTUMN[0] + mix * (_AUTUMN[1] - _AUTUMN[0]) - leaf
        )
        if c.dry > 0.6:
            leaf = leaf * 0.8 + 0.2 * _GRASS[1] * 0.6
        needle = _PINE[0] + mix * (_PINE[1] - _PINE[0])
        leaf = leaf + conifer * (needle - leaf)
        leaf = leaf * (0.45 + 0.75 * p.crown + 0.25 * fine)[:, None]
        if c.snow_line < 0:  # snow lies on branches
            leaf = leaf + (0.55 * smoothstep(0.3, 0.9, p.crown + 0.25 * fine))[:, None] * (
                _SNOW - leaf
            )
        lay(np.minimum(p.crown * 8.0, 1.0), leaf, FOREST)
    return Cover(label, np.clip(albedo, 0.0, 1.0))


def _faded(noise: Noise, x: np.ndarray, z: np.ndarray, wavelength: float, distance: np.ndarray):
    """Noise that dies out where its waves become smaller than a pixel."""
    weight = np.clip(wavelength / (distance * 0.012) - 0.6, 0.0, 1.0)
    near = np.flatnonzero(weight > 0)
    value = np.zeros(len(x), np.float32)
    value[near] = noise(x[near] / wavelength, z[near] / wavelength) * weight[near]
    return value


def shade(light: Light, albedo: np.ndarray, p: Points, shadow: np.ndarray) -> np.ndarray:
    """Direct light times shadow (1 = lit), dome light from above, bounce from below: (n,3)."""
    scale = 1.0 / np.sqrt(p.slope_x**2 + p.slope_z**2 + 1.0)
    sun = light.towards
    facing = (sun[1] - p.slope_x * sun[0] - p.slope_z * sun[2]) * scale
    leafy = p.crown > 0
    wrap = np.where(leafy, 0.35, 0.08).astype(np.float32)  # crowns let light through
    facing = np.clip((facing + wrap) / (1.0 + wrap), 0.0, 1.0)
    up = 0.5 + 0.5 * scale
    open_sky = up * np.where(leafy, 0.55 + 0.45 * p.crown, 1.0)
    total = (facing * shadow)[:, None] * light.direct + open_sky[:, None] * light.ambient
    return albedo * (total + (1.0 - up)[:, None] * light.bounce)
