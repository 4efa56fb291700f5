"""Logits -> codes. Pure torch; knows no model and imports nothing of the other rooms."""

from taming.sampling.autoregressive import UNKNOWN, NextLogits, sample
from taming.sampling.filters import Filters, apply_filters, draw, guide
from taming.sampling.parallel import group_sizes
from taming.sampling.sliding_window import Window, sample_windows, spread_orders, window_places

__all__ = [
    "UNKNOWN",
    "Filters",
    "NextLogits",
    "Window",
    "apply_filters",
    "draw",
    "group_sizes",
    "guide",
    "sample",
    "sample_windows",
    "spread_orders",
    "window_places",
]
