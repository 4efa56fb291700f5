"""Draws a scene from a seed: a biome, an hour, weather, a lens, a look, people.

Then several places in that landscape are tried with a coarse cast and the best composed view is
kept. Every draw comes from `np.random.default_rng((seed, stream))`.
"""

from dataclasses import replace

import numpy as np

from taming.worlds.compose import best_place, climb_to_people
from taming.worlds.scene import BIOMES, Cover, Look, Relief, Scene, Sky
from taming.worlds.wardrobe import sample_people

HOURS = {  # name: (from, to, share)
    "night": (20.4, 27.6, 0.08),
    "dawn": (5.2, 6.3, 0.13),
    "morning": (6.9, 9.5, 0.19),
    "noon": (11.0, 13.5, 0.17),
    "afternoon": (14.5, 16.8, 0.19),
    "sunset": (17.2, 18.2, 0.15),
    "dusk": (18.4, 19.3, 0.09),
}
WEATHERS = {"clear": 0.30, "scattered clouds": 0.34, "cloudy": 0.16, "overcast": 0.08, "fog": 0.12}


def sample_scene(seed: int, people: bool = False) -> Scene:
    """The scene of a seed. With people, at least one person stands in it."""
    rng = np.random.default_rng((seed, 1))
    biome = BIOMES[int(rng.integers(len(BIOMES)))]
    name, hour = _hour(rng)
    weather = str(rng.choice(list(WEATHERS), p=list(WEATHERS.values())))
    relief, cover = _land(biome, rng)
    cover = _strewn(biome, cover, rng)
    fov = float(rng.uniform(38, 58))
    half = float(np.tan(np.radians(fov / 2)))
    eye = float(rng.uniform(1.6, 9) if rng.random() < 0.7 else rng.uniform(12, 45))
    scene = Scene(
        seed=seed,
        biome=biome,
        hour=hour,
        hour_name=name,
        weather=weather,
        relief=relief,
        cover=cover,
        sky=_sky(hour, name, weather, biome, rng),
        look=_look(rng),
        place=(0.0, 0.0),
        fov=fov,
        pitch=half * float(rng.uniform(-0.1, 0.38)),
        eye=eye,
    )
    if people:
        scene = sample_people(scene, np.random.default_rng((seed, 2)))
    scene = replace(scene, place=best_place(scene, np.random.default_rng((seed, 3))))
    return replace(scene, pitch=scene.pitch + climb_to_people(scene))


def _hour(rng: np.random.Generator) -> tuple[str, float]:
    shares = [share for _, _, share in HOURS.values()]
    name = str(rng.choice(list(HOURS), p=shares))
    low, high, _ = HOURS[name]
    return name, float(rng.uniform(low, high) % 24)


