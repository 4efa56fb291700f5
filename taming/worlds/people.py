"""Draws the people of a scene: bodies built, posed, dressed, lit, and set into the depth buffer."""

from typing import NamedTuple

import numpy as np

from taming.worlds import motion
from taming.worlds.bodies import Posed, bodies, pose, shape, vertex_normals
from taming.worlds.noise import Noise
from taming.worlds.raster import Fragments, rasterise
from taming.worlds.raycast import Rays
from taming.worlds.scene import Person, Scene
from taming.worlds.sky import Light
from taming.worlds.terrain import Terrain
from taming.worlds.wardrobe import HAIR, SKIN, dress

_SHADOW_PIXELS = 112
_REACH = 0.05  # metres that a shadow must lie behind its caster


class Figure(NamedTuple):
    """One person in the world: axes of the camera (x right, y up, z ahead), y above the water."""

    vertices: np.ndarray  # (V,3)
    normals: np.ndarray  # (V,3)
    joints: np.ndarray  # (17,3)
    label: np.ndarray  # (V,)
    albedo: np.ndarray  # (V,3)
    rest: np.ndarray  # (V,3) where a vertex lies on the unposed body: folds and grain stick to it


class Drawn(NamedTuple):
    """The n samples of the picture that show a person."""

    pixel: np.ndarray  # (n,) index into the flattened picture
    z: np.ndarray  # (n,) metres
    label: np.ndarray  # (n,)
    colour: np.ndarray  # (n,3) lit, without haze


class ShadowMap(NamedTuple):
    """Distance along the light of the first surface, seen from the light."""

    centre: np.ndarray
    basis: np.ndarray  # (3,3) rows: across, up, away from the light
    scale: float  # pixels per metre
    depth: np.ndarray  # (P,P)

    def lit(self, points: np.ndarray) -> np.ndarray:
        """1 where the light reaches points (n,3), 0 in shadow, soft in between."""
        local = (points - self.centre) @ self.basis.T
        middle = _SHADOW_PIXELS / 2
        shade = np.zeros(len(points), np.float32)
        for dx, dy in ((-0.7, -0.7), (0.7, -0.7), (-0.7, 0.7), (0.7, 0.7)):
            i = np.floor(local[:, 0] * self.scale + middle + dx).astype(np.int32)
            j = np.floor(local[:, 1] * self.scale + middle + dy).astype(np.int32)
            inside = (i >= 0) & (j >= 0) & (i < _SHADOW_PIXELS) & (j < _SHADOW_PIXELS)
            i, j = np.clip(i, 0, _SHADOW_PIXELS - 1), np.clip(j, 0, _SHADOW_PIXELS - 1)
            shade += inside & (local[:, 2] > self.depth[j, i] + _REACH)
        return 1.0 - 0.25 * shade


