"""Light: the colours of sky, sun, moon and haze at any hour, and clouds.

The clear sky is a palette over the elevation of the sun (zenith, horizon, the glow around the
sun, direct light), blended by direction; it is set by eye after photographs, not by scattering
integrals, because a picture of 128 pixels shows the palette and nothing of the physics. Clouds
are fractal noise on a plane overhead, lit by a second look at the noise a step towards the sun.
Colours are linear light, about 1 for a white wall in daylight.
"""

import numpy as np

from taming.worlds.noise import Noise, Octaves, smoothstep
from taming.worlds.scene import Scene

# elevation of the sun: zenith, horizon, glow, direct light, exposure
_PALETTE = (
    (
        -18,
        (0.010, 0.017, 0.046),
        (0.026, 0.038, 0.078),
        (0.03, 0.04, 0.08),
        (0.07, 0.09, 0.15),
        4.2,
    ),
    (-9, (0.020, 0.038, 0.110), (0.075, 0.095, 0.190), (0.16, 0.11, 0.15), (0.07, 0.09, 0.16), 3.2),
    (-4, (0.050, 0.085, 0.220), (0.220, 0.200, 0.300), (0.62, 0.30, 0.20), (0.12, 0.11, 0.17), 1.9),
    (0, (0.085, 0.135, 0.310), (0.400, 0.310, 0.340), (1.15, 0.50, 0.20), (0.70, 0.30, 0.14), 1.35),
    (5, (0.110, 0.190, 0.430), (0.560, 0.460, 0.420), (1.35, 0.78, 0.34), (1.75, 0.95, 0.45), 1.05),
    (
        14,
        (0.120, 0.260, 0.590),
        (0.560, 0.640, 0.700),
        (1.10, 0.95, 0.70),
        (2.30, 1.75, 1.15),
        0.92,
    ),
    (
        35,
        (0.085, 0.240, 0.620),
        (0.460, 0.640, 0.840),
        (0.95, 0.98, 1.00),
        (2.55, 2.30, 1.95),
        0.86,
    ),
    (
        60,
        (0.070, 0.220, 0.610),
        (0.420, 0.620, 0.860),
        (0.90, 0.96, 1.02),
        (2.65, 2.50, 2.25),
        0.84,
    ),
)


