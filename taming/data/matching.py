"""Which picture an entry of a table means.

Tables name a picture with or without its suffix, in either spelling that Unicode has for an
accent (file systems differ), and without its folder where no other picture has that name.
"""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TypeVar

from taming.data.pictures import SUFFIXES

logger = logging.getLogger(__name__)

Entry = TypeVar("Entry")


def bare(name: str) -> str:
    """The name without the suffix of a picture; another ending, as in "two.v2", is kept."""
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def matched(
    table: Mapping[str, Entry], names: Collection[str], what: str | Path
) -> dict[str, Entry]:
    """{name of a picture: its entry}; entries that belong to no picture are told in the log."""
    found = entries_by_name(table, names)
    lost = sorted(table.keys() - set(found.values()))
    if lost and found:
        logger.warning("%s: %d of %d entries belong to no picture, such as '%s'", what,
                       len(lost), len(table), lost[0])  # fmt: skip
    elif lost:
        logger.warning("%s: none of %d entries belongs to a picture: an entry is '%s', a picture "
                       "'%s'", what, len(table), lost[0], min(names, default=""))  # fmt: skip
    return {name: table[key] for name, key in found.items()}


def entries_by_name(table: Iterable[str], names: Collection[str]) -> dict[str, str]:
    """{name of a picture: the spelling under which the table has it}."""
    exact = {unicodedata.normalize("NFC", key): key for key in table}
    spelt = {bare(key): own for key, own in exact.items()} | exact
    alone = Counter(PurePosixPath(name).name for name in names)
    found: dict[str, str] = {}
    for name in names:
        file = PurePosixPath(name).name
        for spelling in (name, file) if alone[file] == 1 else (name,):
            key = spelt.get(unicodedata.normalize("NFC", spelling))
            if key is not None:
                found[name] = key
                break
    return found
