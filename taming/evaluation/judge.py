"""What a judge is: a small network that reads one thing out of a picture, and scores what it read.

A judge learns from pictures of a training split with their annotations, as they are and as the
first stage gives them back, so that the loss of detail in the codes does not count as disobedience.
It never sees a painted picture, so that whatever it finds in one is there for others to see. It
knows one set of pictures at one size.

Pictures are unshuffled into patches of 4x4 pixels and pass residual blocks at falling resolution.
Maps leave through a small U-Net (Ronneberger et al. 2015, arXiv 1505.04597) at a quarter of the
picture's size, words through a mean over what is left at the bottom.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taming.evaluation.measures import Measures
from taming.training.settings import has_bf16_units

STEM = 4  # pixels along one side of a patch

Task = Literal["labels", "depth", "pose", "class_label", "text"]


class Reader(Protocol):
    """Whatever reads a condition out of pictures: a judge, or a rule that needs no learning."""

    def read(self, images: Tensor) -> Tensor:
        """What is seen in pictures (B, 3, H, W)."""
        ...

    def target(self, asked: Any, names: Sequence[str] = ()) -> Tensor:
        """What was asked for in the reader's terms; `names` are the condition's vocabulary."""
        ...

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        """See `taming.evaluation.measures`."""
        ...

    def each(self, readings: Tensor, targets: Tensor) -> Tensor:
        """How well each picture obeys, (N,): to put them in order, the best the highest."""
        ...


class NoJudge(ValueError):
    """A judge that there cannot be; the message says why."""


@dataclass(frozen=True)
class JudgeConfig:
    """Everything a judge is built and trained from."""

    task: Task
    path: str  # of the set
    size: tuple[int, int]  # height x width
    names: tuple[str, ...] = ()  # the set's labels or classes; others have none
    format: str = "folder"  # of the set
    split: str = "train"  # of the set, from which the judge learns
    pictures: int = 0  # in that split
    annotated: str = ""  # `data.marks.mark_of` the set, which tells sets of one name apart
    ignore: tuple[str, ...] = ()  # label names that count as unlabelled
    flip: bool = True  # whether every second picture is mirrored
    widths: tuple[int, ...] = (32, 64, 128)
    draws: int = 2400  # random crops of that split, seen again and again
    steps: int = 600
    batch_size: int = 16
    learning_rate: float = 2e-3
    scale: tuple[float, float] = (1.0, 1.5)
    jitter: float = 0.2
    coarsest: float = 4.0  # up to how many times smaller half of the pictures are seen
    first_stage: str = ""  # hash of the one whose reconstructions were seen too; none: empty
    seed: int = 0

    def __post_init__(self) -> None:
        step = STEM * 2 ** (len(self.widths) - 1)
        if self.size[0] % step or self.size[1] % step:
            raise NoJudge(
                f"a judge of {len(self.widths)} widths takes sides that are multiples of {step}, "
                f"not {self.size[0]}x{self.size[1]}"
            )
        if self.task in ("labels", "class_label") and not self.names:
            raise NoJudge(f"a judge of {self.task} needs their names")


class Block(nn.Module):
    """Two convolutions around which the input passes unchanged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = []
        for _ in range(2):
            norm = nn.GroupNorm(8, width)
            layers += [norm, nn.SiLU(), nn.Conv2d(width, width, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Pyramid(nn.Module):
    """(B, 3, H, W) -> features at H/4, H/8, ...: one entry for each width."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3 * STEM**2, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList(Block(width) for width in widths)
        pairs = itertools.pairwise(widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.stem(F.pixel_unshuffle(images, STEM).contiguous(memory_format=torch.channels_last))
        kept = []
        for number, block in enumerate(self.blocks):
            x = block(self.shrink[number - 1](x) if number else x)
            kept.append(x)
        return kept


class UNet(nn.Module):
    """(B, 3, H, W) -> (B, outputs, H/4, W/4)."""

    def __init__(self, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.down = Pyramid(widths)
        self.middle = Block(widths[-1])
        pairs = reversed(list(itertools.pairwise(widths)))
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.up_blocks = nn.ModuleList(Block(width) for width in reversed(widths[:-1]))
        self.head = nn.Sequential(
            nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], outputs, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        kept = self.down(images)
        x = self.middle(kept.pop())
        for grow, block in zip(self.grow, self.up_blocks, strict=True):
            x = block(F.interpolate(grow(x), scale_factor=2) + kept.pop())
        return self.head(x)


class Classifier(nn.Module):
    """(B, 3, H, W) -> (B, outputs): means over the picture, of each width and of its square.

    Squares tell how varied a picture is, which plain means do not.
    """

    def __init__(self, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.down = Pyramid(widths)
        self.head = nn.Linear(2 * sum(widths), outputs)

    def forward(self, images: Tensor) -> Tensor:
        kept = self.down(images)
        means = [each.mean(dim=(2, 3)) for each in kept]
        spreads = [each.var(dim=(2, 3), correction=0) for each in kept]
        return self.head(torch.cat([*means, *(x.clamp(min=1e-6).sqrt() for x in spreads)], dim=1))


class Judge(nn.Module, ABC):
    """One network and what its outputs mean: a `Reader` that has learned."""

    annotation: ClassVar[str]  # key of a sample and of `present` in a batch
    mean: Tensor  # what is typical of the set, for the centred measures

    def __init__(self, config: JudgeConfig, net: nn.Module, mean: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        self.net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.register_buffer("mean", torch.zeros(0) if mean is None else mean)

    def outputs(self, images: Tensor) -> Tensor:
        """Of the network, in float32; while it learns, computed in bf16 where there are units."""
        faster = self.training and has_bf16_units(images.device)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=faster):
            return self.net(images).float()

    @abstractmethod
    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        """Of pictures (B, 3, H, W) whose truth is in the batch."""

    @abstractmethod
    def read(self, images: Tensor) -> Tensor: ...

    @abstractmethod
    def target(self, asked: Any, names: Sequence[str] = ()) -> Tensor: ...

    @abstractmethod
    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures: ...

    @abstractmethod
    def each(self, readings: Tensor, targets: Tensor) -> Tensor: ...

    @torch.no_grad()
    def settle(self, truths: Iterable[Mapping[str, Any]]) -> None:
        """Takes the mean of true samples of the training split."""