class Light:
    """Sky and light of one scene. Directions are (right, up, 1) tangents, not normalised."""

    def __init__(self, scene: Scene) -> None:
        sky = scene.sky
        rng = np.random.default_rng((scene.seed, 11))
        self._noise = Noise(rng)
        self._sky = sky
        self._stars = Noise(rng)
        elevations = [row[0] for row in _PALETTE]

        def at(column: int) -> np.ndarray:
            table = np.array([np.atleast_1d(row[column]) for row in _PALETTE], np.float32)
            blended = [np.interp(sky.elevation, elevations, c) for c in table.T]
            return np.array(blended, np.float32)

        zenith, horizon, glow, sun, exposure = (at(i) for i in range(1, 6))
        self.night = bool(sky.elevation < -5.0)
        grey = np.float32(np.clip((sky.cover - 0.55) / 0.45, 0.0, 1.0))
        if scene.weather == "fog":
            grey = max(grey, np.float32(0.65))
        # Under a closed cover everything is lit by one soft grey dome.
        dome = horizon * 0.75 + zenith * 0.25
        dome = dome.mean() * np.array([0.97, 1.0, 1.05], np.float32)
        self.zenith = zenith + grey * (dome * 0.85 - zenith)
        self.horizon = horizon + 0.8 * grey * (dome * 1.05 - horizon)
        self.glow = glow * (1 - 0.75 * grey)
        self.direct = sun * (1 - 0.93 * grey)
        self.exposure = float(exposure[0]) * (1 + (-0.25 if self.night else 0.25) * float(grey))
        self.grey = float(grey)
        up = sky.moon if self.night else max(sky.elevation, 1.5)
        azimuth, elevation = np.radians(sky.azimuth), np.radians(up)
        self.towards = np.array(
            [
                np.sin(azimuth) * np.cos(elevation),
                np.sin(elevation),
                np.cos(azimuth) * np.cos(elevation),
            ],
            np.float32,
        )
        true = np.radians(sky.moon if self.night else sky.elevation)
        self._disc = np.array(
            [np.sin(azimuth) * np.cos(true), np.sin(true), np.cos(azimuth) * np.cos(true)],
            np.float32,
        )
        self.ambient = 0.55 * self.zenith + 0.45 * self.horizon  # from above
        self.bounce = (0.3 * self.ambient + 0.12 * self.direct * self.towards[1]).astype(np.float32)

    def air(self, right: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Sky without clouds or disc (..., 3): what haze fades to, and what lies behind clouds."""
        x, y, z = _unit(right, up)
        climb = np.clip(y, 0.0, 1.0)
        blend = 1.0 - (1.0 - climb) ** 3.2
        colour = self.horizon + blend[..., None] * (self.zenith - self.horizon)
        near = x * self._disc[0] + y * self._disc[1] + z * self._disc[2]
        side = 0.5 + 0.5 * (x * self.towards[0] + z * self.towards[2])
        low = np.exp(-climb * 5.5) * side**2.5
        if not self.night:
            halo = np.exp((near - 1.0) * 7.0) * 0.55 + np.exp((near - 1.0) * 70.0) * 0.5
            band = 0.75 * low * np.float32(np.clip(1.0 - self._sky.elevation / 22.0, 0.0, 1.0))
            amount = np.clip(halo + band, 0.0, 1.1)[..., None]
            colour = colour + amount * (self.glow - 0.55 * colour)
        else:
            halo = np.exp((near - 1.0) * 40.0) * 0.6 + np.exp((near - 1.0) * 400.0) * 0.8
            colour = colour + halo[..., None] * np.array([0.10, 0.12, 0.17], np.float32) * (
                1 - self.grey
            )
            colour = colour + (0.8 * low)[..., None] * self.glow * 0.6
        return colour.astype(np.float32)

    def __call__(self, right: np.ndarray, up: np.ndarray, disc: bool = True) -> np.ndarray:
        """The whole sky (..., 3): air, stars, sun or moon, clouds."""
        colour = self.air(right, up)
        x, y, z = _unit(right, up)
        near = x * self._disc[0] + y * self._disc[1] + z * self._disc[2]
        if self.night:
            colour = colour + self._star_light(right, up)[..., None] * (1 - self.grey)
        if disc:
            colour = colour + self._disc_light(near)
        cover, lit = self._clouds(x, y, z, near)
        return colour + cover[..., None] * (lit - colour)

    def _disc_light(self, near: np.ndarray) -> np.ndarray:
        clear = (1 - self.grey) ** 2
        if self.night:
            edge = smoothstep(0.99925, 0.99965, near)[..., None]
            return edge * np.array([0.55, 0.58, 0.62], np.float32) * clear
        if self._sky.elevation < -1.5:
            return np.zeros((*near.shape, 3), np.float32)
        edge = smoothstep(0.9988, 0.9994, near)[..., None]
        return edge * (self.glow * 1.2 + self.direct * 2.2) * clear

    def _star_light(self, right: np.ndarray, up: np.ndarray) -> np.ndarray:
        value = self._stars(right * 90.0, up * 90.0)
        return smoothstep(0.90, 0.99, value) * 0.22 * smoothstep(0.02, 0.3, up)

    def _clouds(
        self, x: np.ndarray, y: np.ndarray, z: np.ndarray, near: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        sky = self._sky
        shape = near.shape
        high = np.maximum(y, 0.012) + 0.055  # a slightly curved ceiling
        px = x / high * sky.cloud_scale * (1.0 - 0.55 * sky.wisp)
        pz = z / high * sky.cloud_scale * (1.0 + 0.9 * sky.wisp)
        fine = Octaves(1.3, 6, 0.52)
        flat = [a.reshape(-1, 1) for a in (px, pz)]
        warp = 0.35 * self._noise(flat[0] * 0.9, flat[1] * 0.9)
        density = self._noise.fractal(flat[0] + warp, flat[1] - warp, fine).reshape(shape)
        step = 0.22
        sun_x = flat[0] + warp + np.float32(step * self.towards[0])
        sun_z = flat[1] - warp + np.float32(step * self.towards[2])
        shade = self._noise.fractal(sun_x, sun_z, Octaves(1.3, 3, 0.52)).reshape(shape)
        threshold = 0.62 - 1.15 * sky.cover
        soft = 0.28 + 0.5 * sky.wisp
        cover = smoothstep(threshold, threshold + soft, density) * (1.0 - 0.35 * sky.wisp)
        cover = cover * smoothstep(0.0, 0.07, y + 0.02)
        thick = np.clip((0.6 * density + 0.4 * shade - threshold) * 1.3, 0.0, 1.0)
        lit = np.exp(-2.1 * thick) * (1.0 - 0.4 * np.float32(self.grey))
        lining = np.exp((near - 1.0) * 9.0) * (1.0 - cover) * 1.6
        body = 0.95 * self.ambient * (1.0 - 0.35 * thick)[..., None] + 0.10 * self.direct
        warm = 0.42 * self.direct + 0.45 * self.glow * np.float32(0.0 if self.night else 1.0)
        colour = body + (lit * (0.75 + 0.4 * np.clip(near, -0.4, 1.0)))[..., None] * warm
        colour = colour + lining[..., None] * self.glow * np.float32(0.1 if self.night else 0.5)
        return cover.astype(np.float32), colour.astype(np.float32)


def _unit(right: np.ndarray, up: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scale = 1.0 / np.sqrt(right * right + up * up + 1.0)
    return right * scale, up * scale, scale
