"""Boxes of things as the condition of the published scene models.

The codes are made, read and drawn by the builders of `taming.data.object_codes`.
"""

from torch import Tensor

from taming.data.object_codes import (
    ObjectsBoundingBoxConditionalBuilder,
    ObjectsCenterPointsConditionalBuilder,
)

__all__ = [
    "DummyCondStage",
    "ObjectsBoundingBoxConditionalBuilder",
    "ObjectsCenterPointsConditionalBuilder",
]


class DummyCondStage:
    """The condition stage of scene models: the condition is codes already, and stays as it is."""

    def __init__(self, conditional_key: str) -> None:
        self.conditional_key = conditional_key

    def eval(self) -> "DummyCondStage":
        return self

    def train(self, mode: bool = True) -> "DummyCondStage":
        return self

    @staticmethod
    def encode(c: Tensor) -> tuple[Tensor, None, tuple[None, None, Tensor]]:
        return c, None, (None, None, c)

    @staticmethod
    def decode(c: Tensor) -> Tensor:
        return c

    @staticmethod
    def to_rgb(c: Tensor) -> Tensor:
        return c
