"""What a scene is: every number that a picture depends on, as plain data.

Lengths are metres, angles degrees; the camera stands at x = z = 0 and looks along +z, y is up.
The whole world reaches to `FAR` = 1300 m: it is built like scenery on a stage, gentle where the
camera stands and high behind, so that mountains are mountains at that distance.
"""

from dataclasses import dataclass

FAR = 1300.0  # metres; the depth of sky and of all that is farther

BIOMES = (
    "coast",
    "islands",
    "lake",
    "meadow",
    "forest",
    "alpine",
    "winter",
    "savanna",
    "desert",
    "canyon",
)


@dataclass(frozen=True)
class Relief:
    """The shape of the ground; see `terrain.py` for what each number does."""

    level: float = 2.0  # mean height near the camera above the water
    ramp: float = 0.0  # half the height difference between land and sea
    ramp_angle: float = 0.0  # where the land lies: 0 right of the camera, 90 ahead
    ramp_shift: float = 0.0  # distance of the shoreline from the camera
    near: float = 2.0  # relief around the camera
    near_scale: float = 60.0
    far: float = 80.0  # relief in the distance
    far_scale: float = 500.0
    far_start: float = 60.0
    far_end: float = 600.0
    ridge: float = 0.4
    gain: float = 0.45
    basin: float = 0.0  # depth of a hollow ahead of the camera (lakes)
    terrace: float = 0.0  # height of the steps of table mountains
    dunes: float = 0.0  # height of wind-blown crests
    stand: float = -99.0  # the ground around the camera is no lower than this


@dataclass(frozen=True)
class Cover:
    """What grows or lies on the ground."""

    sand_height: float = -9.0  # sand below this height; large: everywhere
    snow_line: float = 1e4
    rock_slope: float = 0.9  # steeper ground is bare
    trees: float = 0.3  # share of ground under trees
    conifer: float = 0.5  # 0 round crowns, 1 pointed
    dry: float = 0.2  # 0 lush green, 1 straw
    autumn: float = 0.0  # share of coloured leaves
    red: float = 0.2  # 0 grey rock, 1 red rock
    boulders: float = 0.1  # share of grid cells with one
    flowers: float = 0.0
    bloom: int = 0  # their colour


@dataclass(frozen=True)
class Sky:
    """Sun and air. Below -4 degrees of sun the moon stands where `azimuth` says."""

    elevation: float  # of the sun
    azimuth: float  # of sun or moon, from the view direction to the right
    moon: float  # elevation of the moon
    cover: float  # of clouds, 0..1
    cloud_scale: float
    wisp: float  # 0 heaps, 1 drawn-out streaks
    haze: float  # per metre
    mist: float  # per metre, close to the ground
    wind: float  # roughness of water


@dataclass(frozen=True)
class Look:
    """Colour grading, as a photographer would set it."""

    exposure: float
    warmth: float
    saturation: float
    contrast: float
    tone: float  # split toning: cool shadows, warm lights


@dataclass(frozen=True)
class Person:
    """One body: where it stands, how it is built, what it does and wears."""

    x: float  # metres to the right of the camera
    z: float  # metres ahead
    turn: float  # degrees; 0 faces the camera
    gender: float  # 0 male .. 1 female, as anny has it
    age: float  # anny's scale: 0.67 young adult, 1 old
    height: float
    weight: float
    muscle: float
    clip: str  # name of a motion clip
    moment: float  # 0..1 within it
    arms: str  # the clip of the arms, and its moment
    arms_moment: float
    stride: float  # 0 legs straight .. 1 as recorded
    action: str  # in words: walking, dancing, ...
    top: str  # keys of the tables in wardrobe.py
    top_colour: str
    pattern: str  # of the top
    bottoms: str
    bottoms_colour: str
    shoes_colour: str
    skin: int
    hair: str
    hair_colour: str


@dataclass(frozen=True)
class Scene:
    """All a picture depends on, but its size."""

    seed: int
    biome: str
    hour: float
    hour_name: str
    weather: str
    relief: Relief
    cover: Cover
    sky: Sky
    look: Look
    place: tuple[float, float]  # where in the landscape the camera stands
    fov: float  # vertical
    pitch: float  # tangent of the angle of the image's middle above the horizon (a shifted lens)
    eye: float  # camera above the ground
    people: tuple[Person, ...] = ()
