"""Left and right in words and names: a mirrored picture shows the other side.

In English captions the words are exchanged, unless they name no side, as in "right next to".
Labels, classes and boxes are exchanged for one another if their names differ in the side alone.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from taming.data.vocabulary import normalised

_OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}
# Where "left" and "right" are no sides. After "the" they are: "on the right behind the tree".
_NO_SIDE = (
    r"\ball right\b",
    r"\bright[ -]angle[ds]?\b",
    r"\bright of way\b",
    r"(?<!\bthe )\bright (?:next to|beside|behind|in front of|above|below|under|after|before"
    r"|at|away|now)\b",
    r"(?<!\bthe )\bleft (?:over|behind|alone|open|unattended)\b",
)
_IN_TEXT = re.compile(
    rf"(?P<kept>{'|'.join(_NO_SIDE)})|\b(left|right)(?=(?:most|wards?|handed)?\b)", re.IGNORECASE
)
_IN_NAME = re.compile(r"(?P<kept>$^)|\b(left|right)\b|^[lr](?= )|(?<= )[lr]$")  # also "l_eye"


class Sides(NamedTuple):
    """{id: the id that a mirrored picture has in its place}, of each vocabulary of a set."""

    labels: Mapping[int, int] = {}
    boxes: Mapping[int, int] = {}
    classes: Mapping[int, int] = {}


NO_SIDES = Sides()


def mirrored_words(text: str) -> str:
    """What the text says of the mirrored picture: "Left of the tree" -> "Right of the tree"."""
    return _IN_TEXT.sub(_other, text)


def counterparts(names: Sequence[str]) -> dict[int, int]:
    """{id: id of the other side} where a vocabulary has both: "left arm" and "right arm"."""
    places = {normalised(name): index for index, name in enumerate(names)}
    others = {index: places.get(_IN_NAME.sub(_other, name)) for name, index in places.items()}
    return {index: other for index, other in others.items() if other not in (None, index)}


def exchanged(ids: NDArray[Any], pairs: Mapping[int, int]) -> NDArray[Any]:
    """The ids with each of `pairs` in place of its counterpart; any shape."""
    moved = ids.copy()
    for index, other in pairs.items():
        moved[ids == index] = other
    return moved


def _other(match: re.Match[str]) -> str:
    word = match[0]
    if match["kept"]:
        return word
    other = _OTHER[word.lower()]
    return other.upper() if word.isupper() else other.title() if word.istitle() else other
