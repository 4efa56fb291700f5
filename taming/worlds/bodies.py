"""Human bodies as plain arrays: any build, any pose, 13,718 vertices, COCO's joints.

The body is Anny (Brégier et al., "Human Mesh Modeling for Anny Body", 2025; code Apache-2.0, body
data CC0). Its package is asked once for the arrays; shaping (blend shapes over gender, age, height,
weight, muscle) and posing (linear blend skinning) are a few lines of NumPy here, so that rendering
processes need neither torch nor the package. Axes of a body: x to its left, y to its back, z up.
"""

import contextlib
import gzip
import importlib.util
import logging
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

logger = logging.getLogger(__name__)

JOINTS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
SKELETON = [  # COCO's limbs, joints counted from 1
    [16, 14],
    [14, 12],
    [17, 15],
    [15, 13],
    [12, 13],
    [6, 12],
    [7, 13],
    [6, 7],
    [6, 8],
    [7, 9],
    [8, 10],
    [9, 11],
    [2, 3],
    [1, 2],
    [1, 3],
    [2, 4],
    [3, 5],
    [4, 6],
    [5, 7],
]
_NEEDS = ("anny", "pybullet_data")
_INFLUENCES = 4  # bones per vertex that are kept; the rest weighs next to nothing


class Anatomy(NamedTuple):
    """Where on the body each vertex lies, for clothes: all (V,)."""

    part: np.ndarray  # index into PARTS
    along: np.ndarray  # arm: 0 shoulder, 1 elbow, 2 wrist; leg: 0 hip, 1 knee, 2 ankle
    up: np.ndarray  # head: 0 chin, 1 crown; torso: 0 crotch, 1 neck
    back: np.ndarray  # head: 0 face, 1 occiput


class Bodies(NamedTuple):
    """The body model: V vertices, J bones, K shapes before and R after projection."""

    template: np.ndarray  # (V,3)
    normals: np.ndarray  # (V,3) of the template
    shapes: np.ndarray  # (R,V*3)
    heads: np.ndarray  # (J,3) where bones begin
    head_shapes: np.ndarray  # (R,J*3)
    mixture: np.ndarray  # (K,26) which variations a shape is the product of
    projection: np.ndarray  # (K,R)
    anchors: dict[str, np.ndarray]
    variations: dict[str, list[str]]
    bones: list[str]
    parents: np.ndarray  # (J,)
    weight: np.ndarray  # (V,4)
    influence: np.ndarray  # (V,4)
    faces: np.ndarray  # (F,3)
    joint_vertices: list[np.ndarray]  # per joint: vertices and their weights
    joint_weights: list[np.ndarray]
    anatomy: Anatomy


class Posed(NamedTuple):
    vertices: np.ndarray  # (V,3)
    joints: np.ndarray  # (17,3)


def people_available() -> bool:
    """Whether the packages of the extra `people` are installed."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDS)


def require_people() -> None:
    """ImportError that names what to install, unless bodies and motion are there."""
    missing = [name for name in _NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f'scenes with people need {", ".join(missing)}: pip install "taming[people]"'
        )


_held: list[Bodies] = []


def hold(bodies: Bodies) -> None:
    """Makes this process use `bodies`, loaded by another one, instead of loading them itself."""
    _held[:] = [bodies]


def bodies() -> Bodies:
    """The body model of this process. The package's very first load takes minutes and is cached."""
    if not _held:
        require_people()
        _held.append(_load())
    return _held[0]


