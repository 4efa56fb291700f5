"""Whether a set is still the set that something was made of: its pictures and its annotations.

What is made of a set and kept (codes, judges, numbers) carries the mark of that set, and is refused
or made anew where the set has changed. Files are told by name and size, tables by their bytes;
nothing is decoded. `worlds.json` in the folder says that the set was rendered.
"""

import hashlib
from pathlib import Path

from taming.data.image_list import ImageList

MAPS = ("labels", "depth", "annotations")  # folders of a set that hold annotations


def mark_of(part: ImageList) -> str:
    """A hash of the pictures of a split, and of all annotations of their set.

    Of rendered scenes the settings and the tables count, and files do not, so that what was made
    is found again where the same scenes were rendered on another machine, whatever the size of a
    PNG and the last digit of a joint.
    """
    root, told = part.root, hashlib.sha256(_bytes("\n".join(part.names)))
    are_rendered = (root / "worlds.json").is_file()
    # A report may lie in the folder of the set; it says nothing of the pictures.
    files = [path for path in root.glob("*.json") if path.name != "report.json"]
    if not are_rendered:
        files += [path for folder in MAPS for path in (root / folder).rglob("*")]
        for path in part.paths:
            told.update(_bytes(f"{_size(path)}\n"))
    files = [path for path in files if not _is_of_the_system(path.relative_to(root))]
    for path in sorted(path for path in files if path.is_file()):
        size = "" if are_rendered else f" {_size(path)}"
        told.update(_bytes(f"{path.relative_to(root).as_posix()}{size}\n"))
        if path.suffix == ".json" and not (are_rendered and path.name == "keypoints.json"):
            told.update(path.read_bytes())
    for known in part.told():
        told.update(known)
    return told.hexdigest()[:16]


def _is_of_the_system(path: Path) -> bool:
    """What file managers leave in folders that are looked at or copied."""
    hidden = any(part.startswith(".") for part in path.parts)
    return hidden or path.name.casefold() in ("thumbs.db", "desktop.ini")


def _size(path: Path) -> int:
    """Of a file in bytes; -1 of one that is listed and not there, which loading passes over."""
    return path.stat().st_size if path.is_file() else -1


def _bytes(text: str) -> bytes:
    """Names of files need not be valid text."""
    return text.encode("utf-8", "surrogateescape")
