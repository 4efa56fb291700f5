"""Pictures of one's own, sorted into a folder for each class.

    <class>/<any>.jpg                  or, with splits,    train/<class>/<any>.jpg
                                               validation/, valid/ or val/, test/: likewise

Folders below a class belong to it; pictures beside the folders of classes have none. Without
folders in `train/`, every twentieth picture is held out, always the same ones. Pictures are turned
upright. There is nothing but classes: with other annotations, classes are in `class_labels.json`.
"""

from collections.abc import Iterable
from pathlib import Path

from taming.data.formats.records import Record, Records, no_pictures
from taming.data.image_list import split_by_name
from taming.data.pictures import find_pictures, read_image

SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
ORIGIN = "sort pictures into a folder for each class, such as tulip/0001.jpg"


def read(root: Path, split: str) -> Records:
    """Records with classes, which are numbered by their names, alike in all splits."""
    homes = split_folders(root)
    places = [home for part in homes.values() for home in part] or [root]
    found = {path: home for home in places for path in find_pictures(home)}
    class_of = {path: _class_of(path.relative_to(home)) for path, home in found.items()}
    classes = sorted({name for name in class_of.values() if name})
    if not classes:
        raise no_pictures(root, split, "a folder of a class", ORIGIN)
    numbers = {name: number for number, name in enumerate(classes)}
    paths = {path.relative_to(root).as_posix(): path for path in found}
    if homes and split != "all":
        chosen = [name for name, path in paths.items() if found[path] in homes.get(split, ())]
    else:
        chosen = split_by_name(list(paths), split)
    entries = [
        Record(name, str(paths[name]), class_label=numbers.get(class_of[paths[name]]))
        for name in sorted(chosen)
    ]
    return Records(entries, class_table=dict(enumerate(classes)), pixels=read_image)


def split_folders(root: Path) -> dict[str, list[Path]]:
    """The folders of each split; none where all that there is are classes.

    ValueError where other pictures lie beside them, or the folder has the layout of paired sets.
    """
    inside = sorted(_folders(root))
    if any(folder.name == "images" for folder in inside):
        raise ValueError(
            f"{root} has images/: leave out the format and name classes in class_labels.json, or "
            f"give {root / 'images'} as the path if its folders are classes"
        )
    homes: dict[str, list[Path]] = {}
    for folder in inside:
        if (part := SPLITS.get(folder.name.casefold())) is not None:
            homes.setdefault(part, []).append(folder)
    deep = {part for part in homes for home in homes[part] for _ in _folders(home)}
    if not deep:
        return {}  # "train" may be the class of trains
    if "train" not in deep:
        raise ValueError(
            f"{root} has folders in {homes[min(deep)][0].name}/, and none in train/: classes are "
            "looked for there; name the split so, or keep nothing but classes"
        )
    named = [home for part in homes.values() for home in part]
    strangers = [folder for folder in inside if folder not in named and find_pictures(folder)]
    if strangers:
        raise ValueError(
            f"{root} has folders in {homes['train'][0].name}/, and pictures in "
            f"{strangers[0].name}/ beside it; keep nothing but splits there, or nothing but classes"
        )
    return homes


def _folders(root: Path) -> Iterable[Path]:
    return (entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _class_of(path: Path) -> str:
    """The first folder of a path; "" where there is none."""
    return path.parts[0] if len(path.parts) > 1 else ""