def _load() -> Bodies:
    import anny
    from anny.models import full_model
    from anny.models.model_data import PHENOTYPE_VARIATIONS

    logger.info("loading the body model; its first use on a machine prepares a cache")
    with _quick_reading(full_model):
        model = anny.Anny(skinning_method="lbs")
    regressor = anny.KeypointsRegressor.coco(model, labels=list(JOINTS))

    def array(name: str) -> np.ndarray:
        return getattr(model, name).numpy().astype(np.float32)

    weight, influence = array("vertex_bone_weights"), model.vertex_bone_indices.numpy()
    order = np.argsort(-weight, axis=1)[:, :_INFLUENCES]
    weight = np.take_along_axis(weight, order, 1)
    dense = regressor.regression_weights.numpy().astype(np.float32)
    used = [np.flatnonzero(row) for row in dense]
    shapes = array("blendshapes")
    template, heads = array("template_vertices"), array("template_bone_heads")
    main = [model.bone_labels[i] for i in influence[np.arange(len(order)), order[:, 0]]]
    faces = model.get_triangular_faces().numpy().astype(np.int32)
    named = dict(zip(model.bone_labels, heads, strict=True))
    return Bodies(
        template=template,
        normals=vertex_normals(template, faces),
        shapes=shapes.reshape(len(shapes), -1),
        heads=heads,
        head_shapes=array("bone_heads_blendshapes").reshape(len(shapes), -1),
        mixture=array("stacked_phenotype_blend_shapes_mask") > 0.5,
        projection=array("phenotype_blendshape_projection"),
        anchors={k: v.numpy().astype(np.float32) for k, v in model.anchors.named_buffers()},
        variations={k: list(v) for k, v in PHENOTYPE_VARIATIONS.items()},
        bones=list(model.bone_labels),
        parents=np.array(model.bone_parents),
        weight=weight / weight.sum(1, keepdims=True),
        influence=np.take_along_axis(influence, order, 1),
        faces=faces,
        joint_vertices=used,
        joint_weights=[row[i] for row, i in zip(dense, used, strict=True)],
        anatomy=_measure(template, main, named),
    )


@contextlib.contextmanager
def _quick_reading(reader: ModuleType) -> Iterator[None]:
    """Lets the package read its thousand text files as arrays.

    It reads them number by number, which took 2.5 minutes of the first load; this takes seconds and
    gives the same numbers. Should the package no longer have that function, it reads as it likes.
    """
    name = "load_blend_shape"
    original = getattr(reader, name, None)
    if original is None:
        yield
        return

    def load_blend_shape(
        filename: str, vertices_count: int, world_transformation: Any, dtype: Any
    ) -> Any:
        import torch

        with gzip.open(filename, "rt", encoding="utf-8") as archive:
            rows = np.array(archive.read().split(), np.float64).reshape(-1, 4)
        moved = torch.zeros((vertices_count, 3), dtype=dtype)
        moved[torch.from_numpy(rows[:, 0].astype(np.int64))] = torch.from_numpy(rows[:, 1:]).to(
            dtype
        )
        return world_transformation.apply(moved)

    setattr(reader, name, load_blend_shape)
    try:
        yield
    finally:
        setattr(reader, name, original)


