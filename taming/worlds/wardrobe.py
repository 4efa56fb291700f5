"""Who stands in a scene and what they wear: words, colours, and which vertices each garment covers.

Clothes are regions of the body's surface, pushed outwards by the thickness of the cloth.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from taming.worlds.bodies import PARTS, Anatomy
from taming.worlds.motion import ACTIONS
from taming.worlds.scene import Person, Scene
from taming.worlds.surface import LABELS

_TOPS = {  # name: (end of the sleeve along the arm, thickness in metres, neckline)
    "t-shirt": (0.62, 0.010, 0.96),
    "shirt": (1.93, 0.012, 1.0),
    "vest": (0.10, 0.008, 0.93),
    "sweater": (1.97, 0.022, 1.0),
    "jacket": (1.97, 0.030, 1.0),
}
_BOTTOMS = {  # name: (end along the leg, thickness)
    "trousers": (1.90, 0.018),
    "jeans": (1.93, 0.011),
    "shorts": (0.72, 0.018),
    "leggings": (1.86, 0.004),
}
_HAIR = {"short": 0.012, "long": 0.022, "cropped": 0.005}
COLOURS = {
    "white": (216, 214, 208),
    "black": (34, 34, 38),
    "grey": (128, 130, 134),
    "red": (188, 38, 40),
    "orange": (226, 118, 34),
    "yellow": (232, 196, 52),
    "green": (52, 128, 66),
    "blue": (42, 84, 168),
    "light blue": (126, 174, 216),
    "purple": (112, 62, 142),
    "pink": (226, 138, 164),
    "brown": (112, 76, 50),
    "beige": (206, 186, 152),
}
_BOTTOM_COLOURS = ("black", "grey", "blue", "brown", "beige", "white", "green", "red")
_SHOE_COLOURS = ("black", "white", "brown", "grey", "red", "blue")
_SKINS = ((222, 172, 142), (206, 152, 118), (178, 124, 92), (136, 88, 62), (90, 60, 46))
_HAIR_COLOURS = {
    "black": (26, 22, 22),
    "dark brown": (58, 38, 26),
    "brown": (104, 68, 40),
    "blond": (206, 168, 104),
    "red": (150, 66, 30),
    "grey": (168, 166, 164),
}
_CLIP_SHARES = {
    "stand": 0.30,
    "walk": 0.17,
    "run": 0.09,
    "dance_a": 0.10,
    "dance_b": 0.10,
    "kick": 0.06,
    "punch": 0.06,
    "jump": 0.05,
    "spin": 0.04,
    "crawl": 0.015,
    "cartwheel": 0.015,
}
_ARMS = ("walk", "dance_a", "dance_b", "punch", "jump", "spin", "kick")
SKIN, HAIR, TOP, BOTTOMS, SHOES = (
    LABELS.index(name) for name in ("skin", "hair", "top", "bottoms", "shoes")
)


class Dress(NamedTuple):
    """Per vertex: what it belongs to, its colour and how far the cloth stands off."""

    label: np.ndarray  # (V,) uint8
    albedo: np.ndarray  # (V,3) linear
    thickness: np.ndarray  # (V,) metres


def sample_people(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one to three people near the camera, and a lens and ground to suit them."""
    half = float(np.tan(np.radians(scene.fov / 2)))
    number = int(rng.choice([1, 2, 3], p=[0.66, 0.24, 0.10]))
    fill = float(rng.uniform(0.55, 0.86) if rng.random() < 0.6 else rng.uniform(0.28, 0.55))
    fill *= 1.0 if number == 1 else 0.8
    z = 1.75 / (2 * half * fill)
    gap = 2.0 * half * z * float(rng.uniform(0.24, 0.34))
    middle = (number - 1) / 2
    side = float(rng.uniform(-0.22, 0.22)) * half * z if number == 1 else 0.0
    people = tuple(
        _person(
            (i - middle) * max(gap, 0.75) + side + float(rng.normal(0, 0.05)),
            z * float(rng.uniform(0.97, 1.25) if i else 1.0),
            rng,
        )
        for i in range(number)
    )
    relief = replace(
        scene.relief, near=min(scene.relief.near, 3.0), stand=max(scene.cover.sand_height, 0) + 1.0
    )
    if scene.cover.sand_height > 50:
        relief = replace(relief, stand=1.5)
    eye = float(rng.uniform(0.9, 1.9))
    # Aim a little above the middle of the body, as a photographer would.
    aim = float(rng.normal(0.92, 0.08)) + 0.10 * (1 - fill) * half * z
    return replace(scene, people=people, relief=relief, eye=eye, pitch=(aim - eye) / z)


