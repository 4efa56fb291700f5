"""Data: files on disk -> samples -> batches. Knows nothing of models.

`ImageData`, which brings a mix of sets to a Lightning trainer, is in `taming.data.datamodule`.
"""

from taming.data.annotations import normalised_depth, read_depth, read_labels
from taming.data.batch import ANNOTATIONS, JOINTS, LEFT_RIGHT, VOID, collate
from taming.data.image_list import ImageList
from taming.data.mix import Mix
from taming.data.paired_folder import PairedFolder, open_set
from taming.data.pictures import UnreadableImage, read_image, to_rgb
from taming.data.sampler import BatchSampler

__all__ = [
    "ANNOTATIONS",
    "JOINTS",
    "LEFT_RIGHT",
    "VOID",
    "BatchSampler",
    "ImageList",
    "Mix",
    "PairedFolder",
    "UnreadableImage",
    "collate",
    "normalised_depth",
    "open_set",
    "read_depth",
    "read_image",
    "read_labels",
    "to_rgb",
]
