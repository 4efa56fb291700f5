"""p(codes | conditions): our any-order second stage and the published one, and their decoders."""

from taming.transformer.any_order import AnyOrderTransformer
from taming.transformer.cache import KVCache
from taming.transformer.decoder import Branch, Decoder, NaiveDecoder
from taming.transformer.gpt import GPT, GPTConfig
from taming.transformer.gpt_decoder import GPTDecoder, NaiveGPTDecoder, PreparedGPT
from taming.transformer.multi_task import Codes, MultiTaskTransformer
from taming.transformer.net2net import Net2NetTransformer

__all__ = [
    "GPT",
    "AnyOrderTransformer",
    "Branch",
    "Codes",
    "Decoder",
    "GPTConfig",
    "GPTDecoder",
    "KVCache",
    "MultiTaskTransformer",
    "NaiveDecoder",
    "NaiveGPTDecoder",
    "Net2NetTransformer",
    "PreparedGPT",
]
