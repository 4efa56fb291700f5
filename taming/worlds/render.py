"""From a `Scene` to a picture with everything known about it.

Geometry and light are computed on a finer grid (`_oversampling`) and averaged; labels are the
majority of the fine samples and depth the mean over those, so that the three never disagree.
"""

from typing import NamedTuple

import numpy as np

from taming.worlds.captions import captions
from taming.worlds.noise import Noise
from taming.worlds.raycast import Field, Hits, Rays, cast, rays, sample_field, slopes
from taming.worlds.scene import FAR, Scene
from taming.worlds.sky import Light
from taming.worlds.surface import SKY, WATER, Points, cover, shade
from taming.worlds.terrain import Terrain
from taming.worlds.water import Water, water_colour


class Rendered(NamedTuple):
    """One picture and its annotations, all of one size."""

    image: np.ndarray  # uint8 (H,W,3)
    depth: np.ndarray  # float32 (H,W), metres along the view axis; sky and beyond: FAR
    labels: np.ndarray  # uint8 (H,W), index into LABELS
    keypoints: np.ndarray  # float32 (N,17,3) x, y in pixels, v: 2 seen, 1 hidden, 0 outside
    boxes: np.ndarray  # float32 (N,4) x, y, width, height of what is seen of each person
    captions: list[str]
    biome: str


def _oversampling(height: int, width: int) -> int:
    return int(np.clip(np.ceil(256 / max(height, width)), 2, 4))


def render(scene: Scene, size: tuple[int, int]) -> Rendered:
    """Renders at size (H, W)."""
    height, width = size
    k = _oversampling(height, width)
    terrain, light = Terrain(scene), Light(scene)
    view = rays(scene, height * k, width * k)
    field = sample_field(terrain, scene, view.right)
    hits = cast(field, view.up)
    water = Water(field, view, hits)
    land = np.isfinite(hits.z) & ~water.mask
    detail = Noise(np.random.default_rng((scene.seed, 12)))

    up = np.broadcast_to(view.up[:, None], hits.z.shape)
    right = np.broadcast_to(view.right, hits.z.shape)
    colour = np.zeros((*hits.z.shape, 3), np.float32)
    label = np.zeros(hits.z.shape, np.uint8)
    distance = np.minimum(np.where(water.mask, water.z, hits.z), FAR).astype(np.float32)

    sky = ~land & ~water.mask
    colour[sky] = light(right[sky], up[sky])
    points = _points(field, view, hits, land)
    covered = cover(scene, terrain, points, detail)
    label[land] = covered.label
    lit = shade(light, covered.albedo, points, _shadow(field, light, points))
    colour[land] = _haze(scene, light, lit, points.z, right[land], up[land], field.camera)
    if water.mask.any():
        label[water.mask] = WATER
        wet = water_colour(scene, light, field, view, water, colour, detail)
        at = water.mask
        colour[at] = _haze(scene, light, wet, distance[at], right[at], up[at], field.camera)
    image = _develop(scene, light, _mean(colour, k))
    labels, depth = _settle(label, distance, k)
    return Rendered(
        image,
        depth,
        labels,
        np.zeros((0, 17, 3), np.float32),
        np.zeros((0, 4), np.float32),
        captions(scene, labels),
        scene.biome,
    )


def _points(field: Field, view: Rays, hits: Hits, land: np.ndarray) -> Points:
    slope_x, slope_z = slopes(field)
    row, column = np.nonzero(land)
    chosen = Hits(hits.z[land], hits.step[land], hits.part[land])

    def at(table: np.ndarray) -> np.ndarray:
        before, behind = table[chosen.step - 1, column], table[chosen.step, column]
        return before + (behind - before) * chosen.part

    z = chosen.z
    crown_table = field.ground.crown
    crown = np.maximum(crown_table[chosen.step - 1, column], crown_table[chosen.step, column])
    return Points(
        x=z * view.right[column],
        y=field.camera + z * view.up[row],
        z=z,
        bare=at(field.ground.bare),
        crown=crown,
        slope_x=at(slope_x),
        slope_z=at(slope_z),
    )


def _shadow(field: Field, light: Light, p: Points) -> np.ndarray:
    """1 where the sun reaches a point, 0 in shadow; walks towards the sun over the sampled field."""
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


def _haze(
    scene: Scene,
    light: Light,
    colour: np.ndarray,
    z: np.ndarray,
    right: np.ndarray,
    up: np.ndarray,
    camera: float,
) -> np.ndarray:
    """Air between the camera and a point; thinner with height, mist close to the ground."""
    length = z * np.sqrt(1.0 + right * right + up * up)
    rise = z * up
    thickness = np.zeros_like(z)
    for density, fall in ((scene.sky.haze, 120.0), (scene.sky.mist, 5.0)):
        if density:
            change = rise / fall
            mean = np.where(
                np.abs(change) < 1e-3, 1.0, -np.expm1(-np.clip(change, -30, 60)) / _safe(change)
            )
            thickness += density * np.exp(-camera / fall) * mean * length
    clear = np.exp(-np.minimum(thickness, 30.0))[:, None]
    air = light.air(right, np.maximum(up, 0.0) * 0.5 + 0.01)
    return air + clear * (colour - air)


def _safe(value: np.ndarray) -> np.ndarray:
    return np.where(np.abs(value) < 1e-3, 1.0, value)


def _mean(fine: np.ndarray, k: int) -> np.ndarray:
    h, w = fine.shape[0] // k, fine.shape[1] // k
    return np.minimum(fine, 4.0).reshape(h, k, w, k, 3).mean((1, 3))


def _settle(label: np.ndarray, distance: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Majority label of each k x k block, and the mean depth of the samples that carry it."""
    h, w = label.shape[0] // k, label.shape[1] // k
    block = label.reshape(h, k, w, k).transpose(0, 2, 1, 3).reshape(h, w, k * k)
    depth = distance.reshape(h, k, w, k).transpose(0, 2, 1, 3).reshape(h, w, k * k)
    votes = (block[..., None] == block[..., None, :]).sum(-1)
    winner = np.take_along_axis(block, votes.argmax(-1)[..., None], -1)
    mine = block == winner
    mean = (depth * mine).sum(-1) / mine.sum(-1)
    return winner[..., 0], np.where(winner[..., 0] == SKY, FAR, mean).astype(np.float32)


def _develop(scene: Scene, light: Light, linear: np.ndarray) -> np.ndarray:
    """Exposure, film curve and grading: linear light to sRGB bytes."""
    look = scene.look
    x = linear * np.float32(light.exposure * look.exposure * 0.95)
    balance = np.float32([1 + 0.10 * look.warmth, 1.0, 1 - 0.10 * look.warmth])
    x = x * balance
    # Narkowicz's fit of the ACES curve (2015).
    x = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0.0, 1.0)
    grey = (x @ np.float32([0.2126, 0.7152, 0.0722]))[..., None]
    x = grey + np.float32(look.saturation) * (x - grey)
    tint = np.float32(0.030 * look.tone)
    x = x + tint * (
        grey * np.float32([1.0, 0.35, -0.9]) + (1 - grey) * np.float32([-0.35, 0.05, 0.7]) * grey
    )
    x = np.clip(x, 0.0, 1.0) ** (1 / 2.2)
    x = x + np.float32(0.35 * (look.contrast - 1.0)) * np.sin((x - 0.5) * np.pi) * 0.5
    return np.clip(x * 255.0 + 0.5, 0, 255).astype(np.uint8)
