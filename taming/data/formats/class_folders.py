"""Pictures of one's own, sorted into a folder for each class.

    <class>/<any>.jpg                  or, with splits,    train/<class>/<any>.jpg
                                                           validation/ or val/, test/: likewise

Folders below a class belong to it; pictures beside the folders of classes have none. Without
folders in `train/`, every twentieth picture is held out, always the same ones. Pictures are turned
upright.
"""

from pathlib import Path

from taming.data.formats.records import Record, Records, no_pictures
from taming.data.image_list import split_by_name
from taming.data.pictures import find_pictures, read_image
from taming.data.roots import first_of

FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}
ORIGIN = "sort pictures into a folder for each class, such as tulip/0001.jpg"


def read(root: Path, split: str) -> Records:
    """Records with classes, which are numbered by their names, alike in all splits."""
    homes = {part: first_of([root / name for name in FOLDERS[part]]) for part in FOLDERS}
    train = root / "train"
    has_splits = train.is_dir() and any(entry.is_dir() for entry in train.iterdir())
    if not has_splits:  # a folder `train` may also be the class of trains
        homes = {"all": root}
    found = {path: home for home in homes.values() if home for path in find_pictures(home)}
    class_of = {path: _class_of(path.relative_to(home)) for path, home in found.items()}
    classes = sorted({name for name in class_of.values() if name})
    if not classes:
        raise no_pictures(root, split, "a folder of a class", ORIGIN)
    numbers = {name: number for number, name in enumerate(classes)}
    paths = {path.relative_to(root).as_posix(): path for path in found}
    if has_splits and split != "all":
        chosen = [name for name, path in paths.items() if found[path] == homes.get(split)]
    else:
        chosen = split_by_name(list(paths), split)
    entries = [
        Record(name, str(paths[name]), class_label=numbers.get(class_of[paths[name]]))
        for name in sorted(chosen)
    ]
    return Records(entries, class_table=dict(enumerate(classes)), pixels=read_image)


def _class_of(path: Path) -> str:
    """The first folder of a path; "" where there is none."""
    return path.parts[0] if len(path.parts) > 1 else ""
