"""Sentences about a scene. Every word is true of the picture: read off the scene or its labels."""

import numpy as np

from taming.worlds.scene import Person, Scene
from taming.worlds.surface import LABELS

_PLACES = {
    "coast": ("a sea coast", "a beach by the sea"),
    "islands": ("islands in the sea", "an archipelago"),
    "lake": ("a mountain lake", "a lake below hills"),
    "meadow": ("a green meadow", "rolling meadows"),
    "forest": ("a forest", "wooded hills"),
    "alpine": ("high mountains", "an alpine valley"),
    "winter": ("a winter landscape", "a snowy land"),
    "savanna": ("a savanna", "a dry grassland"),
    "desert": ("a sand desert", "desert dunes"),
    "canyon": ("a canyon land", "red table mountains"),
}
_HOURS = {
    "night": ("at night", "in the moonlight"),
    "dawn": ("at dawn", "at sunrise"),
    "morning": ("in the morning", "on a bright morning"),
    "noon": ("at noon", "in the middle of the day"),
    "afternoon": ("in the afternoon", "on an afternoon"),
    "sunset": ("at sunset", "in the evening sun"),
    "dusk": ("at dusk", "after sunset"),
}
_SKIES = {
    "clear": ("under a clear sky", "in clear weather"),
    "scattered clouds": ("with scattered clouds", "under a few clouds"),
    "cloudy": ("under a cloudy sky", "in cloudy weather"),
    "overcast": ("under an overcast sky", "on a grey day"),
    "fog": ("in fog", "in thick haze"),
}
_COUNTS = ("one person", "two people", "three people", "four people")


def captions(scene: Scene, labels: np.ndarray) -> list[str]:
    """Four or more sentences, the first the plainest; the same scene gives the same sentences."""
    rng = np.random.default_rng((scene.seed, 20))

    def pick(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    place, hour, sky = pick(_PLACES[scene.biome]), pick(_HOURS[scene.hour_name]), ""
    sky = pick(_SKIES[scene.weather])
    if scene.hour_name == "night":
        sky = sky.replace("on a grey day", "under an overcast sky")
    seen = _seen(labels)
    told = [
        f"{place} {hour} {sky}",
        f"a picture of {pick(_PLACES[scene.biome])} {pick(_HOURS[scene.hour_name])}",
        f"{place}, {scene.hour_name}, {scene.weather}",
        f"a landscape of {_listed(seen)} {hour}" if seen else f"{place} {sky}",
    ]
    if scene.people:
        told += _about_people(scene.people, place, hour)
    return [sentence[0].upper() + sentence[1:] + "." for sentence in told]


def _seen(labels: np.ndarray) -> list[str]:
    """Names of the ground that covers at least 4 % of the picture, largest first."""
    counts = np.bincount(labels.ravel(), minlength=len(LABELS))
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i] >= 0.04 * labels.size]
    return [LABELS[i] for i in order if 0 < i < LABELS.index("skin")]


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _about_people(people: tuple[Person, ...], place: str, hour: str) -> list[str]:
    who = [wearing(person) for person in people]
    told = [f"{who[0]} in front of {place} {hour}"]
    told.append(f"{who[0]}, {people[0].action}" if len(who) == 1 else _listed(who))
    told.append(f"{_COUNTS[min(len(who), 4) - 1]} and {place}")
    return told


def wearing(person: Person) -> str:
    """`a woman in a red shirt and blue trousers`."""
    noun = "man" if person.gender < 0.4 else "woman" if person.gender > 0.6 else "person"
    if person.age > 0.88:
        noun = f"old {noun}"
    return (
        f"{_article(noun)} {noun} in {_article(person.top_colour)} {person.top_colour} "
        f"{person.top} and {person.bottoms_colour} {person.bottoms}"
    )


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


# ---- and back: what a sentence says -------------------------------------------------------------

ATTRIBUTES = {
    "biome": tuple(_PLACES),
    "hour": tuple(_HOURS),
    "weather": tuple(_SKIES),
    "people": ("nobody", "people"),
}
_PEOPLE = ("person", "people", "man", "woman")


def attributes(sentence: str) -> dict[str, str]:
    """What one of the sentences above names: {attribute: one of its words in `ATTRIBUTES`}.

    People who are not mentioned may be there all the same, so that nothing is said of them.
    """
    told = f" {sentence.strip().rstrip('.').lower()},"
    found = {
        "biome": _named(told, _PLACES),
        "hour": _named(told, _HOURS) or _listed_word(told, _HOURS),
        "weather": _named(told, _SKIES) or _listed_word(told, _SKIES),
    }
    words = told.replace(",", " ").split()
    if "no people" in told:
        found["people"] = "nobody"
    elif any(word in _PEOPLE for word in words):
        found["people"] = "people"
    return {name: word for name, word in found.items() if word is not None}


def _named(told: str, table: dict[str, tuple[str, ...]]) -> str | None:
    """The key of which a phrase stands in the sentence."""
    for key, phrases in table.items():
        if any(f" {phrase}{end}" in told for phrase in phrases for end in (" ", ",")):
            return key
    return None


def _listed_word(told: str, table: dict[str, tuple[str, ...]]) -> str | None:
    """The key that stands for itself between commas, as in `a forest, noon, clear`.

    Never of `_PLACES`: between commas stands what grounds are seen, and a coast may have a forest.
    """
    return next((key for key in table if f", {key}," in told), None)
