"""ADE20K scene parsing: label maps of 150 classes, and the kind of scene.

    ade20k_root/
      images/training/<name>.jpg        images/validation/<name>.jpg
      annotations/training/<name>.png   annotations/validation/<name>.png    0 unlabelled, 1..150
      sceneCategories.txt               "ADE_train_00000001 airport_terminal"
    ade20k_train.txt  ade20k_test.txt   "training/<name>.jpg", beside the folder; optional

Source: Zhou et al. 2017, the release for the scene parsing challenge.
"""

from pathlib import Path

from taming.data.formats.names import ADE20K
from taming.data.formats.records import Record, Records, joined, no_pictures
from taming.data.formats.sflckr import Listed
from taming.data.roots import existing, first_of, read_lines

LISTS = {"train": "ade20k_train.txt", "validation": "ade20k_test.txt"}
FOLDERS = {"train": "training", "validation": "validation"}
ORIGIN = "get ADEChallengeData2016.zip from sceneparsing.csail.mit.edu"


def listed(root: Path, split: str) -> list[Listed]:
    """The pictures of a split, as its list says, or all in its folder."""
    if split not in LISTS:
        raise no_pictures(root, split, f"split '{split}'", ORIGIN)
    file = first_of([root.parent / LISTS[split], root / LISTS[split]])
    folder = root / "images" / FOLDERS[split]
    if file is not None:
        names = read_lines(file)
    elif folder.is_dir():
        names = sorted(f"{FOLDERS[split]}/{path.name}" for path in folder.glob("*.jpg"))
    else:
        raise no_pictures(root, split, folder, ORIGIN)
    return [
        Listed(
            name,
            str(root / "images" / name),
            str(root / "annotations" / name.replace(".jpg", ".png")),
        )
        for name in names
    ]


def scene_categories(root: Path) -> dict[str, str]:
    """{picture name: kind of scene}."""
    file = existing(root / "sceneCategories.txt", f"the kinds of scenes; {ORIGIN}")
    pairs = [line.split() for line in read_lines(file)]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def read(root: Path, split: str) -> Records:
    """Records with labels and, as class, the scene, as far as the files of them are there."""
    if split == "all":
        parts = [part for part in LISTS if (root / "images" / FOLDERS[part]).is_dir()]
        return joined([read(root, part) for part in parts])
    pictures = listed(root, split)
    scenes = scene_categories(root) if (root / "sceneCategories.txt").is_file() else {}
    has_labels = (root / "annotations").is_dir()
    names = sorted(set(scenes.values()))
    numbers = {name: number for number, name in enumerate(names)}
    entries = []
    for picture in pictures:
        stem = Path(picture.relative).stem
        scene = scenes.get(stem)
        label = None if scene is None else numbers[scene]
        labels = picture.labels if has_labels else None
        entries.append(Record(stem, picture.image, labels=labels, class_label=label))
    table = ADE20K if has_labels else {}
    return Records(entries, label_table=table, class_table=dict(enumerate(names)))
