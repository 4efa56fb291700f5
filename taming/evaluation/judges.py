"""Who reads what: label maps, depth, poses; classes and words; edges, which need no learning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from taming.checkpoint import atomic_write, load_weights, read_state_dict, save_weights
from taming.cond_stage.edges import find_edges
from taming.config import from_mapping, load_config, plain, to_yaml
from taming.data.batch import JOINTS, NO_CLASS, VOID
from taming.data.vocabulary import lookup_table, normalised
from taming.evaluation.judge import STEM, Classifier, Judge, JudgeConfig, Reader, UNet
from taming.evaluation.measures import (
    Measures,
    box_side,
    edge_agreement,
    score_classes,
    score_depth,
    score_edges,
    score_labels,
    score_pose,
    score_words,
    spearman,
)
from taming.worlds.captions import ATTRIBUTES, attributes

__all__ = [
    "JUDGES",
    "ClassJudge",
    "DepthJudge",
    "EdgeReader",
    "Judge",
    "JudgeConfig",
    "LabelJudge",
    "PoseJudge",
    "Reader",
    "WordJudge",
    "build_judge",
    "load_judge",
    "save_judge",
]

CONFIG, WEIGHTS = "config.yaml", "weights.safetensors"
SPREAD = 1.0  # cells: standard deviation of the spot that a joint is trained to light up
AROUND = 2  # cells on each side of the brightest that say where exactly the joint is


class LabelJudge(Judge):
    annotation = "labels"

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config, UNet(len(config.names), config.widths))

    def scores(self, images: Tensor) -> Tensor:
        return F.interpolate(
            self.outputs(images), scale_factor=STEM, mode="bilinear"
        )  # (B, C, H, W)

    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        labels = batch["labels"]
        summed = F.cross_entropy(self.scores(images), labels, ignore_index=VOID, reduction="sum")
        return summed / (labels != VOID).sum().clamp(min=1)

    def read(self, images: Tensor) -> Tensor:
        return self.scores(images).argmax(dim=1)  # (B, H, W)

    def target(self, asked: Tensor, names: Sequence[str] = ()) -> Tensor:
        table, _ = lookup_table(dict(enumerate(names)), self.config.names, self.config.ignore)
        table[table < 0] = VOID
        return torch.from_numpy(table.astype("int64"))[asked]

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        return score_labels(readings, targets, others, len(self.config.names))

    def each(self, readings: Tensor, targets: Tensor) -> Tensor:
        stated = targets != VOID
        right = ((readings == targets) & stated).sum(dim=(1, 2))
        return right / stated.sum(dim=(1, 2)).clamp(min=1)


class DepthJudge(Judge):
    annotation = "depth"

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config, UNet(1, config.widths), torch.zeros(1, *config.size))

    def read(self, images: Tensor) -> Tensor:
        return F.interpolate(
            self.outputs(images), scale_factor=STEM, mode="bilinear"
        )  # (B, 1, H, W)

    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        there = batch["present"]["depth"]
        return F.smooth_l1_loss(self.read(images)[there], batch["depth"][there], beta=0.2)

    def target(self, asked: Tensor, names: Sequence[str] = ()) -> Tensor:
        return asked

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        return score_depth(readings, targets, others, self.mean)

    def each(self, readings: Tensor, targets: Tensor) -> Tensor:
        return torch.tensor([spearman(*pair) for pair in zip(readings, targets, strict=True)])

    @torch.no_grad()
    def settle(self, truths: Iterable[Mapping[str, Any]]) -> None:
        self.mean.copy_(torch.stack([sample["depth"] for sample in truths]).mean(dim=0))


class PoseJudge(Judge):
    """Reads one person, the largest: 19 joints (x, y) in pixels, whether they are hidden or not."""

    annotation = "keypoints"

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config, UNet(len(JOINTS), config.widths), torch.zeros(len(JOINTS), 2))

    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        joints = largest(batch["keypoints"])  # (B, 19, 3)
        maps = self.outputs(images)  # (B, 19, h, w)
        spots = _spots((joints[..., :2] + 0.5) / STEM - 0.5, maps.shape[-2:])
        likelihood = F.log_softmax(rearrange(maps, "b j h w -> b j (h w)"), dim=-1)
        each = -(likelihood * rearrange(spots, "b j h w -> b j (h w)")).sum(dim=-1)  # (B, 19)
        shown = joints[..., 2] > 0
        return (each * shown).sum() / shown.sum().clamp(min=1)

    def read(self, images: Tensor) -> Tensor:
        """The centre of mass of the likelihood around the likeliest cell."""
        maps = self.outputs(images)
        height, width = maps.shape[-2:]
        best = rearrange(maps, "b j h w -> b j (h w)").argmax(dim=-1)[..., None, None]
        rows, columns = torch.arange(height), torch.arange(width)
        far = ((rows - best // width).abs() > AROUND).transpose(-1, -2)  # (B, 19, h, 1)
        far = far | ((columns - best % width).abs() > AROUND)  # (B, 19, h, w)
        weights = rearrange(maps.masked_fill(far, -torch.inf), "b j h w -> b j (h w)").softmax(-1)
        weights = rearrange(weights, "b j (h w) -> b j h w", h=height)
        x, y = (weights.sum(-2) * columns).sum(-1), (weights.sum(-1) * rows).sum(-1)
        return (torch.stack([x, y], dim=-1) + 0.5) * STEM - 0.5  # (B, 19, 2)

    def target(self, asked: Tensor, names: Sequence[str] = ()) -> Tensor:
        height, width = self.config.size
        person = largest(asked).clone()  # (19, 3), fractions of width and height
        person[:, :2] = person[:, :2] * torch.tensor([width, height]) - 0.5
        return person

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        return score_pose(readings, targets, others, self.mean)

    def each(self, readings: Tensor, targets: Tensor) -> Tensor:
        apart = (readings - targets[..., :2]).norm(dim=-1) / box_side(targets).clamp(min=1)[:, None]
        shown = targets[..., 2] > 0
        return -(apart * shown).sum(dim=1) / shown.sum(dim=1).clamp(min=1)

    @torch.no_grad()
    def settle(self, truths: Iterable[Mapping[str, Any]]) -> None:
        joints = torch.stack([largest(sample["keypoints"]) for sample in truths])  # (N, 19, 3)
        shown = (joints[..., 2:] > 0).float()
        self.mean.copy_((joints[..., :2] * shown).sum(0) / shown.sum(0).clamp(min=1))


def largest(people: Tensor) -> Tensor:
    """Of people (..., N, 19, 3) the one whose visible joints span most: (..., 19, 3).

    A crop may have cut off most of the one who is largest in the whole picture.
    """
    shown = people[..., 2:] > 0  # (..., N, 19, 1)
    low = torch.where(shown, people[..., :2], torch.inf).amin(dim=-2)
    high = torch.where(shown, people[..., :2], -torch.inf).amax(dim=-2)
    area = (high - low).clamp(min=0.0).prod(dim=-1)  # (..., N)
    best = area.masked_fill(~shown.any(dim=-2)[..., 0], -1.0).argmax(dim=-1)
    return people.take_along_dim(best[..., None, None, None], dim=-3).squeeze(-3)


def _spots(points: Tensor, grid: torch.Size | tuple[int, int]) -> Tensor:
    """A round spot around each point (B, 19, 2), given in cells; each sums to 1: (B, 19, h, w)."""
    x = torch.exp(-0.5 * ((torch.arange(grid[1]) - points[..., :1]) / SPREAD).square())
    y = torch.exp(-0.5 * ((torch.arange(grid[0]) - points[..., 1:]) / SPREAD).square())
    spots = y[..., :, None] * x[..., None, :]
    return spots / spots.sum(dim=(-2, -1), keepdim=True).clamp(min=1e-12)


class ClassJudge(Judge):
    """Readings are log-probabilities (B, C)."""

    annotation = "class_label"

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config, Classifier(len(config.names), config.widths))

    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        return F.cross_entropy(self.outputs(images), batch["class_label"], ignore_index=NO_CLASS)

    def read(self, images: Tensor) -> Tensor:
        return self.outputs(images).log_softmax(dim=1)

    def target(self, asked: Tensor, names: Sequence[str] = ()) -> Tensor:
        """A class that the judge's set does not have is none."""
        spelt = [normalised(name) for name in self.config.names]
        word = normalised(names[int(asked)])
        return torch.tensor(spelt.index(word) if word in spelt else NO_CLASS)

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        return score_classes(readings.argmax(dim=1), targets)

    def each(self, readings: Tensor, targets: Tensor) -> Tensor:
        return readings.gather(1, targets.clamp(min=0)[:, None])[:, 0]


