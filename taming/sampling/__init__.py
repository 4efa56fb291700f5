"""Logits -> codes. Pure torch; knows no model and imports nothing of the other rooms."""

from taming.sampling.autoregressive import UNKNOWN, NextLogits, sample
from taming.sampling.filters import Filters, apply_filters, draw, guide
from taming.sampling.parallel import group_sizes
from taming.sampling.sliding_window import (
    Visit,
    Window,
    WindowRule,
    published_visits,
    sample_sequence,
    sample_windows,
    spread_orders,
    window_places,
)

__all__ = [
    "UNKNOWN",
    "Filters",
    "NextLogits",
    "Visit",
    "Window",
    "WindowRule",
    "apply_filters",
    "draw",
    "group_sizes",
    "guide",
    "published_visits",
    "sample",
    "sample_sequence",
    "sample_windows",
    "spread_orders",
    "window_places",
]
