"""ImageNet (ILSVRC 2012): a folder for each of 1000 synsets, and tables of what they are called.

    ILSVRC2012_train/           or, as many keep it, train/
      data/<synset>/<synset>_<n>.JPEG               train/<synset>/<synset>_<n>.JPEG
      filelist.txt              paths relative to data/, one a line
      synset_human.txt          "n01440764 tench, Tinca tinca"
      index_synset.yaml         {0: n01440764, ...}
    ILSVRC2012_validation/      likewise; val/ or validation/
    imagenet_depth/{train,val}/<synset>/<name>.png  the bytes of float32 as RGBA, or .npy (MiDaS)

A class is the place of its synset among all 1000, sorted; names that two synsets share ("crane")
are told apart by the synset. Source: Russakovsky et al. 2015; depth of Esser et al. 2021.
"""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from taming.data.annotations import read_depth
from taming.data.formats.records import Record, Records, joined, no_pictures
from taming.data.pictures import DECODING_ERRORS
from taming.data.roots import first_of, read_lines

logger = logging.getLogger(__name__)

FOLDERS = {
    "train": ("ILSVRC2012_train", "train"),
    "validation": ("ILSVRC2012_validation", "validation", "val"),
}
DEPTH_FOLDERS = {"train": "train", "validation": "val"}
BROKEN = frozenset({"n06596364_9591.JPEG"})  # an empty picture
HUMAN, INDEX, LIST = "synset_human.txt", "index_synset.yaml", "filelist.txt"
KAGGLE = "LOC_synset_mapping.txt"  # has the lines of HUMAN
ORIGIN = "get ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar from image-net.org (free account)"
SUFFIXES = (".jpeg", ".jpg", ".png")


def split_folder(root: Path, split: str) -> Path | None:
    """The folder of a split below `root`."""
    return first_of([root / name for name in FOLDERS[split]])


def picture_folder(folder: Path) -> Path:
    """Where the synsets of a split's folder are."""
    return folder / "data" if (folder / "data").is_dir() else folder


def relative_paths(folder: Path) -> list[str]:
    """ "synset/name.JPEG" of all pictures of a split's folder, from its list or by looking."""
    if (folder / LIST).is_file():
        return read_lines(folder / LIST)
    return found_paths(picture_folder(folder))


def found_paths(data: Path) -> list[str]:
    found = []
    with os.scandir(data) as synsets:
        for synset in synsets:
            if synset.is_dir():
                names = (n for n in os.listdir(synset.path) if n.lower().endswith(SUFFIXES))
                found += [f"{synset.name}/{name}" for name in names]
    return sorted(found)


def found_synsets(folder: Path) -> list[str]:
    """The folders of classes in a split's folder."""
    with os.scandir(picture_folder(folder)) as synsets:
        return [synset.name for synset in synsets if synset.is_dir()]


def without_broken(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if path.rpartition("/")[2] not in BROKEN]


def human_names(path: Path) -> dict[str, str]:
    """{synset: its words} of synset_human.txt."""
    what = 'a table of lines such as "n01440764 tench, Tinca tinca"'
    pairs = [line.split(maxsplit=1) for line in read_lines(path, what)]
    wrong = next((pair for pair in pairs if len(pair) < 2), None)
    if wrong is not None:
        raise ValueError(f"{path}: line '{wrong[0]}' is not {what}")
    return dict(pairs)


def index_to_synset(path: Path) -> dict[int, str]:
    """{class: synset} of index_synset.yaml."""
    try:
        table = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {int(index): str(synset) for index, synset in table.items()}
    except (OSError, yaml.YAMLError, ValueError, AttributeError) as error:
        raise ValueError(f'{path} is not of lines such as "0: n01440764" ({error})') from error


def class_names(synsets: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """A name of its own for every synset, its words where they are known."""
    named = [words.get(synset, synset) for synset in synsets]
    often = Counter(named)
    return [
        f"{name} ({synset})" if often[name] > 1 else name
        for synset, name in zip(synsets, named, strict=True)
    ]


def read_midas(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Inverse depth (H, W) of a published depth map: float32 whose bytes are saved as RGBA.

    Other pictures and `.npy` are read as any depth map is.
    """
    if str(path).endswith(".png"):
        try:
            with Image.open(path) as picture:
                if picture.mode == "RGBA":
                    return rgba_to_depth(np.array(picture))
        except DECODING_ERRORS as error:
            raise ValueError(f"{path} cannot be read as a depth map ({error})") from error
    return read_depth(path)


def rgba_to_depth(x: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 (H, W, 4) -> the float32 (H, W) whose bytes they are."""
    if x.dtype != np.uint8 or x.ndim != 3 or x.shape[2] != 4:
        raise ValueError(f"{x.dtype} {x.shape} is no RGBA picture of the bytes of float32")
    return np.ascontiguousarray(x).view(np.float32)[:, :, 0]


def read(root: Path, split: str) -> Records:
    """Records with classes, and depth where `imagenet_depth` is there."""
    if split == "all":
        return joined([read(root, part) for part in FOLDERS if split_folder(root, part)])
    folder = split_folder(root, split) if split in FOLDERS else None
    if folder is None:
        raise no_pictures(root, split, " or ".join(FOLDERS.get(split, ["it"])), ORIGIN)
    paths = without_broken(relative_paths(folder))
    # Classes have the same numbers and names in all splits.
    every = [each for part in FOLDERS if (each := split_folder(root, part)) is not None]
    homes = [folder, root, *every]
    table = first_of([home / INDEX for home in homes])
    present = {path.partition("/")[0] for path in paths}
    synsets = sorted(present | {name for each in every for name in found_synsets(each)})
    if table is not None:
        of_index = index_to_synset(table)
        synsets = [of_index[index] for index in sorted(of_index)]
    words = first_of([home / name for name in (HUMAN, KAGGLE) for home in homes])
    if words is None:
        logger.warning("%s is missing in %s: classes are called by their synsets", HUMAN, folder)
    names = class_names(synsets, human_names(words) if words else {})
    numbers = {synset: number for number, synset in enumerate(synsets)}
    if unknown := sorted(present - set(numbers)):
        raise ValueError(f"{table} lacks {unknown[0]}, a folder of {folder}; mend or remove it")
    data, depth = picture_folder(folder), root / "imagenet_depth" / DEPTH_FOLDERS[split]
    entries = []
    for path in paths:
        stem = os.path.splitext(path)[0]
        entries.append(
            Record(
                path,
                f"{data}/{path}",
                depth=depth_path(depth, stem) if depth.is_dir() else None,
                class_label=numbers[path.partition("/")[0]],
            )
        )
    return Records(entries, class_table=dict(enumerate(names)), depth=read_midas)


def depth_path(folder: Path, stem: str) -> str | None:
    found = first_of([folder / f"{stem}.png", folder / f"{stem}.npy"])
    return None if found is None else str(found)
