"""Whether a set is still the set that something was made of: its pictures and its annotations.

What is made of a set and kept (codes, judges, numbers) carries the mark of that set, and is refused
or made anew where the set has changed. Files are told by name and size, tables by their bytes;
nothing is decoded.
"""

import hashlib

from taming.data.image_list import ImageList

MAPS = ("labels", "depth", "annotations")  # folders of a set that hold annotations


def mark_of(part: ImageList) -> str:
    """A hash of the pictures of a split, and of all annotations of their set.

    Of rendered scenes the settings count, which decide all else, so that what was made is found
    again where the same scenes were rendered on another machine, whatever the last digit of a
    joint.
    """
    root, scenes = part.root, part.root / "worlds.json"
    told = hashlib.sha256("\n".join(part.names).encode())
    if scenes.is_file():
        told.update(scenes.read_bytes())
        return told.hexdigest()[:16]
    for path in part.paths:
        told.update(f"{path.stat().st_size}\n".encode())
    if root.is_dir():
        # A report may lie in the folder of the set; it says nothing of the pictures.
        tables = [path for path in root.glob("*.json") if path.name != "report.json"]
        maps = [path for folder in MAPS for path in (root / folder).rglob("*")]
        for path in sorted(path for path in [*tables, *maps] if path.is_file()):
            told.update(f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n".encode())
            if path.suffix == ".json":
                told.update(path.read_bytes())
    for known in part.told():
        told.update(known)
    return told.hexdigest()[:16]
