"""Independent judges: small networks that read labels, depth or a pose out of a picture.

A judge learns from true pairs of a training split alone. It never sees a painted picture, nor
anything of the model that paints, so that whatever it finds in a painted picture is there for
others to see. It knows one set of pictures at one size.

One network for all: pictures are unshuffled into patches of 4x4 pixels, pass a small U-Net
(Ronneberger et al. 2015, arXiv 1505.04597) of residual blocks, and leave at a quarter of their
size. What comes out is read as class scores, inverse depth, or maps of where each joint is.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from taming.checkpoint import atomic_write, load_weights, read_state_dict, save_weights
from taming.config import from_mapping, load_config, plain, to_yaml
from taming.data.batch import JOINTS, VOID
from taming.data.vocabulary import lookup_table
from taming.evaluation.measures import Measures, score_depth, score_labels, score_pose

CONFIG, WEIGHTS = "config.yaml", "weights.safetensors"
STEM = 4  # pixels along one side of a patch
SPREAD = 1.0  # cells: standard deviation of the spot that a joint is trained to light up
AROUND = 2  # cells on each side of the brightest that say where exactly the joint is

Task = Literal["labels", "depth", "pose"]


@dataclass(frozen=True)
class JudgeConfig:
    """Everything a judge is built and trained from."""

    task: Task
    path: str  # of the set
    size: tuple[int, int]  # height x width
    names: tuple[str, ...] = ()  # the set's labels; others have none
    ignore: tuple[str, ...] = ()  # label names that count as unlabelled
    widths: tuple[int, ...] = (32, 64, 128)
    steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 2e-3
    scale: tuple[float, float] = (1.0, 1.5)
    jitter: float = 0.2
    coarsest: float = 4.0  # up to how many times smaller half of the pictures are seen
    seed: int = 0

    def __post_init__(self) -> None:
        step = STEM * 2 ** (len(self.widths) - 1)
        if self.size[0] % step or self.size[1] % step:
            raise ValueError(
                f"a judge of {len(self.widths)} widths takes sides that are multiples of {step}, "
                f"not {self.size[0]}x{self.size[1]}"
            )
        if self.task == "labels" and not self.names:
            raise ValueError("a judge of labels needs their names")


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


class UNet(nn.Module):
    """(B, 3, H, W) -> (B, outputs, H/4, W/4)."""

    def __init__(self, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.stem = nn.Conv2d(3 * STEM**2, widths[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(Block(width) for width in widths)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.middle = Block(widths[-1])
        self.grow = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in reversed(pairs))
        self.up_blocks = nn.ModuleList(Block(width) for width in reversed(widths[:-1]))
        self.head = nn.Sequential(
            nn.GroupNorm(8, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], outputs, 1)
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.stem(F.pixel_unshuffle(images, STEM).contiguous(memory_format=torch.channels_last))
        kept = []
        for number, block in enumerate(self.down_blocks):
            x = block(self.shrink[number - 1](x) if number else x)
            kept.append(x)
        x = self.middle(kept.pop())
        for grow, block in zip(self.grow, self.up_blocks, strict=True):
            x = block(F.interpolate(grow(x), scale_factor=2) + kept.pop())
        return self.head(x)


class Judge(nn.Module, ABC):
    """One network and what its outputs mean. Subclasses are the three tasks."""

    annotation: ClassVar[str]  # key of a sample and of `present` in a batch
    mean: Tensor  # what is typical of the set, for the centred measures

    def __init__(self, config: JudgeConfig, outputs: int, mean: Tensor) -> None:
        super().__init__()
        self.config = config
        self.net = UNet(outputs, config.widths)
        self.net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.register_buffer("mean", mean)

    @abstractmethod
    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        """Of pictures (B, 3, H, W) whose truth is in the batch."""

    @abstractmethod
    def read(self, images: Tensor) -> Tensor:
        """What the judge sees in pictures (B, 3, H, W)."""

    @abstractmethod
    def target(self, value: Tensor, names: Sequence[str] = ()) -> Tensor:
        """The value of a condition in the judge's terms; `names` are the condition's labels."""

    @abstractmethod
    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        """See `taming.evaluation.measures`."""

    @torch.no_grad()
    def settle(self, truths: Sequence[Mapping[str, Any]]) -> None:
        """Takes the mean of true, central samples of the training split."""


class LabelJudge(Judge):
    annotation = "labels"

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config, len(config.names), torch.zeros(0))

    def scores(self, images: Tensor) -> Tensor:
        return F.interpolate(self.net(images), scale_factor=STEM, mode="bilinear")  # (B, C, H, W)

    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        labels = batch["labels"]
        summed = F.cross_entropy(self.scores(images), labels, ignore_index=VOID, reduction="sum")
        return summed / (labels != VOID).sum().clamp(min=1)

    def read(self, images: Tensor) -> Tensor:
        return self.scores(images).argmax(dim=1)  # (B, H, W)

    def target(self, value: Tensor, names: Sequence[str] = ()) -> Tensor:
        table, _ = lookup_table(dict(enumerate(names)), self.config.names, self.config.ignore)
        table[table < 0] = VOID
        return torch.from_numpy(table.astype("int64"))[value]

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        return score_labels(readings, targets, others, len(self.config.names))


class DepthJudge(Judge):
    annotation = "depth"

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config, 1, torch.zeros(1, *config.size))

    def read(self, images: Tensor) -> Tensor:
        return F.interpolate(self.net(images), scale_factor=STEM, mode="bilinear")  # (B, 1, H, W)

    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        there = batch["present"]["depth"]
        return F.smooth_l1_loss(self.read(images)[there], batch["depth"][there], beta=0.2)

    def target(self, value: Tensor, names: Sequence[str] = ()) -> Tensor:
        return value

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        return score_depth(readings, targets, others, self.mean)

    @torch.no_grad()
    def settle(self, truths: Sequence[Mapping[str, Any]]) -> None:
        self.mean.copy_(torch.stack([sample["depth"] for sample in truths]).mean(dim=0))


class PoseJudge(Judge):
    """Reads one person, the largest: 19 joints (x, y) in pixels, whether they are hidden or not."""

    annotation = "keypoints"

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config, len(JOINTS), torch.zeros(len(JOINTS), 2))

    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        joints = batch["keypoints"][:, 0]  # (B, 19, 3)
        maps = self.net(images)  # (B, 19, h, w)
        spots = _spots((joints[..., :2] + 0.5) / STEM - 0.5, maps.shape[-2:])
        likelihood = F.log_softmax(rearrange(maps, "b j h w -> b j (h w)"), dim=-1)
        each = -(likelihood * rearrange(spots, "b j h w -> b j (h w)")).sum(dim=-1)  # (B, 19)
        shown = joints[..., 2] > 0
        return (each * shown).sum() / shown.sum().clamp(min=1)

    def read(self, images: Tensor) -> Tensor:
        """The centre of mass of the likelihood around the likeliest cell."""
        maps = self.net(images)
        height, width = maps.shape[-2:]
        best = rearrange(maps, "b j h w -> b j (h w)").argmax(dim=-1)[..., None, None]
        rows, columns = torch.arange(height), torch.arange(width)
        far = ((rows - best // width).abs() > AROUND).transpose(-1, -2)  # (B, 19, h, 1)
        far = far | ((columns - best % width).abs() > AROUND)  # (B, 19, h, w)
        weights = rearrange(maps.masked_fill(far, -torch.inf), "b j h w -> b j (h w)").softmax(-1)
        weights = rearrange(weights, "b j (h w) -> b j h w", h=height)
        x, y = (weights.sum(-2) * columns).sum(-1), (weights.sum(-1) * rows).sum(-1)
        return (torch.stack([x, y], dim=-1) + 0.5) * STEM - 0.5  # (B, 19, 2)

    def target(self, value: Tensor, names: Sequence[str] = ()) -> Tensor:
        height, width = self.config.size
        person = value[0].clone()  # (19, 3), fractions of width and height
        person[:, :2] = person[:, :2] * torch.tensor([width, height]) - 0.5
        return person

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        return score_pose(readings, targets, others, self.mean)

    @torch.no_grad()
    def settle(self, truths: Sequence[Mapping[str, Any]]) -> None:
        joints = torch.stack([sample["keypoints"][0] for sample in truths])  # (N, 19, 3)
        shown = (joints[..., 2:] > 0).float()
        self.mean.copy_((joints[..., :2] * shown).sum(0) / shown.sum(0).clamp(min=1))


def _spots(points: Tensor, grid: torch.Size | tuple[int, int]) -> Tensor:
    """A round spot around each point (B, 19, 2), given in cells; each sums to 1: (B, 19, h, w)."""
    x = torch.exp(-0.5 * ((torch.arange(grid[1]) - points[..., :1]) / SPREAD).square())
    y = torch.exp(-0.5 * ((torch.arange(grid[0]) - points[..., 1:]) / SPREAD).square())
    spots = y[..., :, None] * x[..., None, :]
    return spots / spots.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-12)


JUDGES: dict[str, type[LabelJudge] | type[DepthJudge] | type[PoseJudge]] = {
    "labels": LabelJudge,
    "depth": DepthJudge,
    "pose": PoseJudge,
}


def build_judge(config: JudgeConfig) -> Judge:
    return JUDGES[config.task](config)


def save_judge(judge: Judge, folder: Path) -> None:
    """Weights first: a folder with a config is a judge that was finished."""
    save_weights(folder / WEIGHTS, judge.state_dict())
    with atomic_write(folder / CONFIG) as partial:
        partial.write_text(to_yaml(asdict(judge.config)), encoding="utf-8")


def load_judge(folder: Path) -> Judge:
    """A judge that `save_judge` left, ready to read."""
    section = plain(load_config(folder / CONFIG))
    judge = build_judge(from_mapping(JudgeConfig, section, str(folder / CONFIG)))
    load_weights(judge, read_state_dict(folder / WEIGHTS), source=str(folder / WEIGHTS))
    return judge.eval().requires_grad_(False)
