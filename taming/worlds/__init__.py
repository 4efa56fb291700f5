"""Procedural scenes with exact depth, labels, poses, captions and classes."""

from taming.worlds.dataset import render_set
from taming.worlds.render import Rendered, render
from taming.worlds.sample import sample_scene
from taming.worlds.scene import BIOMES, FAR, Scene
from taming.worlds.sheet import contact_sheet
from taming.worlds.surface import LABELS

__all__ = [
    "BIOMES",
    "FAR",
    "LABELS",
    "Rendered",
    "Scene",
    "contact_sheet",
    "render",
    "render_set",
    "sample_scene",
]