class WordJudge(Judge):
    """Reads what captions of rendered scenes name: place, hour, weather, people.

    Readings are log-probabilities of all words (B, W), each attribute's for itself; targets are
    the word's number in each attribute (B, A), NO_CLASS where a caption does not name it.
    """

    annotation = "attributes"
    sizes = tuple(len(words) for words in ATTRIBUTES.values())

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__(config, Classifier(sum(self.sizes), config.widths))

    def loss(self, batch: Mapping[str, Any], images: Tensor) -> Tensor:
        apart = self.outputs(images).split(self.sizes, dim=1)
        told = batch["attributes"].unbind(dim=1)
        losses = [
            F.cross_entropy(scores, words, ignore_index=NO_CLASS, reduction="sum")
            / (words != NO_CLASS).sum().clamp(min=1)
            for scores, words in zip(apart, told, strict=True)
        ]
        return torch.stack(losses).sum()

    def read(self, images: Tensor) -> Tensor:
        apart = self.outputs(images).split(self.sizes, dim=1)
        return torch.cat([scores.log_softmax(dim=1) for scores in apart], dim=1)

    def target(self, asked: str, names: Sequence[str] = ()) -> Tensor:
        return numbered(attributes(asked))

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        apart = readings.split(self.sizes, dim=1)
        best = torch.stack([scores.argmax(dim=1) for scores in apart], dim=1)  # (B, A)
        return score_words(best, targets, tuple(ATTRIBUTES))

    def each(self, readings: Tensor, targets: Tensor) -> Tensor:
        starts = torch.tensor([sum(self.sizes[:n]) for n in range(len(self.sizes))])
        likelihood = readings.gather(1, targets.clamp(min=0) + starts)  # (B, A)
        named = targets != NO_CLASS
        return (likelihood * named).sum(dim=1) / named.sum(dim=1).clamp(min=1)


