"""Names of labels and classes, and how those of several sets become one vocabulary.

Sets number the same things differently, so ids are never compared: names are. A vocabulary is a
list of names; the position is the id. Position 255 of a long label vocabulary is taken by "void",
so that `VOID` means the same for every length.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from taming.data.batch import VOID, VOID_16

VOID_NAMES = frozenset(
    ("void", "unlabelled", "unlabeled", "unannotated", "unused", "unknown", "ignore", "ignored")
)


def normalised(name: str) -> str:
    """The spelling by which names are compared: "Floor_Mat" and "floor mat" are one thing."""
    composed = unicodedata.normalize("NFC", str(name))  # file systems spell accents in two ways
    return re.sub(r"[\s_\-]+", " ", composed).strip().casefold()


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names that are one thing although they are written in two ways: the first, another."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(normalised(name), name), name) for name in names]
    return [pair for pair in pairs if pair[0] != pair[1]]


def is_void(name: str, ignore: Iterable[str] = ()) -> bool:
    """Whether a label name says "nobody knows": void, unused, "other or unlabelled", ..."""
    name = normalised(name)
    if name in {normalised(other) for other in ignore}:
        return True
    parts = re.split(r"\s*(?:,|/|\bor\b)\s*", name)
    return name == "" or any(part in VOID_NAMES for part in parts)


def merge_label_names(sets: Iterable[Mapping[int, str]], ignore: Iterable[str] = ()) -> list[str]:
    """One label vocabulary from the {id: name} tables of several sets, in order of appearance."""
    ignore = tuple(ignore)
    merged: dict[str, str] = {}
    for names in sets:
        for index in sorted(names):
            if not is_void(names[index], ignore):
                merged.setdefault(normalised(names[index]), names[index])
    vocabulary = list(merged.values())
    if len(vocabulary) > VOID:
        vocabulary.insert(VOID, "void")
    return vocabulary


def merge_class_names(sets: Iterable[Mapping[int, str]]) -> list[str]:
    """One class vocabulary from the {id: name} tables of several sets, in order of appearance."""
    merged: dict[str, str] = {}
    for names in sets:
        for index in sorted(names):
            merged.setdefault(normalised(names[index]), names[index])
    return list(merged.values())


def lookup_table(
    own: Mapping[int, str], vocabulary: Sequence[str], ignore: Iterable[str] = ()
) -> tuple[NDArray[np.int16], list[str]]:
    """Table from a set's label ids to vocabulary ids, and the names that became VOID by absence.

    The table has 65536 entries; -1 marks an id that the set itself does not name.
    """
    ignore = tuple(ignore)
    if len(vocabulary) > VOID and not is_void(vocabulary[VOID]):
        raise ValueError(
            f"label {VOID} of the vocabulary is '{vocabulary[VOID]}', but {VOID} means unlabelled; "
            f"insert 'void' there"
        )
    position = {normalised(name): index for index, name in enumerate(vocabulary)}
    table = np.full(1 << 16, -1, dtype=np.int16)
    table[[VOID, VOID_16]] = VOID
    absent = []
    for index, name in own.items():
        if is_void(name, ignore):
            table[index] = VOID
        elif normalised(name) in position:
            table[index] = position[normalised(name)]
        else:
            table[index] = VOID
            absent.append(name)
    return table, absent