def _person(x: float, z: float, rng: np.random.Generator) -> Person:
    def pick(words: tuple[str, ...] | list[str], p: list[float] | None = None) -> str:
        return str(rng.choice(list(words), p=p))

    clip = pick(list(_CLIP_SHARES), p=list(_CLIP_SHARES.values()))
    standing = clip == "stand"
    clip = "walk" if standing else clip
    mixed = standing and rng.random() < 0.7
    gender = float(rng.uniform(0.0, 0.25) if rng.random() < 0.5 else rng.uniform(0.75, 1.0))
    old = rng.random() < 0.15
    moment = float(rng.random())
    turn = float(rng.normal(0, 45) if rng.random() < 0.7 else rng.uniform(-180, 180))
    return Person(
        x=x,
        z=z,
        turn=turn,
        gender=gender,
        age=float(rng.uniform(0.88, 1.0) if old else rng.uniform(0.62, 0.84)),
        height=float(rng.uniform(0.3, 0.7)),
        weight=float(rng.beta(2, 2.4)),
        muscle=float(rng.uniform(0.25, 0.85)),
        clip=clip,
        moment=moment,
        arms=pick(_ARMS) if mixed else clip,
        arms_moment=float(rng.random()) if mixed else moment,
        stride=float(rng.uniform(0.0, 0.45)) if standing else 1.0,
        action="standing" if standing else ACTIONS[clip],
        top=pick(list(_TOPS), p=[0.34, 0.22, 0.12, 0.16, 0.16]),
        top_colour=pick(list(COLOURS)),
        pattern=pick(["plain", "stripes", "print"], p=[0.72, 0.16, 0.12]),
        bottoms=pick(list(_BOTTOMS), p=[0.34, 0.26, 0.24, 0.16]),
        bottoms_colour=pick(_BOTTOM_COLOURS),
        shoes_colour=pick(_SHOE_COLOURS),
        skin=int(rng.integers(len(_SKINS))),
        hair=pick(list(_HAIR), p=[0.45, 0.2, 0.35] if gender < 0.5 else [0.25, 0.7, 0.05]),
        hair_colour="grey" if old else pick(list(_HAIR_COLOURS)[:5], p=[0.3, 0.25, 0.2, 0.15, 0.1]),
    )


def dress(person: Person, body: Anatomy) -> Dress:
    """Clothes, skin and hair of a person over the body's vertices."""
    part = {name: body.part == i for i, name in enumerate(PARTS)}
    number = len(body.part)
    label = np.full(number, SKIN, np.uint8)
    albedo = np.tile(linear(_SKINS[person.skin]), (number, 1))
    thickness = np.zeros(number, np.float32)

    def put(where: np.ndarray, name: int, colour: tuple[int, int, int], off: float) -> None:
        label[where], albedo[where], thickness[where] = name, linear(colour), off

    sleeve, cloth, neckline = _TOPS[person.top]
    length, leg_cloth = _BOTTOMS[person.bottoms]
    blue_jeans = person.bottoms == "jeans" and person.bottoms_colour == "blue"
    below = (58, 78, 116) if blue_jeans else COLOURS[person.bottoms_colour]
    waist = part["torso"] & (body.up < 0.30)
    put(waist | (part["leg"] & (body.along < length)), BOTTOMS, below, leg_cloth)
    trunk = part["torso"] & (body.up >= 0.22) & (body.up < neckline)
    above = COLOURS[person.top_colour]
    put(trunk | (part["arm"] & (body.along < sleeve)), TOP, above, cloth)
    ankle = part["leg"] & (body.along > 1.9)
    put(
        part["foot"] | (ankle if length < 1.5 else part["foot"]),
        SHOES,
        COLOURS[person.shoes_colour],
        0.012,
    )
    head = part["head"]
    hairline = 0.80 - 0.9 * np.maximum(body.back - 0.16, 0.0)
    scalp = head & (body.up > np.maximum(hairline, 0.34 if person.hair != "long" else 0.12))
    put(scalp, HAIR, _HAIR_COLOURS[person.hair_colour], _HAIR[person.hair])
    albedo[part["eye"]] = linear((70, 56, 48))
    if person.pattern == "stripes" and person.top != "jacket":
        light = (236, 234, 228) if sum(above) < 400 else (52, 56, 84)
        albedo[(label == TOP) & trunk & (np.floor(body.up * 18) % 2 == 0)] = linear(light)
    if person.pattern == "print":
        light = (236, 234, 228) if sum(above) < 400 else (60, 64, 90)
        band = part["torso"] & (np.abs(body.up - 0.72) < 0.1)
        albedo[band & (label == TOP)] = linear(light)
    return Dress(label, albedo, thickness)


def linear(colour: tuple[int, int, int]) -> np.ndarray:
    """Linear light of an sRGB colour 0..255."""
    return (np.array(colour, np.float32) / 255.0) ** 2.2
