"""The published ADE20K sets: picture, one-hot label map of 151 labels, kind of scene.

Label 0 is unlabelled. The files are described in `formats/ade20k.py`; `root` is the folder of all
data, in which they lie as `ade20k_root`.
"""

from abc import abstractmethod
from typing import Any

from taming.data.formats.ade20k import listed, scene_categories
from taming.data.formats.names import ADE20K
from taming.data.roots import PathLike, data_root
from taming.data.sflckr import ListedExamples, SegmentationBase


class Examples(ListedExamples):
    name, n_labels = "ade20k", 151

    def __init__(
        self,
        size: int | None = 256,
        random_crop: bool = False,
        interpolation: str = "bicubic",
        root: PathLike | None = None,
    ) -> None:
        super().__init__(size, random_crop, interpolation, root)


class ADE20kBase(SegmentationBase):
    """size: the shorter side becomes so long; crop_size: the square cut from it, None: size."""

    split: str

    def __init__(
        self,
        config: Any = None,
        size: int | None = None,
        random_crop: bool = False,
        interpolation: str = "bicubic",
        crop_size: int | None = None,
        root: PathLike | None = None,
        seed: int = 0,
    ) -> None:
        self.split, self.seed = self.get_split(), seed
        self.n_labels, self.shift_segmentation = len(ADE20K), False
        folder = data_root(root) / "ade20k_root"
        self.data_root = str(folder)
        self.scene_categories = scene_categories(folder)
        entries = listed(folder, self.split)
        self._use(entries, size, crop_size, random_crop, interpolation)
        stems = [entry.relative.split("/")[1].replace(".jpg", "") for entry in entries]
        self.labels["relative_segmentation_path_"] = [
            entry.relative.replace(".jpg", ".png") for entry in entries
        ]
        self.labels["scene_category"] = [self.scene_categories[stem] for stem in stems]

    @abstractmethod
    def get_split(self) -> str:
        """ "train" or "validation"."""


class ADE20kTrain(ADE20kBase):
    def __init__(
        self,
        config: Any = None,
        size: int | None = None,
        random_crop: bool = True,
        interpolation: str = "bicubic",
        crop_size: int | None = None,
        root: PathLike | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(config, size, random_crop, interpolation, crop_size, root, seed)

    def get_split(self) -> str:
        return "train"


class ADE20kValidation(ADE20kBase):
    def get_split(self) -> str:
        return "validation"
