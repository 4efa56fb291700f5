"""The published COCO sets: picture, one of its captions, and a label map.

    {image float32 (H, W, 3), caption [str], segmentation, img_path, seg_path, filename_}

`segmentation` is float32: the map's colours (H, W, 3) in [-1, 1], or one-hot (H, W, 183), where
label 0 is unlabelled. The files are described in `formats/coco.py`; `root` is the folder of all
data, with `coco/` and `cocostuffthings/` in it.

Unlike there, labels that become one-hot are resized without mixing ids of neighbours.
"""

import os
from abc import abstractmethod
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taming.data.base import Preprocessor, PublishedSet, to_float
from taming.data.formats.coco import read_captions
from taming.data.formats.sflckr import grey_ids
from taming.data.pictures import stored_pixels
from taming.data.roots import PathLike, data_root
from taming.data.sflckr import ListedExamples, check_size, one_hot

N_LABELS = 183  # 182 and unlabelled


class Examples(ListedExamples):
    name, n_labels, shift_segmentation = "coco", N_LABELS, True

    def __init__(
        self,
        size: int | None = 256,
        random_crop: bool = False,
        interpolation: str = "bicubic",
        root: PathLike | None = None,
    ) -> None:
        super().__init__(size, random_crop, interpolation, root)


class CocoBase(PublishedSet):
    """size: the shorter side becomes so long; crop_size: the square cut from it, None: size.

    dataroot: folder of the pictures. datajson: a captions_{train,val}2017.json.
    onehot_segmentation: one-hot labels instead of colours; needs use_stuffthing.
    use_stuffthing: the maps of cocostuffthings/, else those of COCO's own stuff annotations.
    force_no_crop: resize to a square instead.
    given_files: names of the label maps (.png) of the pictures to use; None: all.
    """

    def __init__(
        self,
        size: int | None = None,
        dataroot: PathLike = "",
        datajson: PathLike = "",
        onehot_segmentation: bool = False,
        use_stuffthing: bool = False,
        crop_size: int | None = None,
        force_no_crop: bool = False,
        given_files: Collection[str] | None = None,
        root: PathLike | None = None,
        seed: int = 0,
    ) -> None:
        self.split, self.size, self.seed = self.get_split(), size, seed
        self.crop_size = size if crop_size is None else crop_size
        self.onehot, self.stuffthing = onehot_segmentation, use_stuffthing
        if self.onehot and not self.stuffthing:
            raise ValueError("one-hot labels are those of cocostuffthings: add use_stuffthing=True")
        years = {"captions_train2017.json": "train2017", "captions_val2017.json": "val2017"}
        year = years.get(os.path.basename(datajson))
        if year is None:
            raise ValueError(f"datajson is {datajson}; give one of {', '.join(years)}")
        maps = f"cocostuffthings/{year}"
        if not self.stuffthing:
            maps = f"coco/annotations/stuff_{year}_pixelmaps"
        self.segmentation_prefix = str(data_root(root) / maps)
        captions = read_captions(datajson)
        self.img_id_to_captions = captions.captions
        self.img_id_to_filepath: dict[int, str] = {}
        self.img_id_to_segmentation_filepath: dict[int, str] = {}
        self.labels: dict[str, list[int]] = {"image_ids": []}
        for number, name in captions.files.items():
            png = name.replace("jpg", "png")
            self.img_id_to_filepath[number] = os.path.join(dataroot, name)
            self.img_id_to_segmentation_filepath[number] = os.path.join(
                self.segmentation_prefix, png
            )
            if given_files is None or png in given_files:
                self.labels["image_ids"].append(number)
        self.random = self.split != "validation"
        self.preprocessor = Preprocessor(
            size, self.crop_size, self.random, exact=force_no_crop, targets=("segmentation",)
        )

    @abstractmethod
    def get_split(self) -> str:
        """ "train" or "validation"."""

    def __len__(self) -> int:
        return len(self.labels["image_ids"])

    def preprocess_image(
        self,
        image_path: str,
        segmentation_path: str,
        rng: np.random.Generator | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        image = stored_pixels(image_path)
        if not self.onehot:
            colours = stored_pixels(segmentation_path)
            check_size(colours, image, segmentation_path)
            moved = self.preprocessor(rng, image=image, segmentation=colours)
            return to_float(moved["image"]), to_float(moved["segmentation"])
        ids = grey_ids(segmentation_path) + np.uint8(1)  # unlabelled, 255, becomes 0
        check_size(ids, image, segmentation_path)
        moved = self.preprocessor(rng, image=image, mask=ids)
        return to_float(moved["image"]), one_hot(moved["mask"], N_LABELS, segmentation_path)

    def example(self, index: int, epoch: int) -> dict[str, Any]:
        number = self.labels["image_ids"][index]
        path = self.img_id_to_filepath[number]
        segmentation_path = self.img_id_to_segmentation_filepath[number]
        rng = self.rng(index, epoch)
        image, segmentation = self.preprocess_image(path, segmentation_path, rng)
        captions = self.img_id_to_captions[number]
        if not captions:
            raise ValueError(f"{path} has no caption; leave it out by given_files")
        return {
            "image": image,
            "caption": [captions[int(rng.integers(len(captions)))]],
            "segmentation": segmentation,
            "img_path": path,
            "seg_path": segmentation_path,
            "filename_": os.path.basename(path),
        }


class _Coco2017(CocoBase):
    """Pictures and captions of a part of 2017, where they lie below `root`."""

    year: str

    def __init__(
        self,
        size: int,
        onehot_segmentation: bool = False,
        use_stuffthing: bool = False,
        crop_size: int | None = None,
        force_no_crop: bool = False,
        given_files: Collection[str] | None = None,
        root: PathLike | None = None,
        seed: int = 0,
    ) -> None:
        folder = data_root(root) / "coco"
        super().__init__(
            size,
            folder / self.year,
            folder / f"annotations/captions_{self.year}.json",
            onehot_segmentation,
            use_stuffthing,
            crop_size,
            force_no_crop,
            given_files,
            root,
            seed,
        )


class CocoImagesAndCaptionsTrain(_Coco2017):
    year = "train2017"

    def get_split(self) -> str:
        return "train"


class CocoImagesAndCaptionsValidation(_Coco2017):
    year = "val2017"

    def get_split(self) -> str:
        return "validation"