class Crowd:
    """All people of a scene, ready to be lit and drawn. Empty scenes cost nothing."""

    def __init__(self, scene: Scene, terrain: Terrain, light: Light) -> None:
        self.figures = [_figure(person, terrain) for person in scene.people]
        faces = bodies().faces if self.figures else np.zeros((0, 3), np.int32)
        self._faces = faces
        self._shadows = [_shadow_map(figure, faces, light) for figure in self.figures]
        self._light = light
        self._folds = Noise(np.random.default_rng((scene.seed, 13)))

    def shadow_on(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """1 where no person stands between the light and ground points, else down to 0."""
        lit = np.ones(len(x), np.float32)
        for figure, shadow in zip(self.figures, self._shadows, strict=True):
            near = np.flatnonzero(z < figure.vertices[:, 2].mean() + 14.0)
            lit[near] *= shadow.lit(np.stack([x[near], y[near], z[near]], 1))
        return lit

    def contact_on(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Darkening of the open sky's light around the feet, 1 = none."""
        open_sky = np.ones(len(x), np.float32)
        for figure in self.figures:
            foot = figure.vertices[np.argmin(figure.vertices[:, 1])]
            body = figure.joints[[11, 12, 15, 16]].mean(0)
            for px, pz, size in ((foot[0], foot[2], 0.30), (body[0], body[2], 0.5)):
                away = ((x - px) ** 2 + (z - pz) ** 2) / size**2
                open_sky *= 1.0 - 0.35 * np.exp(-away)
        return open_sky

    def draw(self, view: Rays, camera: float) -> list[Drawn]:
        drawn = []
        for figure in self.figures:
            corners = project(figure.vertices, view, camera)
            fragments = rasterise(corners, self._faces, len(view.up), len(view.right), front=-1)
            corner = self._faces[fragments.face, np.argmax(fragments.share, 1)]
            label, colour = figure.label[corner], self._colour(figure, fragments, corner)
            drawn.append(Drawn(fragments.pixel, fragments.z, label, colour))
        return drawn

    def keypoints(
        self, view: Rays, camera: float, owner: np.ndarray, depth: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Joints (N,17,3) and boxes (N,4) in output pixels, whose centres are at .5.

        owner, depth: the fine buffers, person index or -1 and metres; labels: the picture's. A
        joint is seen (2) if its person's surface lies at most a limb's radius in front of it and
        the label there is a person's; else hidden (1), or (0, 0, 0) outside the picture.
        """
        height, width = owner.shape
        k = height // len(labels)
        joints = np.zeros((len(self.figures), 17, 3), np.float32)
        boxes = np.zeros((len(self.figures), 4), np.float32)
        radius = np.full(17, 0.09)
        radius[[5, 6, 11, 12]] = 0.16  # shoulders and hips lie deeper
        for n, figure in enumerate(self.figures):
            at = project(figure.joints, view, camera)
            x, y = np.floor(at[:, 0]).astype(int), np.floor(at[:, 1]).astype(int)
            inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
            x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
            seen = (owner[y, x] == n) & (at[:, 2] - depth[y, x] < radius)
            seen &= labels[y // k, x // k] >= SKIN
            joints[n] = np.stack([at[:, 0] / k, at[:, 1] / k, 1 + seen], 1) * inside[:, None]
            rows, columns = np.nonzero(owner == n)
            if len(rows):
                left, top = columns.min() / k, rows.min() / k
                boxes[n] = left, top, (columns.max() + 1) / k - left, (rows.max() + 1) / k - top
        return joints, boxes

    def _colour(self, figure: Figure, fragments: Fragments, corner: np.ndarray) -> np.ndarray:
        light = self._light
        label, albedo = figure.label[corner], figure.albedo[corner]
        normal = fragments.interpolate(self._faces, figure.normals)
        place = fragments.interpolate(self._faces, figure.vertices)
        rest = fragments.interpolate(self._faces, figure.rest)
        folds = self._folds(rest[:, 0] * 14 + rest[:, 1] * 9, rest[:, 2] * 7)
        grain = self._folds(rest[:, 0] * 60 + rest[:, 1] * 40, rest[:, 2] * 22)
        cloth = (label != SKIN) & (label != HAIR)
        normal = normal + (0.20 * folds * cloth)[:, None] * np.array([1.0, 0.4, 0.6], np.float32)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
        lit = np.ones(len(label), np.float32)
        for shadow in self._shadows:
            lit *= shadow.lit(place + 0.03 * normal)
        facing = normal @ light.towards
        wrap = np.where(label == SKIN, 0.25, 0.08).astype(np.float32)
        direct = np.clip((facing + wrap) / (1 + wrap), 0.0, 1.0) * lit
        up = 0.5 + 0.5 * normal[:, 1]
        dome = (0.25 + 0.75 * up)[:, None] * light.ambient + (1 - up)[:, None] * light.bounce
        colour = albedo * (1.0 + np.where(label == HAIR, 0.35, 0.06) * grain)[:, None]
        colour = colour * (direct[:, None] * light.direct + dome)
        # Cloth and hair catch light at grazing angles, which draws the outline.
        view = -place / np.linalg.norm(place, axis=1, keepdims=True)
        edge = (1.0 - np.clip(np.abs((normal * view).sum(1)), 0, 1)) ** 3
        back = np.clip(-(view @ light.towards), 0.0, 1.0) * lit
        return (
            colour
            + (0.10 * edge * back)[:, None] * light.direct
            + 0.02 * edge[:, None] * light.ambient
        )


def project(points: np.ndarray, view: Rays, camera: float) -> np.ndarray:
    """Pixels x, y (centres at .5) and metric depth of points (n,3)."""
    z = np.maximum(points[:, 2], 0.05)
    step_x, step_y = view.right[1] - view.right[0], view.up[1] - view.up[0]
    x = (points[:, 0] / z - view.right[0]) / step_x + 0.5
    y = ((points[:, 1] - camera) / z - view.up[0]) / step_y + 0.5
    return np.stack([x, y, z], 1)


def _figure(person: Person, terrain: Terrain) -> Figure:
    model = bodies()
    names = ("gender", "age", "height", "weight", "muscle")
    vertices, heads = shape(model, {name: getattr(person, name) for name in names})
    clothes = dress(person, model.anatomy)
    dressed = vertices + model.normals * clothes.thickness[:, None]
    turns = motion.turns(
        dict(zip(model.bones, heads, strict=True)),
        person.clip,
        person.moment,
        person.arms,
        person.arms_moment,
        person.stride,
    )
    posed = pose(model, dressed, heads, turns)
    place = _stand(posed, person, terrain)
    normals = vertex_normals(place.vertices, model.faces[:, [0, 2, 1]])  # the axes are mirrored
    return Figure(place.vertices, normals, place.joints, clothes.label, clothes.albedo, vertices)


def _stand(posed: Posed, person: Person, terrain: Terrain) -> Posed:
    """Turned, and set with the lowest point on the ground, in camera axes."""
    angle = np.radians(person.turn)
    cosine, sine = np.cos(angle), np.sin(angle)
    lowest = posed.vertices[:, 2].min()
    middle = posed.joints[11:13, :2].mean(0)
    at = np.array([[person.x]], np.float32), np.array([[person.z]], np.float32)
    ground = float(terrain.ground(*at).bare[0, 0])

    def move(points: np.ndarray) -> np.ndarray:
        x, y = points[:, 0] - middle[0], points[:, 1] - middle[1]
        return np.stack(
            [
                cosine * x - sine * y + person.x,
                points[:, 2] - lowest + ground - 0.015,
                sine * x + cosine * y + person.z,
            ],
            1,
        ).astype(np.float32)

    return Posed(move(posed.vertices), move(posed.joints))


def _shadow_map(figure: Figure, faces: np.ndarray, light: Light) -> ShadowMap:
    away = -light.towards
    across = np.cross(np.array([0.0, 1.0, 0.0]), away)
    across /= np.linalg.norm(across)
    basis = np.stack([across, np.cross(away, across), away]).astype(np.float32)
    centre = (figure.vertices.min(0) + figure.vertices.max(0)) / 2
    local = (figure.vertices - centre) @ basis.T
    scale = (_SHADOW_PIXELS - 8) / (2 * float(np.abs(local[:, :2]).max()))
    corners = local.copy()
    corners[:, :2] = local[:, :2] * scale + _SHADOW_PIXELS / 2
    seen = rasterise(corners, faces, _SHADOW_PIXELS, _SHADOW_PIXELS, front=1)
    depth = np.full(_SHADOW_PIXELS**2, np.inf, np.float32)
    depth[seen.pixel] = seen.z
    return ShadowMap(centre, basis, scale, depth.reshape(_SHADOW_PIXELS, -1))
