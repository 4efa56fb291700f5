"""p(codes | conditions): the any-order transformer, its decoder, the multi-task second stage."""

from taming.transformer.any_order import AnyOrderTransformer
from taming.transformer.cache import KVCache
from taming.transformer.decoder import Branch, Decoder, NaiveDecoder
from taming.transformer.multi_task import Codes, MultiTaskTransformer

__all__ = [
    "AnyOrderTransformer",
    "Branch",
    "Codes",
    "Decoder",
    "KVCache",
    "MultiTaskTransformer",
    "NaiveDecoder",
]
