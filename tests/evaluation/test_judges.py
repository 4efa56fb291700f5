"""Judges: what they read, how they score it, and that they come back from disk unchanged."""

import math
from pathlib import Path

import pytest
import torch

from taming.data.batch import JOINTS, NO_CLASS, VOID
from taming.evaluation.judges import (
    EdgeReader,
    Judge,
    JudgeConfig,
    build_judge,
    largest,
    load_judge,
    save_judge,
)

SIZE = (32, 48)  # of the pictures of `blocks`
TASKS = ("labels", "depth", "pose", "class_label", "text")


def config(task: str) -> JudgeConfig:
    names = ("ground", "block") if task in ("labels", "class_label") else ()
    return JudgeConfig(task, "nowhere", SIZE, names, widths=(16, 24))  # pyright: ignore


@pytest.mark.parametrize("task", TASKS)
def test_a_judge_comes_back_from_disk_as_it_was(task: str, tmp_path: Path) -> None:
    judge = build_judge(config(task)).eval()
    save_judge(judge, tmp_path)
    again = load_judge(tmp_path)
    assert again.config == judge.config
    images = torch.rand(2, 3, *SIZE) * 2 - 1
    assert torch.equal(again.read(images), judge.read(images))


@pytest.mark.parametrize("task", TASKS)
def test_gradients_reach_every_weight(task: str) -> None:
    judge = build_judge(config(task))
    batch = {
        "labels": torch.randint(0, 2, (2, *SIZE)),
        "depth": torch.rand(2, 1, *SIZE),
        "keypoints": torch.rand(2, 1, len(JOINTS), 3) * 20 + 1,
        "class_label": torch.tensor([0, 1]),
        "attributes": torch.tensor([[0, 1, 2, 1], [3, NO_CLASS, 0, 0]]),
        "present": {"depth": torch.tensor([True, True])},
    }
    judge.loss(batch, torch.rand(2, 3, *SIZE)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in judge.parameters())


def test_label_conditions_are_translated_by_name() -> None:
    judge = build_judge(config("labels"))
    value = torch.tensor([[0, 1, 2, VOID]])
    assert judge.target(value, ["block", "sky", "Ground"]).tolist() == [[1, VOID, 0, VOID]]


def test_pose_conditions_become_pixels_of_the_first_person() -> None:
    value = torch.zeros(2, len(JOINTS), 3)
    value[0, 3] = torch.tensor([0.5, 0.25, 1.0])
    target = build_judge(config("pose")).target(value)
    assert target[3].tolist() == [0.5 * SIZE[1] - 0.5, 0.25 * SIZE[0] - 0.5, 1.0]


class Spot(torch.nn.Module):
    """A network that lights up one place for all joints, given in cells."""

    def __init__(self, x: float, y: float) -> None:
        super().__init__()
        self.x, self.y = x, y

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows, columns = torch.arange(8.0)[:, None], torch.arange(12.0)
        spot = -0.5 * ((columns - self.x) ** 2 + (rows - self.y) ** 2)
        return spot.expand(len(images), len(JOINTS), 8, 12)


def test_the_largest_is_who_is_seen_most_of() -> None:
    """Of the first, who is larger in the whole picture, a crop has left two joints."""
    people = torch.zeros(2, 3, len(JOINTS), 3)
    people[:, 0, :2] = torch.tensor([[1.0, 1.0, 1.0], [3.0, 2.0, 1.0]])
    people[:, 1, :, 0], people[:, 1, :, 1] = torch.arange(19.0), torch.arange(19.0)
    people[:, 1, 4:, 2] = 1
    people[:, 2, :, :2] = torch.rand(len(JOINTS), 2) * 100  # nobody: all hidden
    assert torch.equal(largest(people), people[:, 1])
    assert torch.equal(largest(people[0]), people[0, 1])
    assert torch.equal(largest(torch.zeros(1, len(JOINTS), 3)), torch.zeros(len(JOINTS), 3))


def test_a_pose_is_read_between_cells() -> None:
    judge = build_judge(config("pose"))
    setattr(judge, "net", Spot((17.0 + 0.5) / 4 - 0.5, (13.0 + 0.5) / 4 - 0.5))  # noqa: B010
    assert judge.read(torch.zeros(1, 3, *SIZE))[0, 0].tolist() == pytest.approx([17, 13], abs=0.3)


def test_classes_are_translated_by_name_and_unknown_ones_are_none() -> None:
    judge = build_judge(config("class_label"))
    asked = [judge.target(torch.tensor(n), ["Block", "sky"]).item() for n in (0, 1)]
    assert asked == [1, NO_CLASS]


def test_words_that_a_caption_does_not_name_do_not_count() -> None:
    judge = build_judge(config("text"))
    asked = judge.target("A sand desert, noon, clear.")
    assert (asked == NO_CLASS).tolist() == [False, False, False, True]  # nothing about people
    readings = judge.read(torch.zeros(1, 3, *SIZE))
    scores = judge.score(readings, asked[None], asked[None])
    assert "people" not in scores
    assert scores["accuracy"] in (0.0, pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0)


def test_a_blank_that_was_asked_for_is_no_failure() -> None:
    blank, line = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    line[..., 4, :] = 1.0
    asked, drawn = torch.cat([blank, blank, line]), torch.cat([blank, line, blank])
    assert EdgeReader().each(drawn, asked).tolist() == [1.0, 0.0, 0.0]
    whole = EdgeReader().score(blank, blank, blank)
    assert all(math.isnan(value) for value in whole.values())


def test_edges_of_the_same_picture_agree_and_a_pixel_of_shift_is_forgiven() -> None:
    reader = EdgeReader()
    image = -torch.ones(1, 3, *SIZE)
    image[..., 10:22, 12:30] = 1.0
    lines = reader.read(image)
    assert lines.sum() > 20
    for shift, expected in ((0, 1.0), (1, 1.0)):
        moved = reader.read(image.roll(shift, dims=3))
        assert reader.score(moved, lines, lines)["F1"] == pytest.approx(expected)
    far = reader.read(image.roll(6, dims=3))
    assert reader.score(far, lines, lines)["F1"] < 0.8
    assert reader.each(far, lines)[0] < reader.each(lines, lines)[0]


def perfect(judge: Judge) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What was asked, and readings of it: one that is right, one that is not."""
    task = judge.config.task
    if task == "labels":
        asked = torch.randint(0, 2, (1, *SIZE))
        return asked, asked, 1 - asked
    if task == "depth":
        asked = torch.rand(1, 1, *SIZE)
        return asked, asked, -asked
    if task == "pose":
        asked = torch.rand(1, len(JOINTS), 3) * 20 + 1
        return asked, asked[..., :2], asked[..., :2] + 9
    asked = torch.tensor([1]) if task == "class_label" else torch.tensor([[0, 1, NO_CLASS, 1]])
    right = torch.full((1, 2 if task == "class_label" else 24), -9.0)
    wrong = right.clone()
    right[0, [1] if task == "class_label" else [0, 11, 23]] = 0.0
    return asked, right, wrong


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_pictures_is_by_how_well_they_obey(task: str) -> None:
    judge = build_judge(config(task))
    asked, right, wrong = perfect(judge)
    targets = torch.cat([asked, asked])
    seen = judge.each(torch.cat([right, wrong]), targets)
    assert seen.shape == (2,)
    assert seen[0] > seen[1]


@pytest.mark.parametrize("wrong", [{"size": (30, 48)}, {"names": ()}])
def test_impossible_judges_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8|needs their names"):
        JudgeConfig(**{**vars(config("labels")), **wrong})
