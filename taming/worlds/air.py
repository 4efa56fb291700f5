"""What lies between the scene and the eye: haze with distance, then exposure, film and grading."""

import numpy as np

from taming.worlds.scene import Scene
from taming.worlds.sky import Light


def haze(
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


def _metered(linear: np.ndarray, grey: float) -> float:
    """What a camera's meter adds: half the way to `grey`, from the middle square alone, so
    that a wider picture of a scene is no darker or brighter."""
    height, width = linear.shape[:2]
    margin = max(width - height, 0) // 2
    middle = linear[:, margin : width - margin].mean(-1)
    mean = float(np.exp(np.log(middle + 0.02).mean()))
    return float(np.clip((grey / mean) ** 0.5, 0.6, 1.5)) * 0.95


def develop(scene: Scene, light: Light, linear: np.ndarray) -> np.ndarray:
    """Exposure, film curve and grading: linear light to sRGB bytes."""
    look = scene.look
    x = linear * np.float32(
        light.exposure
        * look.exposure
        * _metered(linear * light.exposure, 0.15 if light.night else 0.34)
    )
    balance = np.array([1 + 0.10 * look.warmth, 1.0, 1 - 0.10 * look.warmth], np.float32)
    x = x * balance
    # Narkowicz's fit of the ACES curve (2015).
    x = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0.0, 1.0)
    grey = (x @ np.array([0.2126, 0.7152, 0.0722], np.float32))[..., None]
    x = grey + np.float32(look.saturation) * (x - grey)
    tint = np.float32(0.030 * look.tone)
    x = x + tint * (
        grey * np.array([1.0, 0.35, -0.9], np.float32)
        + (1 - grey) * np.array([-0.35, 0.05, 0.7], np.float32) * grey
    )
    x = np.clip(x, 0.0, 1.0) ** (1 / 2.2)
    x = x + np.float32(0.35 * (look.contrast - 1.0)) * np.sin((x - 0.5) * np.pi) * 0.5
    return np.clip(x * 255.0 + 0.5, 0, 255).astype(np.uint8)
