"""ImageNet under its published path: the classes are in `imagenet_classes` and `imagenet_pairs`."""

from taming.data.base import ImagePaths
from taming.data.download import download, retrieve
from taming.data.formats.imagenet import rgba_to_depth
from taming.data.imagenet_classes import (
    ImageNetBase,
    ImageNetTrain,
    ImageNetValidation,
    give_synsets_from_indices,
    str_to_indices,
)
from taming.data.imagenet_pairs import (
    BaseWithDepth,
    DRINExamples,
    ImageNetEdges,
    ImageNetEdgesTrain,
    ImageNetEdgesValidation,
    ImageNetScale,
    ImageNetScaleTrain,
    ImageNetScaleValidation,
    ImageNetTrainWithDepth,
    ImageNetValidationWithDepth,
    RINTrainWithDepth,
    RINValidationWithDepth,
    get_preprocessor,
    imscale,
)

__all__ = [
    "BaseWithDepth",
    "DRINExamples",
    "ImageNetBase",
    "ImageNetEdges",
    "ImageNetEdgesTrain",
    "ImageNetEdgesValidation",
    "ImageNetScale",
    "ImageNetScaleTrain",
    "ImageNetScaleValidation",
    "ImageNetTrain",
    "ImageNetTrainWithDepth",
    "ImageNetValidation",
    "ImageNetValidationWithDepth",
    "ImagePaths",
    "RINTrainWithDepth",
    "RINValidationWithDepth",
    "download",
    "get_preprocessor",
    "give_synsets_from_indices",
    "imscale",
    "retrieve",
    "rgba_to_depth",
    "str_to_indices",
]
