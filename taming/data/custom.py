"""Published sets of one's own pictures, listed in a text file.

    data.params.train: {target: taming.data.custom.CustomTrain,
                        params: {size: 256, training_images_list_file: pictures.txt}}

The modern way is a `path` among the sets of `taming.data.datamodule.ImageData`.
"""

import os
from pathlib import Path
from typing import Any

from taming.data.base import ImagePaths, WrappedSet
from taming.data.roots import PathLike, read_lines


class CustomBase(WrappedSet):
    """A subclass sets `data`; it takes any arguments and uses none."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()


class CustomTrain(CustomBase):
    """Central crops of the pictures of a list."""

    def __init__(self, size: int, training_images_list_file: PathLike) -> None:
        super().__init__()
        self.data = ImagePaths(listed_paths(training_images_list_file), size)


class CustomTest(CustomBase):
    """The same, under the name of its argument."""

    def __init__(self, size: int, test_images_list_file: PathLike) -> None:
        super().__init__()
        self.data = ImagePaths(listed_paths(test_images_list_file), size)


def listed_paths(file: PathLike) -> list[str]:
    """The paths of a list; one that is not absolute is looked for beside the list first."""
    lines = read_lines(file, "a list of your pictures, one path a line")
    if not lines:
        raise ValueError(f"{file} lists no pictures; write one path a line")
    folder = Path(file).absolute().parent
    beside = (folder / lines[0]).exists()  # a list is of one kind: the first tells for all
    return [os.path.join(folder, line) if beside else line for line in lines]
