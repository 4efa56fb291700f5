"""From a `Scene` to a picture with everything known about it.

Geometry and light are computed on a finer grid (`_oversampling`) and averaged; labels are the
majority of the fine samples and depth the mean over those, so that the three never disagree.
"""

from typing import NamedTuple

import numpy as np

from taming.worlds.air import develop, haze
from taming.worlds.captions import captions
from taming.worlds.noise import Noise
from taming.worlds.people import Crowd
from taming.worlds.raycast import cast, rays, sample_field
from taming.worlds.scene import FAR, Scene
from taming.worlds.sky import Light
from taming.worlds.surface import SKY, WATER, cast_shadow, cloud_shadow, cover, ground_points, shade
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


def _oversampling(height: int) -> int:
    """Fine samples per pixel and direction; small pictures get more, and so the same samples."""
    return int(np.clip(np.ceil(256 / height), 2, 4))


def render(scene: Scene, size: tuple[int, int]) -> Rendered:
    """Renders at size (H, W). A scene with people needs the extra `people`."""
    height, width = size
    k = _oversampling(height)
    terrain, light = Terrain(scene), Light(scene)
    view = rays(scene, height * k, width * k)
    field = sample_field(terrain, scene, view.right)
    hits = cast(field, view.up)
    water = Water(field, view, hits)
    crowd = Crowd(scene, terrain, light)
    detail = Noise(np.random.default_rng((scene.seed, 12)))

    land = np.isfinite(hits.z) & ~water.mask
    sky = ~land & ~water.mask
    up = np.broadcast_to(view.up[:, None], hits.z.shape)
    right = np.broadcast_to(view.right, hits.z.shape)
    depth = np.minimum(np.where(water.mask, water.z, hits.z), FAR).astype(np.float32)
    colour = np.zeros((*hits.z.shape, 3), np.float32)
    label = np.zeros(hits.z.shape, np.uint8)
    owner = np.full(hits.z.shape, -1, np.int8)

    def veil(lit: np.ndarray, at: np.ndarray | tuple[np.ndarray, ...]) -> np.ndarray:
        return haze(scene, light, lit, depth[at], right[at], up[at], field.camera)

    colour[sky] = light(right[sky], up[sky])
    points = ground_points(field, view, hits, land)
    covered = cover(scene, points, detail)
    label[land] = covered.label
    shadow = cast_shadow(field, light, points) * cloud_shadow(scene, points, detail)
    shadow *= crowd.shadow_on(points.x, points.y, points.z)
    lit = shade(light, covered.albedo, points, shadow, crowd.contact_on(points.x, points.z))
    colour[land] = veil(lit, land)
    if water.mask.any():
        label[water.mask] = WATER
        wet = water_colour(scene, light, field, view, water, colour, detail)
        colour[water.mask] = veil(wet, water.mask)
    for person, drawn in enumerate(crowd.draw(view, field.camera)):
        nearer = drawn.z < depth.ravel()[drawn.pixel]
        at = np.unravel_index(drawn.pixel[nearer], depth.shape)
        depth[at], label[at], owner[at] = drawn.z[nearer], drawn.label[nearer], person
        colour[at] = veil(drawn.colour[nearer], at)

    image = develop(scene, light, _mean(colour, k))
    labels, settled = _settle(label, depth, k)
    joints, boxes = crowd.keypoints(view, field.camera, owner, depth, labels)
    told = captions(scene, labels)
    return Rendered(image, settled, labels, joints, boxes, told, scene.biome)


def _mean(fine: np.ndarray, k: int) -> np.ndarray:
    """Averages k x k samples; a glint counts as four times white at most."""
    bounded = np.minimum(fine, 4.0)
    return np.add.reduce(_planes(bounded, k)) / np.float32(k * k)


def _planes(fine: np.ndarray, k: int) -> list[np.ndarray]:
    return [fine[i::k, j::k] for i in range(k) for j in range(k)]


def _settle(label: np.ndarray, distance: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Majority label of each k x k block, and the mean depth of the samples that carry it."""
    blocks, depths = _planes(label, k), _planes(distance, k)
    winner, most = blocks[0].copy(), np.zeros(blocks[0].shape, np.uint8)
    for candidate in blocks:
        votes = sum((candidate == block).astype(np.uint8) for block in blocks)
        winner = np.where(votes > most, candidate, winner)
        most = np.maximum(votes, most)
    total = sum(
        np.where(block == winner, depth, 0) for block, depth in zip(blocks, depths, strict=True)
    )
    return winner, np.where(winner == SKY, FAR, total / most).astype(np.float32)
