"""Images to codes and back: the tokenizer and its losses.

The names below are what other rooms use; losses are named by path in a config.
"""

from taming.first_stage.autoencoder import AutoencoderConfig, Decoder, Encoder
from taming.first_stage.quantize import (
    Quantized,
    Quantizer,
    QuantizerInfo,
    VectorQuantizer,
    VectorQuantizer2,
)
from taming.first_stage.vqgan import VQModel

__all__ = [
    "AutoencoderConfig",
    "Decoder",
    "Encoder",
    "Quantized",
    "Quantizer",
    "QuantizerInfo",
    "VQModel",
    "VectorQuantizer",
    "VectorQuantizer2",
]