def numbered(told: Mapping[str, str]) -> Tensor:
    """{attribute: word} -> the word's number in each of `ATTRIBUTES`, (A,)."""
    numbers = [
        words.index(told[name]) if name in told else NO_CLASS for name, words in ATTRIBUTES.items()
    ]
    return torch.tensor(numbers)


class EdgeReader:
    """Finds lines in a picture by the rule by which they were found in the true one."""

    def read(self, images: Tensor) -> Tensor:
        return torch.stack([find_edges(image) for image in images])  # (B, 1, H, W)

    def target(self, asked: Tensor, names: Sequence[str] = ()) -> Tensor:
        return asked

    def score(self, readings: Tensor, targets: Tensor, others: Tensor) -> Measures:
        return score_edges(readings, targets)

    def each(self, readings: Tensor, targets: Tensor) -> Tensor:
        pairs = zip(readings, targets, strict=True)
        found = torch.tensor([edge_agreement(one[None], two[None]).f1 for one, two in pairs])
        return found.nan_to_num(nan=1.0)  # nothing was asked for, and nothing is there


JUDGES: dict[str, Any] = {  # a class of judges for each condition
    "labels": LabelJudge,
    "depth": DepthJudge,
    "pose": PoseJudge,
    "class_label": ClassJudge,
    "text": WordJudge,
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
