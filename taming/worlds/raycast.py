"""Casting the rays of a camera against a height field, a whole picture at once.

The camera looks horizontally through a shifted lens, so every image column lies in one vertical
plane. Along that plane the ground is sampled at growing distances; the running maximum of its
elevation angle says what each row sees first (the floating horizon of Wright, "A two-space
solution to the hidden line problem", IEEE Trans. Comput. 1973). Distances are measured along the
view axis, which makes them metric depth.
"""

from typing import NamedTuple

import numpy as np

from taming.worlds.scene import FAR, Scene
from taming.worlds.terrain import Ground, Terrain

_STEPS = 360
_PIXEL = 0.0036  # tangent of the pixel that detail is made for, whatever the size rendered


class Rays(NamedTuple):
    """Tangents of columns to the right (W,) and of rows upwards (H,)."""

    right: np.ndarray
    up: np.ndarray


class Field(NamedTuple):
    """The ground along every column: N distances, W columns."""

    z: np.ndarray  # (N,)
    right: np.ndarray  # (W,)
    ground: Ground  # (N,W) each
    camera: float  # height of the camera


class Hits(NamedTuple):
    """What each ray meets; z is `inf` where it meets no ground."""

    z: np.ndarray  # (H,W)
    step: np.ndarray  # (H,W) index of the sample behind the hit, into Field.z
    part: np.ndarray  # (H,W) position between the sample before (0) and behind (1)


def rays(scene: Scene, height: int, width: int) -> Rays:
    """Through pixel centres; the vertical field of view is the scene's, whatever the shape."""
    half = float(np.tan(np.radians(scene.fov / 2)))
    right = ((np.arange(width) + 0.5) * 2 - width) / height * half
    up = scene.pitch + (1 - (np.arange(height) + 0.5) * 2 / height) * half
    return Rays(right.astype(np.float32), up.astype(np.float32))


def camera_height(terrain: Terrain, scene: Scene) -> float:
    """The camera stands `eye` above the ground, or above the water."""
    origin = np.zeros((1, 1), np.float32)
    return scene.eye + max(float(terrain.ground(origin, origin).bare[0, 0]), 0.0)


def sample_field(
    terrain: Terrain,
    scene: Scene,
    right: np.ndarray,
    steps: int = _STEPS,
    pixel: float = _PIXEL,
) -> Field:
    """The ground along the columns `right` (W,), from where the lowest row may meet it to FAR."""
    lowest = float(np.tan(np.radians(scene.fov / 2))) - scene.pitch
    nearest = max(0.6, 0.4 * scene.eye / max(lowest, 0.05))
    z = np.geomspace(nearest, FAR, steps).astype(np.float32)
    column = z[:, None]
    ground = terrain.ground(column * right, column, footprint=column * pixel)
    return Field(z, right, ground, camera_height(terrain, scene))


def cast(field: Field, up: np.ndarray, after: np.ndarray | None = None, flip: bool = False) -> Hits:
    """First ground met by the rays `up` (H,) or, one set per column, (H,W).

    `after` (W,) leaves out ground nearer than it; `flip` looks from the camera's mirror image
    below the water, which is what a reflection sees.
    """
    camera = -field.camera if flip else field.camera
    slope = (field.ground.surface - camera) / field.z[:, None]  # (N,W)
    if flip:  # what is under water is not mirrored
        slope = np.where(field.ground.surface > 0, slope, -8.0)
    if after is not None:
        slope = np.where(field.z[:, None] < after, -8.0, slope)
    slope = np.clip(slope, -8.0, 8.0).T  # (W,N)
    horizon = np.maximum.accumulate(slope, axis=1)
    steps, columns = len(field.z), len(field.right)
    if up.ndim == 1:
        up = np.broadcast_to(up[:, None], (len(up), columns))
    # One search for all columns: each gets its own stretch of the number line.
    offset = 20.0 * np.arange(columns)
    line = (horizon + offset[:, None]).ravel()
    found = np.searchsorted(line, (np.clip(up, -7.9, 7.9) + offset).T.ravel())
    found = found.reshape(columns, -1).T - np.arange(columns) * steps  # (H,W)
    inside = found < steps
    step = np.clip(found, 1, steps - 1)
    column = np.arange(columns)
    before, behind = slope[column, step - 1], slope[column, step]
    part = np.clip((up - before) / np.maximum(behind - before, 1e-6), 0.0, 1.0)
    z = field.z[step - 1] + part * (field.z[step] - field.z[step - 1])
    return Hits(np.where(inside, z, np.inf).astype(np.float32), step, part.astype(np.float32))


def gather(table: np.ndarray, hits: Hits) -> np.ndarray:
    """Values of a table (N,W) at the hits (H,W), interpolated along the ray."""
    column = np.arange(table.shape[1])
    before, behind = table[hits.step - 1, column], table[hits.step, column]
    return before + (behind - before) * hits.part


def slopes(field: Field, height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of a table of heights (N,W) along world x and z; x = z * right."""
    along = np.gradient(height, field.z, axis=0)
    across = np.gradient(height, field.right, axis=1) / field.z[:, None]
    return across, along - field.right * across