def shape(model: Bodies, build: dict[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """Resting vertices (V,3) and bone heads (J,3) of a build, each of its values in 0..1."""
    amounts: list[float] = []
    for name, kinds in model.variations.items():
        if name not in model.anchors:  # ancestry: an even mixture
            amounts += [1.0 / len(kinds)] * len(kinds)
            continue
        anchors = model.anchors[name]
        for i in range(len(kinds)):
            peak = np.zeros(len(kinds))
            peak[i] = 1.0
            amounts.append(float(np.interp(build.get(name, 0.5), anchors, peak)))
    products = np.where(model.mixture, np.array(amounts, np.float32), 1.0).prod(1)
    weights = (products @ model.projection).astype(np.float32)  # (R,)
    vertices = model.template + (weights @ model.shapes).reshape(-1, 3)
    heads = model.heads + (weights @ model.head_shapes).reshape(-1, 3)
    return vertices, heads


def pose(
    model: Bodies, vertices: np.ndarray, heads: np.ndarray, turns: dict[str, np.ndarray]
) -> Posed:
    """Bends a resting body. `turns`: bone -> rotation (3,3) from rest, in the body's axes; bones
    without one follow their parent."""
    rotation = np.tile(np.eye(3, dtype=np.float32), (len(model.bones), 1, 1))
    moved = heads.copy()
    for bone, (name, parent) in enumerate(zip(model.bones, model.parents, strict=True)):
        if parent >= 0:
            rotation[bone] = rotation[parent]
            moved[bone] = moved[parent] + rotation[parent] @ (heads[bone] - heads[parent])
        if name in turns:
            rotation[bone] = turns[name]
    shift = moved - np.einsum("jab,jb->ja", rotation, heads)
    matrices = np.concatenate([rotation, shift[:, :, None]], 2).reshape(-1, 12)
    blended = np.einsum("vk,vkm->vm", model.weight, matrices[model.influence])
    blended = blended.reshape(-1, 3, 4)
    bent = np.einsum("vab,vb->va", blended[:, :, :3], vertices) + blended[:, :, 3]
    joints = [w @ bent[i] for i, w in zip(model.joint_vertices, model.joint_weights, strict=True)]
    return Posed(bent.astype(np.float32), np.array(joints, np.float32))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V,3), area-weighted over the faces around each vertex."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    corners = faces.T.ravel()
    summed = [np.bincount(corners, np.tile(across[:, axis], 3), len(vertices)) for axis in range(3)]
    normal = np.stack(summed, 1)
    return (normal / np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)).astype(
        np.float32
    )


PARTS = ("torso", "arm", "hand", "leg", "foot", "neck", "head", "eye")


def _measure(v: np.ndarray, main: list[str], head: dict[str, np.ndarray]) -> Anatomy:
    """Positions of vertices v (V,3), the bone that moves each most given."""
    part = np.array([PARTS.index(_part(bone)) for bone in main])
    along = np.zeros(len(part), np.float32)
    for side in ("L", "R"):
        mine = (v[:, 0] > 0) == (side == "L")
        arm = [head[f"{name}.{side}"] for name in ("upperarm01", "lowerarm01", "wrist")]
        leg = [head[f"{name}.{side}"] for name in ("upperleg01", "lowerleg01", "foot")]
        for kind, chain in (("arm", arm), ("leg", leg)):
            chosen = np.flatnonzero(mine & (part == PARTS.index(kind)))
            along[chosen] = _position(v[chosen], *chain)
    up, back = np.zeros_like(along), np.zeros_like(along)
    skull = np.isin(part, (PARTS.index("head"), PARTS.index("eye")))
    up[skull], back[skull] = _relative(v[skull, 2]), _relative(v[skull, 1])
    trunk = part == PARTS.index("torso")
    up[trunk] = _relative(v[trunk, 2])
    return Anatomy(part, along, up, back)


def _part(bone: str) -> str:
    for beginning, part in (
        ("eye", "eye"),
        ("upperarm", "arm"),
        ("lowerarm", "arm"),
        ("wrist", "hand"),
        ("finger", "hand"),
        ("metacarpal", "hand"),
        ("upperleg", "leg"),
        ("lowerleg", "leg"),
        ("foot", "foot"),
        ("toe", "foot"),
        ("neck", "neck"),
    ):
        if bone.startswith(beginning):
            return part
    torso = ("root", "pelvis", "spine", "breast", "clavicle", "shoulder")
    return "torso" if bone.startswith(torso) else "head"


def _position(points: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """0 at a, 1 at b, 2 at c, by projection on the two segments."""
    upper = (points - a) @ (b - a) / ((b - a) @ (b - a))
    lower = (points - b) @ (c - b) / ((c - b) @ (c - b))
    return np.where(upper < 1.0, upper, 1.0 + np.maximum(lower, 0.0))


def _relative(values: np.ndarray) -> np.ndarray:
    return (values - values.min()) / (values.max() - values.min())
