"""What covers the ground where a ray meets it, in which colour, and how light falls on it."""

from typing import NamedTuple

import numpy as np

from taming.worlds.noise import Noise, smoothstep
from taming.worlds.raycast import Field, Hits, Rays, slopes
from taming.worlds.scene import Scene
from taming.worlds.sky import Light

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
    stone: np.ndarray
    slope_x: np.ndarray
    slope_z: np.ndarray
    steep: np.ndarray  # slope of the bare ground


class Cover(NamedTuple):
    label: np.ndarray  # (n,) uint8
    albedo: np.ndarray  # (n,3)


def _rgb(*rows: tuple[float, float, float]) -> np.ndarray:
    """sRGB triples as linear light."""
    return (np.array(rows, np.float32) / 255.0) ** 2.2


_SAND = _rgb((224, 202, 158), (206, 128, 78))  # pale, red
_GRASS = _rgb((84, 104, 50), (170, 150, 94))  # lush, straw
_BLOOMS = _rgb((240, 236, 220), (228, 190, 60), (176, 96, 170), (206, 62, 52))
_BROAD = _rgb((58, 92, 34), (70, 92, 40))
_PINE = _rgb((34, 62, 38), (46, 70, 40))
_AUTUMN = _rgb((196, 120, 30), (160, 62, 28))
_ROCK = _rgb((122, 118, 114), (168, 94, 60))  # grey, red
_SNOW = _rgb((226, 232, 240))[0]


def cover(scene: Scene, p: Points, detail: Noise) -> Cover:
    """Label and colour of each point; patches follow height, slope and noise."""
    c = scene.cover
    px, pz = p.x + np.float32(scene.place[0]), p.z + np.float32(scene.place[1])
    broad = detail(px / 43.0, pz / 43.0)
    middle = _faded(detail, px, pz, 6.1, p.z)
    lean = 0.7 * p.y  # without it, noise would be drawn out down steep faces
    fine = _faded(detail, px + lean, pz - lean, 0.7, p.z)
    grain = _faded(detail, px * 1.6 + lean, pz + lean, 0.13, p.z)
    patch = 0.6 * broad + 0.4 * middle
    mix = (0.5 + 0.5 * patch)[:, None]
    grass = _GRASS[0] + (np.clip(c.dry + 0.28 * patch, 0, 1))[:, None] * (_GRASS[1] - _GRASS[0])
    grass = grass * (1.0 + 0.13 * fine + 0.30 * grain + 0.10 * middle + 0.14 * broad)[:, None]
    if c.flowers:
        bed = np.clip(0.2 + broad + 0.4 * middle, 0.0, 1.0) * np.float32(c.flowers)
        dots = smoothstep(0.35, 0.6, _faded(detail, px * 1.4, pz + lean, 0.085, p.z))
        spread = bed * np.maximum(dots, 0.25 * np.clip((p.z - 4.0) / 20.0, 0, 1))
        grass = grass + spread[:, None] * (_BLOOMS[c.bloom] - grass)
    rock = _ROCK[0] + np.float32(c.red) * (_ROCK[1] - _ROCK[0])
    band = detail(p.y / 5.0, 0.05 * broad + 0 * p.y) if scene.relief.terrace else middle
    rock = rock * (1.0 + 0.22 * band + 0.18 * fine + 0.12 * grain)[:, None]
    sand = _SAND[0] + np.float32(c.red * 0.7) * (_SAND[1] - _SAND[0])
    sand = sand * (1.0 + 0.05 * broad + 0.05 * fine + 0.07 * grain)[:, None]
    steep = p.steep + 0.12 * middle
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
    lay(np.minimum(p.stone * 20.0, 1.0), 0.75 * rock, ROCK)
    if c.snow_line < 1e3:
        snowy = smoothstep(-9.0, 9.0, p.y - c.snow_line + 14.0 * patch)
        snowy = snowy * (1.0 - smoothstep(c.rock_slope * 1.0, c.rock_slope * 1.5, steep))
        lay(snowy, _SNOW * (1.0 + 0.05 * fine + 0.05 * middle + 0.06 * broad)[:, None], SNOW)
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


