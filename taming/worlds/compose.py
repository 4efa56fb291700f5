"""Chooses where the camera stands: a coarse look at several places, the best composed one wins."""

import numpy as np

from taming.worlds.raycast import camera_height, cast, gather, rays, sample_field
from taming.worlds.scene import Scene
from taming.worlds.terrain import Terrain

_TRIES = 6
_WATER = {"coast": (0.15, 0.55), "islands": (0.25, 0.65), "lake": (0.12, 0.45)}


def best_place(scene: Scene, rng: np.random.Generator) -> tuple[float, float]:
    """Offset into the landscape, of a few drawn, from where the view is best."""
    places = [(float(x), float(z)) for x, z in rng.uniform(0, 4000, (_TRIES, 2))]
    terrain = Terrain(scene)

    def score(place: tuple[float, float]) -> float:
        terrain.move(place)
        return _score(scene, terrain)

    return max(places, key=score)


def climb_to_people(scene: Scene) -> float:
    """Tangent by which the ground rises to where the first person stands; 0 without people."""
    if not scene.people:
        return 0.0
    terrain, person = Terrain(scene), scene.people[0]
    at = np.array([[person.x]], np.float32), np.array([[person.z]], np.float32)
    rise = float(terrain.ground(*at).bare[0, 0]) + scene.eye - camera_height(terrain, scene)
    return rise / person.z


def _score(scene: Scene, terrain: Terrain) -> float:
    """Higher is better: open view, sky and ground in balance, water where the biome promises it."""
    view = rays(scene, 20, 20)
    field = sample_field(terrain, scene, view.right, steps=64, pixel=0.02)
    hits = cast(field, view.up)
    ground = np.isfinite(hits.z)
    plane = np.where(view.up < 0, -field.camera / np.minimum(view.up, -1e-6), np.inf)[:, None]
    water = (plane < hits.z) & (plane < np.inf)
    sky = float(1 - (ground | water).mean())
    score = -6.0 * max(0.18 - sky, 0.0) - 3.0 * max(sky - 0.58, 0.0)
    # A slope right before the lens hides the landscape.
    wall = ground & ~water & (hits.z < 12.0) & (view.up > -0.12)[:, None]
    score -= 5.0 * float(wall.mean())
    share = float(water.mean())
    low, high = _WATER.get(scene.biome, (0.0, 0.1))
    if scene.biome in _WATER:  # a sea or lake needs a shore
        score -= 8.0 * max(0.10 - float((ground & ~water).mean()), 0.0)
    score -= 4.0 * max(low - share, 0.0) + 3.0 * max(share - high, 0.0)
    # Interest: a skyline that rises and falls, ground at many distances.
    depth = np.where(ground & ~water, np.log(np.maximum(hits.z, 1.0)), 7.2)
    score += 0.45 * float(depth.std())
    skyline = (~(ground | water)).sum(0)
    score += 0.12 * float(skyline.std())
    crowd = gather(field.ground.crown, hits)
    near_trees = float(((crowd > 0) & (hits.z < 45)).mean())
    return score - 1.5 * max(near_trees - 0.25, 0.0)
