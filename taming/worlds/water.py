"""Water: the plane at height 0, its waves, what it mirrors, the path of the sun on it."""

import numpy as np

from taming.worlds.noise import Noise, smoothstep
from taming.worlds.raycast import Field, Hits, Rays, cast
from taming.worlds.scene import FAR, Scene
from taming.worlds.sky import Light


class Water:
    """Where a picture shows water, how far it is, and how far the ground beneath the ray."""

    def __init__(self, field: Field, view: Rays, hits: Hits) -> None:
        down = view.up < -1e-5
        plane = np.where(down, field.camera / np.maximum(-view.up, 1e-5), np.inf)[:, None]
        self.z = np.broadcast_to(plane, hits.z.shape)  # (H,W)
        self.mask = (self.z < hits.z) & np.isfinite(self.z)
        self.bottom = hits.z


def water_colour(
    scene: Scene,
    light: Light,
    field: Field,
    view: Rays,
    water: Water,
    picture: np.ndarray,
    noise: Noise,
) -> np.ndarray:
    """Linear colour of each water sample (n,3), without haze; mirrors the land in `picture`."""
    row, column = np.nonzero(water.mask)
    z = water.z[water.mask].astype(np.float32)
    right, up = view.right[column], view.up[row]
    x = z * right
    wind = scene.sky.wind

    # Waves tilt the mirror; waves smaller than a pixel only blur it.
    def wave(length: float, px: np.ndarray, pz: np.ndarray) -> np.ndarray:
        keep = np.clip(length / (z * 0.010) - 0.4, 0.0, 1.0)
        return noise(px / np.float32(length), pz / np.float32(length)) * keep

    tilt = 0.5 * wave(7.0, x * 0.45, z) + 0.35 * wave(2.1, x * 0.5, z) + 0.3 * wave(0.6, x * 0.6, z)
    swing = 0.5 * wave(3.1, x + 31.0, z * 1.4) + 0.4 * wave(0.9, x + 11.0, z * 1.3)
    tilt, swing = tilt * (0.03 + 0.15 * wind), swing * (0.03 + 0.12 * wind)

    # Direction of the mirrored ray; the far part of rough water mirrors higher sky.
    grazing = -up
    lift = np.abs(grazing + 1.6 * tilt + 0.02 + 0.10 * wind * np.exp(-grazing * 9.0)) + 0.004
    sky = light(right + 1.4 * swing, lift, disc=False)
    mirrored = _land_mirrored(field, view, water, picture, tilt, row, column, sky)

    cosine = grazing / np.sqrt(grazing**2 + right**2 + 1.0)
    fresnel = 0.03 + 0.97 * (1.0 - np.clip(cosine + 0.8 * tilt + 0.05 * wind, 0.02, 1.0)) ** 5
    deep = np.array([0.012, 0.055, 0.075], np.float32) + np.array(
        [0.0, 0.012, 0.02], np.float32
    ) * (1 - light.grey)
    shoal = np.array([0.10, 0.34, 0.32], np.float32)
    level = light.ambient * 0.9 + light.direct * 0.45 * max(float(light.towards[1]), 0.05)
    bottom = np.minimum(water.bottom[water.mask], FAR)
    depth = (bottom - z) * grazing  # of the water under the ray
    body = deep + np.exp(-np.maximum(depth, 0.0) * 0.55)[:, None] * (shoal - deep)
    colour = body * level
    colour = colour + np.clip(fresnel, 0, 1)[:, None] * (mirrored - colour)
    colour = colour + _glitter(light, right, up, tilt, swing, wind, wave(0.33, x, z * 0.6), z)
    # Foam where it becomes shallow.
    surf = wave(5.0, x, z) * 0.5 + wave(1.3, x, z) * 0.5
    foam = smoothstep(0.25, 0.9, np.exp(-np.maximum(depth, 0.0) * 3.0) + 0.35 * surf - 0.1)
    foam = (foam * (0.25 + 0.75 * wind) * np.float32(scene.biome != "lake"))[:, None]
    return colour + 0.85 * foam * (0.8 * level + 0.15 * light.direct - colour)


def _land_mirrored(
    field: Field,
    view: Rays,
    water: Water,
    picture: np.ndarray,
    tilt: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    sky: np.ndarray,
) -> np.ndarray:
    """`sky`, covered by the land that mirrored rays meet; its colour is read from the picture."""
    rising = np.broadcast_to(np.abs(view.up)[:, None], water.mask.shape).copy()
    rising[water.mask] = np.abs(rising[water.mask] + 0.5 * tilt) + 1e-4
    from_z = np.where(water.mask, water.z, np.inf)
    # Only ground behind the water is mirrored. Ground is left out per column, so an islet that
    # stands in the water needs a second cast, for the water behind it.
    hits = cast(field, rising, after=from_z.min(0), flip=True).z
    before = water.mask & (hits < from_z)
    if before.any():
        beyond = cast(field, rising, after=np.where(before, from_z, np.inf).min(0), flip=True).z
        hits = np.where(before, np.where(beyond < from_z, np.inf, beyond), hits)
    z = hits[water.mask]
    met = np.isfinite(z) & (z < FAR * 0.97)
    z = np.where(met, z, FAR)
    height = rising[water.mask] * z - field.camera
    up = (height - field.camera) / z
    rows = len(view.up)
    source = np.clip(((view.up[0] - up) / (view.up[0] - view.up[-1])) * (rows - 1), 0, rows - 1)
    source = np.round(source).astype(np.int32)
    usable = met & ~water.mask[source, column]
    colour = picture[source, column]
    return np.where(usable[:, None], colour, sky)


def _glitter(
    light: Light,
    right: np.ndarray,
    up: np.ndarray,
    tilt: np.ndarray,
    swing: np.ndarray,
    wind: float,
    sparkle: np.ndarray,
    z: np.ndarray,
) -> np.ndarray:
    """Sunlight from the share of facets that mirror it (Cox and Munk, JOSA 1954)."""
    length = np.sqrt(right**2 + up**2 + 1.0)
    half_x = light.towards[0] - right / length
    half_y = light.towards[1] - up / length
    half_z = light.towards[2] - 1.0 / length
    slope_x, slope_z = half_x / half_y - swing, half_z / half_y - tilt
    spread = 0.004 + 0.05 * wind
    facets = np.exp(-(slope_x**2 + slope_z**2) / (2 * spread)) / (1.0 + 12 * spread)
    glint = 0.55 + 1.1 * np.clip(sparkle, -0.4, 1.0)
    shine = facets * glint * (0.55 if light.night else 1.0)
    return np.clip(shine, 0, 4)[:, None] * light.direct * (1.2 * (1 - light.grey))
