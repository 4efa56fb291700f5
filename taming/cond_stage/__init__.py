"""Conditions: one file for each, one object that knows everything about it.

`CONDITIONS` lists them by the name they have as keyword of the pipeline and key of the config.
"""

from taming.cond_stage.base import (
    Combined,
    Condition,
    ControlCondition,
    ControlEncoder,
    PrefixCondition,
    combine,
)
from taming.cond_stage.boxes import Boxes
from taming.cond_stage.class_label import ClassLabel
from taming.cond_stage.depth import Depth
from taming.cond_stage.edges import Edges
from taming.cond_stage.holes import draw_mask, fill_hole, known_cells
from taming.cond_stage.known import Known
from taming.cond_stage.labels import Labels
from taming.cond_stage.lowres import LowRes
from taming.cond_stage.pose import Pose
from taming.cond_stage.text import Text

CONDITIONS: dict[str, type[Condition]] = {
    condition.name: condition
    for condition in (ClassLabel, Labels, Depth, LowRes, Pose, Known, Text, Edges, Boxes)
}

__all__ = [
    "CONDITIONS",
    "Boxes",
    "ClassLabel",
    "Combined",
    "Condition",
    "ControlCondition",
    "ControlEncoder",
    "Depth",
    "Edges",
    "Known",
    "Labels",
    "LowRes",
    "Pose",
    "PrefixCondition",
    "Text",
    "combine",
    "draw_mask",
    "fill_hole",
    "known_cells",
]
