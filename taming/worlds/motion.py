"""Natural poses: frames of recorded movement, carried over to the body's bones.

The clips are those of DeepMimic (Peng et al., SIGGRAPH 2018) as the package `pybullet` ships them:
per frame a root position and rotations of 12 joints. Both skeletons are compared by the direction
of their limbs: each limb of the body is first turned to hang as the recorded skeleton's does at
rest, then as recorded. Legs and arms may come from different moments, which multiplies the poses.
"""

import functools
import json
from pathlib import Path

import numpy as np

ACTIONS = {  # clip: what the person is seen doing
    "walk": "walking",
    "run": "running",
    "dance_a": "dancing",
    "dance_b": "dancing",
    "kick": "kicking",
    "punch": "boxing",
    "jump": "jumping",
    "spin": "turning around",
    "crawl": "crawling",
    "cartwheel": "doing a cartwheel",
}
# Recorded axes: x ahead, y up, z right. Body: x left, y back, z up.
_AXES = np.array([[0, 0, -1], [-1, 0, 0], [0, 1, 0]], np.float64)
_DOWN = np.array([0.0, 0.0, -1.0])
# joint: parent, first column of its quaternion (w, x, y, z) or of its one angle
_LAYOUT = {
    "root": ("", 4),
    "chest": ("root", 8),
    "neck": ("chest", 12),
    "hip.R": ("root", 16),
    "knee.R": ("hip.R", 20),
    "ankle.R": ("knee.R", 21),
    "shoulder.R": ("chest", 25),
    "elbow.R": ("shoulder.R", 29),
    "hip.L": ("root", 30),
    "knee.L": ("hip.L", 34),
    "ankle.L": ("knee.L", 35),
    "shoulder.L": ("chest", 39),
    "elbow.L": ("shoulder.L", 43),
}


@functools.cache
def _clip(name: str) -> np.ndarray:
    import pybullet_data

    path = Path(pybullet_data.getDataPath()) / "data" / "motions" / f"humanoid3d_{name}.txt"
    return np.array(json.loads(path.read_text(encoding="utf-8"))["Frames"], np.float64)


def _frame(clip: str, moment: float) -> dict[str, np.ndarray]:
    """Rotation of each joint against its parent, in recorded axes."""
    frames = _clip(clip)
    row = frames[int(moment * (len(frames) - 1) + 0.5)]
    local = {}
    for joint, (_, column) in _LAYOUT.items():
        if joint.startswith(("knee", "elbow")):
            half = row[column] / 2
            quaternion = np.array([np.cos(half), 0.0, 0.0, np.sin(half)])
        else:
            quaternion = row[column : column + 4]
        local[joint] = quaternion / np.linalg.norm(quaternion)
    return local


def turns(
    heads: dict[str, np.ndarray],
    clip: str,
    moment: float,
    arms: str,
    arms_moment: float,
    stride: float,
) -> dict[str, np.ndarray]:
    """Bone -> rotation from rest (3,3), for `bodies.pose`.

    heads: where bones begin at rest. stride: 1 = as recorded, 0 = legs and trunk straight.
    """
    local, other = _frame(clip, moment), _frame(arms, arms_moment)
    for joint in local:
        if joint.startswith(("shoulder", "elbow")):
            local[joint] = other[joint]
        elif stride < 1:
            local[joint] = _slerp(np.array([1.0, 0, 0, 0]), local[joint], stride)
    world = {"": np.array([1.0, 0, 0, 0])}
    for joint, (parent, _) in _LAYOUT.items():
        world[joint] = _multiply(world[parent], local[joint])
    ahead = _matrix(world["root"])[:, 0]
    heading = np.arctan2(-ahead[2], ahead[0])  # which way the person faces is decided elsewhere
    undo = np.array([np.cos(heading / 2), 0, -np.sin(heading / 2), 0])
    quaternions = {joint: _multiply(undo, q) for joint, q in world.items() if joint}

    def turn(quaternion: np.ndarray) -> np.ndarray:
        return _AXES @ _matrix(quaternion) @ _AXES.T

    root, chest, neck = (quaternions[name] for name in ("root", "chest", "neck"))
    result = {
        "root": turn(root),
        "spine04": turn(_slerp(root, chest, 0.35)),
        "spine03": turn(_slerp(root, chest, 0.7)),
        "spine02": turn(chest),
        "neck01": turn(_slerp(chest, neck, 0.4)),
        "neck02": turn(_slerp(chest, neck, 0.7)),
        "head": turn(neck),
    }
    for side in ("L", "R"):
        for joint, begin, end, bones in (
            ("hip", "upperleg01", "lowerleg01", ("upperleg01", "upperleg02")),
            ("knee", "lowerleg01", "foot", ("lowerleg01", "lowerleg02")),
            ("shoulder", "upperarm01", "lowerarm01", ("upperarm01", "upperarm02")),
            ("elbow", "lowerarm01", "wrist", ("lowerarm01", "lowerarm02", "wrist")),
        ):
            limb = heads[f"{end}.{side}"] - heads[f"{begin}.{side}"]
            rotation = turn(quaternions[f"{joint}.{side}"]) @ _between(limb, _DOWN)
            for bone in bones:
                result[f"{bone}.{side}"] = rotation
        result[f"foot.{side}"] = turn(quaternions[f"ankle.{side}"])
        # A raised arm lifts the shoulder with it.
        lifted = _slerp(chest, quaternions[f"shoulder.{side}"], 0.18)
        result[f"clavicle.{side}"] = turn(lifted)
    return {bone: rotation.astype(np.float32) for bone, rotation in result.items()}


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    w = a[0] * b[0] - a[1:] @ b[1:]
    return np.concatenate([[w], a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])])


def _slerp(a: np.ndarray, b: np.ndarray, amount: float) -> np.ndarray:
    cosine = float(a @ b)
    if cosine < 0:
        b, cosine = -b, -cosine
    angle = np.arccos(min(cosine, 1.0))
    if angle < 1e-4:
        return a
    return (np.sin((1 - amount) * angle) * a + np.sin(amount * angle) * b) / np.sin(angle)


def _matrix(q: np.ndarray) -> np.ndarray:
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The smallest rotation that turns direction a into direction b."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    axis, cosine = np.cross(a, b), float(a @ b)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + cosine)