def _land(biome: str, rng: np.random.Generator) -> tuple[Relief, Cover]:
    """Relief and cover of a biome, each number drawn from the range that suits it."""

    def u(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    green = u(0.0, 0.45)
    autumn = u(0.3, 1.0) if rng.random() < 0.25 else 0.0
    if biome == "coast":
        side = u(-25, 25) if rng.random() < 0.75 else u(-110, -70)
        side += 180 if rng.random() < 0.5 else 0
        relief = Relief(2.0, u(5, 9), side, u(-6, 4), u(0.6, 2), u(40, 80), u(60, 150))
        relief = replace(relief, far_start=u(120, 260), far_end=u(500, 900), ridge=u(0.1, 0.6))
        return relief, Cover(u(2.2, 4.0), trees=u(0.1, 0.5), dry=green, red=u(0, 0.6))
    if biome == "islands":
        relief = Relief(-5.0, near=u(1, 3), near_scale=120, far=u(60, 140), far_scale=u(180, 420))
        relief = replace(relief, far_start=u(40, 90), far_end=u(250, 500), ridge=u(0.2, 0.7))
        return relief, Cover(u(1.5, 4.0), trees=u(0.3, 0.8), conifer=u(0, 1), dry=green)
    if biome == "lake":
        relief = Relief(2.5, near=u(0.8, 2), far=u(130, 260), far_scale=u(350, 600), basin=u(8, 14))
        relief = replace(relief, far_start=u(120, 220), far_end=u(600, 900), ridge=u(0.4, 0.9))
        snow = u(70, 160)
        cover = Cover(u(0.3, 1.0), snow, trees=u(0.3, 0.75), conifer=u(0.5, 1), dry=green)
        return relief, replace(cover, autumn=autumn)
    if biome == "meadow":
        relief = Relief(6.0, near=u(2, 6), near_scale=u(60, 120), far=u(25, 80), ridge=u(0, 0.2))
        return relief, Cover(trees=u(0.05, 0.3), conifer=u(0, 0.6), dry=u(0, 0.4), autumn=autumn)
    if biome == "forest":
        relief = Relief(8.0, near=u(3, 7), near_scale=u(70, 140), far=u(50, 160), ridge=u(0.1, 0.5))
        return relief, Cover(trees=u(0.7, 0.98), conifer=u(0, 1), dry=green, autumn=autumn)
    if biome == "alpine":
        relief = Relief(8.0, near=u(2, 5), near_scale=u(60, 110), far=u(260, 420), ridge=u(0.7, 1))
        relief = replace(relief, far_start=u(60, 160), far_end=u(700, 1000), far_scale=u(450, 800))
        cover = Cover(snow_line=u(50, 170), rock_slope=u(0.6, 0.85), trees=u(0.1, 0.6), conifer=1.0)
        return relief, replace(cover, dry=green)
    if biome == "winter":
        relief = Relief(
            6.0, near=u(1.5, 4), near_scale=u(60, 120), far=u(60, 260), ridge=u(0.2, 0.9)
        )
        cover = Cover(snow_line=-50.0, rock_slope=u(0.9, 1.2), trees=u(0.1, 0.8), conifer=1.0)
        return replace(relief, gain=0.4), cover
    if biome == "savanna":
        relief = Relief(
            6.0, near=u(1, 3.5), near_scale=u(80, 150), far=u(30, 130), ridge=u(0.1, 0.6)
        )
        return relief, Cover(trees=u(0.04, 0.22), conifer=0.0, dry=u(0.75, 1.0), red=u(0.3, 0.9))
    if biome == "desert":
        relief = Relief(12.0, near=u(1, 3), near_scale=u(80, 160), far=u(40, 130), dunes=u(10, 24))
        relief = replace(relief, ridge=u(0, 0.3), gain=0.33)
        return relief, Cover(1e4, rock_slope=u(1.2, 1.6), trees=0.0, dry=1.0, red=u(0.2, 0.9))
    relief = Relief(
        8.0, near=u(1.5, 4), near_scale=u(50, 100), far=u(120, 220), far_scale=u(260, 420)
    )
    relief = replace(
        relief, terrace=u(18, 34), far_start=u(60, 130), far_end=u(350, 600), gain=0.42
    )
    cover = Cover(
        sand_height=u(6, 10), rock_slope=u(0.35, 0.5), trees=u(0.0, 0.12), dry=u(0.7, 1.0)
    )
    return relief, replace(cover, conifer=0.0, red=u(0.6, 1.0))


def _strewn(biome: str, cover: Cover, rng: np.random.Generator) -> Cover:
    """Boulders and flowers."""
    stony = {"alpine": 0.35, "canyon": 0.3, "coast": 0.2, "lake": 0.25, "desert": 0.04}
    share = stony.get(biome, 0.1) * float(rng.uniform(0.0, 1.6))
    grassy = biome in ("meadow", "alpine", "lake", "coast", "islands")
    flowers = float(rng.uniform(0.3, 1.0)) if grassy and rng.random() < 0.4 else 0.0
    return replace(cover, boulders=share, flowers=flowers, bloom=int(rng.integers(4)))


def _sky(hour: float, name: str, weather: str, biome: str, rng: np.random.Generator) -> Sky:
    elevation = 58.0 * float(np.sin(np.pi * (hour - 6.0) / 12.0))
    low_sun = name in ("dawn", "sunset", "dusk", "night")
    azimuth = float(rng.normal(0, 16) if low_sun and rng.random() < 0.6 else rng.uniform(-140, 140))
    cover = {
        "clear": rng.uniform(0.0, 0.25),
        "scattered clouds": rng.uniform(0.35, 0.55),
        "cloudy": rng.uniform(0.6, 0.8),
        "overcast": rng.uniform(0.92, 1.0),
        "fog": rng.uniform(0.2, 0.8),
    }[weather]
    clean = biome in ("alpine", "desert", "canyon")
    haze = float(np.exp(rng.uniform(np.log(1 / 2600), np.log(1 / 700)))) * (0.75 if clean else 1.0)
    mist = 0.0
    if weather == "fog":
        haze, mist = float(rng.uniform(1 / 420, 1 / 140)), float(rng.uniform(0.0, 0.015))
    elif name in ("dawn", "morning") and rng.random() < 0.45 and biome not in ("desert", "canyon"):
        mist = float(rng.uniform(0.002, 0.012))
    return Sky(
        elevation=elevation,
        azimuth=azimuth,
        moon=float(rng.uniform(10, 24)),
        cover=float(cover),
        cloud_scale=float(rng.uniform(0.7, 1.6)),
        wisp=float(rng.uniform(0.5, 1.0)) if rng.random() < 0.35 else 0.0,
        haze=haze,
        mist=mist,
        wind=float(rng.uniform(0.15, 1.0)),
    )


def _look(rng: np.random.Generator) -> Look:
    return Look(
        exposure=float(np.exp(rng.normal(0, 0.1))),
        warmth=float(rng.normal(0.0, 0.25)),
        saturation=float(rng.uniform(0.95, 1.2)),
        contrast=float(rng.uniform(0.9, 1.15)),
        tone=float(rng.uniform(0.0, 1.0)),
    )