def ground_points(field: Field, view: Rays, hits: Hits, land: np.ndarray) -> Points:
    slope_x, slope_z = slopes(field, field.ground.surface)
    steep = np.hypot(*slopes(field, field.ground.bare))
    row, column = np.nonzero(land)
    chosen = Hits(hits.z[land], hits.step[land], hits.part[land])

    def at(table: np.ndarray) -> np.ndarray:
        before, behind = table[chosen.step - 1, column], table[chosen.step, column]
        return before + (behind - before) * chosen.part

    z = chosen.z

    def higher(table: np.ndarray) -> np.ndarray:
        return np.maximum(table[chosen.step - 1, column], table[chosen.step, column])

    return Points(
        x=z * view.right[column],
        y=field.camera + z * view.up[row],
        z=z,
        bare=at(field.ground.bare),
        crown=higher(field.ground.crown),
        stone=higher(field.ground.stone),
        slope_x=at(slope_x),
        slope_z=at(slope_z),
        steep=at(steep),
    )


def cast_shadow(field: Field, light: Light, p: Points) -> np.ndarray:
    """1 where the sun reaches a point, 0 in shadow; walks sunwards over the sampled field."""
    lit = np.ones(len(p.x), np.float32)
    sun = light.towards
    if light.direct.max() < 0.05 or not len(p.x):
        return lit
    steps, columns = field.ground.surface.shape
    z_log = np.log(field.z[0]), (steps - 1) / np.log(field.z[-1] / field.z[0])
    first, spacing = field.right[0], (field.right[-1] - field.right[0]) / (columns - 1)
    table = field.ground.surface.ravel()
    reach = 0.6 + 0.008 * p.z
    soft = np.float32(0.035)
    travelled = reach
    for _ in range(12):
        x, z = p.x + travelled * sun[0], p.z + travelled * sun[2]
        ray = p.y + travelled * sun[1]
        z = np.maximum(z, field.z[0])
        i = ((np.log(z) - z_log[0]) * z_log[1]).astype(np.int32)
        j = ((x / z - first) / spacing).astype(np.int32)
        inside = (j >= 0) & (j < columns) & (i < steps)
        blocker = table[np.clip(i, 0, steps - 1) * columns + np.clip(j, 0, columns - 1)]
        gap = (ray - blocker) / travelled
        lit = np.where(inside, np.minimum(lit, np.clip(0.5 + gap / (2 * soft), 0, 1)), lit)
        travelled = travelled * 1.55
    return lit


def cloud_shadow(scene: Scene, p: Points, noise: Noise) -> np.ndarray:
    """1 in the sun, less where a cloud's shadow lies on the land."""
    amount = 4.0 * scene.sky.cover * (1.0 - scene.sky.cover)  # none without clouds or sun
    px, pz = p.x + np.float32(scene.place[0]), p.z + np.float32(scene.place[1])
    patch = noise(px / 150.0 + 5.1, pz / 150.0) + 0.4 * noise(px / 47.0, pz / 47.0)
    away = smoothstep(12.0, 60.0, p.z)
    return 1.0 - np.float32(0.75 * amount) * away * smoothstep(-0.1, 0.5, patch)


def shade(
    light: Light, albedo: np.ndarray, p: Points, shadow: np.ndarray, contact: np.ndarray
) -> np.ndarray:
    """Direct light times shadow (1 = lit), dome light from above, bounce from below: (n,3)."""
    scale = 1.0 / np.sqrt(p.slope_x**2 + p.slope_z**2 + 1.0)
    sun = light.towards
    facing = (sun[1] - p.slope_x * sun[0] - p.slope_z * sun[2]) * scale
    leafy = p.crown > 0
    wrap = np.where(leafy, 0.35, 0.08).astype(np.float32)  # crowns let light through
    facing = np.clip((facing + wrap) / (1.0 + wrap), 0.0, 1.0)
    up = 0.5 + 0.5 * scale
    open_sky = contact * up * np.where(leafy, 0.55 + 0.45 * p.crown, 1.0)
    total = (facing * shadow)[:, None] * light.direct + open_sky[:, None] * light.ambient
    return albedo * (total + (1.0 - up)[:, None] * light.bounce)
