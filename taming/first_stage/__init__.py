"""Images to codes and back: the tokenizer and its losses.

The names below are what other rooms use; losses are named by path in a config.
"""

from taming.first_stage.autoencoder import AutoencoderConfig, Decoder, Encoder
from taming.first_stage.quantize import EMAVectorQuantizer, VectorQuantizer, VectorQuantizer2
from taming.first_stage.quantize_base import Quantized, Quantizer, QuantizerInfo
from taming.first_stage.quantize_external import FSQ, LFQ, SimVQ
from taming.first_stage.quantize_gumbel import GumbelQuantizer
from taming.first_stage.segmentation import VQSegmentationModel
from taming.first_stage.vqgan import EMAVQ, GumbelVQ, VQModel, VQNoDiscModel

__all__ = [
    "EMAVQ",
    "FSQ",
    "LFQ",
    "AutoencoderConfig",
    "Decoder",
    "EMAVectorQuantizer",
    "Encoder",
    "GumbelQuantizer",
    "GumbelVQ",
    "Quantized",
    "Quantizer",
    "QuantizerInfo",
    "SimVQ",
    "VQModel",
    "VQNoDiscModel",
    "VQSegmentationModel",
    "VectorQuantizer",
    "VectorQuantizer2",
]
