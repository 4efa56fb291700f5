"""Judges: what they learn from true pairs, and that they come back from disk unchanged."""

from pathlib import Path

import pytest
import torch

from taming.data.batch import JOINTS, VOID
from taming.evaluation.judge_training import coarsened, judge_of, train_judge
from taming.evaluation.judges import JudgeConfig, build_judge, load_judge, save_judge

SIZE = (32, 48)  # of the pictures of `blocks`
TASKS = ("labels", "depth", "pose")


def config(task: str, root: Path | str = "nowhere", steps: int = 60) -> JudgeConfig:
    names = ("ground", "block") if task == "labels" else ()
    return JudgeConfig(
        task, str(root), SIZE, names, widths=(16, 24), steps=steps, batch_size=8,  # pyright: ignore
        learning_rate=1e-2, scale=(1.0, 1.0), jitter=0.0, coarsest=1.0,
    )  # fmt: skip


def held_out(root: Path) -> list[dict]:
    from taming.data import PairedFolder

    part = PairedFolder(root, "validation", SIZE)
    return [part.sample(index) for index in range(len(part))]


def test_a_tiny_judge_learns_labels_of_pictures_it_has_not_seen(blocks: Path) -> None:
    judge = train_judge(config("labels", blocks))
    samples = held_out(blocks)
    seen = judge.read(torch.stack([sample["image"] for sample in samples]))
    asked = torch.stack([sample["labels"] for sample in samples])
    scores = judge.score(seen, asked, asked.roll(1, 0))
    assert scores["mIoU"] > 0.8
    assert judge.score(seen, asked.roll(1, 0), asked)["contested accuracy"] < 0.4


def test_a_tiny_judge_learns_depth(blocks: Path) -> None:
    judge = train_judge(config("depth", blocks))
    samples = held_out(blocks)
    seen = judge.read(torch.stack([sample["image"] for sample in samples]))
    asked = torch.stack([sample["depth"] for sample in samples])
    assert judge.score(seen, asked, asked)["centred correlation"] > 0.7
    assert judge.mean.abs().sum() > 0


def test_a_tiny_judge_learns_poses(blocks: Path) -> None:
    learned = train_judge(JudgeConfig(**{**vars(config("pose", blocks, 80)), "seed": 1}))
    samples = held_out(blocks)
    seen = learned.read(torch.stack([sample["image"] for sample in samples]))
    asked = torch.stack([sample["keypoints"][0] for sample in samples])
    # Two joints are mirrored onto one another's corners half of the time; all heights are certain.
    shown = asked[..., 2] > 0
    assert (seen[..., 1] - asked[..., 1])[shown].abs().mean() < 3.0


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
        "present": {"depth": torch.tensor([True, True])},
    }
    judge.loss(batch, torch.rand(2, 3, *SIZE)).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in judge.parameters())


def test_a_judge_is_trained_once_and_then_reused(blocks: Path, tmp_path: Path) -> None:
    first = judge_of(tmp_path, "depth", str(blocks), SIZE, steps=1, workers=0)
    again = judge_of(tmp_path, "depth", "no longer there/blocks", SIZE, workers=0)
    assert torch.equal(first.mean, again.mean)


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


def test_a_pose_is_read_between_cells() -> None:
    judge = build_judge(config("pose"))
    setattr(judge, "net", Spot((17.0 + 0.5) / 4 - 0.5, (13.0 + 0.5) / 4 - 0.5))  # noqa: B010
    assert judge.read(torch.zeros(1, 3, *SIZE))[0, 0].tolist() == pytest.approx([17, 13], abs=0.3)


def test_coarsened_pictures_keep_size_and_brightness() -> None:
    images = torch.rand(2, 3, *SIZE)
    generator = torch.Generator().manual_seed(0)
    seen = [coarsened(images, 4.0, generator) for _ in range(12)]
    changed = [each for each in seen if not torch.equal(each, images)]
    assert 0 < len(changed) < 12
    assert all(each.shape == images.shape for each in changed)
    assert all(abs(each.mean() - images.mean()) < 0.02 for each in changed)


@pytest.mark.parametrize("wrong", [{"size": (30, 48)}, {"names": ()}])
def test_impossible_judges_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"multiples of 8|needs their names"):
        JudgeConfig(**{**vars(config("labels")), **wrong})
