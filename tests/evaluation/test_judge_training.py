"""What judges learn from true and from reconstructed pictures, and that they learn it once."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from taming.data.batch import NO_CLASS
from taming.data.marks import mark_of
from taming.data.paired_folder import PairedFolder
from taming.evaluation.judge import NoJudge
from taming.evaluation.judge_training import (
    Lessons,
    coarsened,
    draw_lessons,
    home_of,
    judge_config,
    judge_of,
    named_in,
    open_data,
    train_judge,
)
from taming.evaluation.judges import Judge, JudgeConfig
from taming.worlds import render_set

SIZE = (32, 48)  # of the pictures of `blocks`


def config(task: str, root: Path, steps: int = 60) -> JudgeConfig:
    names = ("ground", "block") if task == "labels" else ()
    return JudgeConfig(
        task, str(root), SIZE, names, widths=(16, 24), draws=48, steps=steps,  # pyright: ignore
        batch_size=8, learning_rate=1e-2, scale=(1.0, 1.0), jitter=0.0, coarsest=1.0,
    )  # fmt: skip


@pytest.fixture(scope="module")
def lessons(blocks: Path) -> Lessons:
    return draw_lessons(config("depth", blocks))


def held_out(root: Path) -> list[dict[str, Any]]:
    part = PairedFolder(root, "validation", SIZE)
    return [part.sample(index) for index in range(len(part))]


def read(judge: Judge, samples: list[dict[str, Any]]) -> torch.Tensor:
    return judge.read(torch.stack([sample["image"] for sample in samples]))


def test_a_tiny_judge_learns_labels_of_pictures_it_has_not_seen(blocks, lessons) -> None:
    judge = train_judge(config("labels", blocks), lessons)
    samples = held_out(blocks)
    seen = read(judge, samples)
    asked = torch.stack([sample["labels"] for sample in samples])
    scores = judge.score(seen, asked, asked.roll(1, 0))
    assert scores["mIoU"] > 0.8
    assert judge.score(seen, asked.roll(1, 0), asked)["contested accuracy"] < 0.4


def test_a_tiny_judge_learns_depth(blocks, lessons) -> None:
    judge = train_judge(config("depth", blocks), lessons)
    samples = held_out(blocks)
    asked = torch.stack([sample["depth"] for sample in samples])
    assert judge.score(read(judge, samples), asked, asked)["centred correlation"] > 0.7
    assert judge.mean.abs().sum() > 0


def test_a_tiny_judge_learns_poses(blocks, lessons) -> None:
    learned = train_judge(replace(config("pose", blocks, 80), seed=1), lessons)
    samples = held_out(blocks)
    seen = read(learned, samples)
    asked = torch.stack([sample["keypoints"][0] for sample in samples])
    # Two joints are mirrored onto one another's corners half of the time; all heights are certain.
    shown = asked[..., 2] > 0
    assert (seen[..., 1] - asked[..., 1])[shown].abs().mean() < 3.0


def test_the_same_seed_gives_the_same_judge(blocks, lessons) -> None:
    one, other = (train_judge(config("depth", blocks, 3), lessons) for _ in range(2))
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])


def test_lessons_show_pictures_in_the_form_that_is_asked_for(blocks: Path) -> None:
    made = draw_lessons(replace(config("depth", blocks), draws=4), lambda images: -images)
    batch = made.batch([0, 1, 2], torch.tensor([False, True, False]))
    plain = made.batch([0, 1, 2], torch.zeros(3, dtype=torch.bool))
    assert torch.equal(batch["image"][0], plain["image"][0])
    assert torch.allclose(batch["image"][1], -plain["image"][1], atol=0.01)
    assert torch.equal(batch["labels"], plain["labels"])


def test_a_set_seen_more_than_once_is_drawn_anew(blocks: Path) -> None:
    made = draw_lessons(replace(config("depth", blocks), draws=20, scale=(1.0, 2.0)))
    names = [sample["name"] for sample in made.samples]
    again = names.index(names[0], 1)
    assert not torch.equal(made.samples[0]["image"], made.samples[again]["image"])


def test_a_judge_is_trained_once_and_then_reused(blocks, lessons, tmp_path: Path) -> None:
    def never() -> Lessons:
        raise AssertionError("no lessons are needed")

    wanted = config("depth", blocks, steps=1)
    first = judge_of(tmp_path, wanted, lambda: lessons)
    assert torch.equal(first.mean, judge_of(tmp_path, wanted, never).mean)
    with pytest.raises(AssertionError, match="no lessons"):
        judge_of(tmp_path, replace(wanted, first_stage="another"), never)


def test_what_a_set_does_not_have_no_judge_learns(blocks, lessons) -> None:
    with pytest.raises(NoJudge, match="nothing from which a judge learns text"):
        train_judge(config("text", blocks), lessons)
    assert lessons.samples[0]["attributes"].tolist() == [NO_CLASS] * 4


@pytest.mark.parametrize(("task", "annotation"), [("depth", "depth"), ("pose", "keypoints")])
def test_what_no_typical_sample_has_is_averaged_over_the_lessons(
    blocks: Path, lessons: Lessons, task: str, annotation: str
) -> None:
    """A rare annotation ended the evaluation: there was nothing to take the mean of."""
    typical = [
        {key: value for key, value in sample.items() if key != annotation}
        for sample in lessons.typical
    ]
    plain = config(task, blocks, steps=1)
    judge = train_judge(plain, replace(lessons, typical=typical))
    usual = train_judge(plain, lessons)
    assert judge.mean.shape == usual.mean.shape
    assert 0 < (judge.mean - usual.mean).abs().mean() < 0.5 * usual.mean.abs().mean()


def test_a_config_has_what_its_set_says(blocks: Path) -> None:
    found = judge_config("labels", blocks, SIZE, draws=4)
    assert (found.names, found.pictures, found.draws) == (("ground", "block"), 16, 4)
    assert found.annotated == mark_of(PairedFolder(blocks, "train", SIZE))


def test_a_judge_learns_from_the_split_that_the_run_learned_from(blocks: Path) -> None:
    """It always learned from `train`, which a run may hold out."""
    found = judge_config("depth", blocks, SIZE, split="validation", draws=8)
    names = {sample["name"] for sample in draw_lessons(found).samples}
    assert (found.pictures, len(names)) == (8, 8)
    assert names == set(PairedFolder(blocks, "validation", SIZE).names)
    assert home_of(found) != home_of(replace(found, split="train"))


@pytest.mark.parametrize("split", ["validation", "all", "train+validation"])
def test_a_judge_never_learns_from_what_it_judges(blocks: Path, split: str) -> None:
    held = PairedFolder(blocks, "validation", SIZE).names
    with pytest.raises(NoJudge, match=f"8 of the .* in its split '{re.escape(split)}'.*held out"):
        judge_config("depth", blocks, SIZE, held_out=held, split=split)


def test_a_set_without_its_split_has_no_judge(blocks: Path) -> None:
    with pytest.raises(NoJudge, match="no pictures in split 'test'"):
        judge_config("depth", blocks, SIZE, split="test")


def test_two_sets_of_one_name_have_judges_of_their_own(blocks: Path, tmp_path: Path) -> None:
    """Name and number of pictures were all that told sets apart."""
    other = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    mark = mark_of(PairedFolder(blocks, "train", SIZE))
    assert mark_of(PairedFolder(other, "train", SIZE)) == mark
    (other / "report.json").write_text("{}")
    assert mark_of(PairedFolder(other, "train", SIZE)) == mark
    told = (other / "label_names.json").read_text()
    (other / "label_names.json").write_text(told.replace("block", "stone"))  # as many bytes
    changed = mark_of(PairedFolder(other, "train", SIZE))
    assert changed != mark
    plain = config("labels", blocks)
    homes = {home_of(replace(plain, annotated=each)) for each in (mark, changed)}
    assert len(homes) == 2
    (other / "label_names.json").write_text(told)
    (other / "labels" / "00.png").write_bytes(b"another map")
    assert mark_of(PairedFolder(other, "train", SIZE)) not in (mark, changed)


def test_maps_in_folders_within_their_folder_count(blocks: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    marks = [mark_of(PairedFolder(root, "train", SIZE))]
    (root / "labels" / "streets").mkdir()
    for content in (b"a map", b"another map"):
        (root / "labels" / "streets" / "00.png").write_bytes(content)
        marks.append(mark_of(PairedFolder(root, "train", SIZE)))
    assert len(set(marks)) == 3


def test_scenes_are_known_by_their_settings_and_tables(tmp_path: Path) -> None:
    """A caption that was changed, or joints that were added, left codes and judges as they were."""
    folder = render_set(4, 16, tmp_path / "worlds", people=False, workers=1, validation_share=0.5)
    marks = [mark_of(PairedFolder(folder, "train", 16))]
    (folder / "images" / "000001.png").write_bytes(b"the same, packed otherwise")
    (folder / "report.json").write_text("{}")
    assert mark_of(PairedFolder(folder, "train", 16)) == marks[0]
    joints = {"images": [], "annotations": [], "categories": []}
    for file, text in (
        ("captions.json", "{}"),
        ("keypoints.json", json.dumps(joints)),
        ("worlds.json", (folder / "worlds.json").read_text().replace('"seed": 0', '"seed": 1')),
    ):
        (folder / file).write_text(text)
        marks.append(mark_of(PairedFolder(folder, "train", 16)))
    assert len(set(marks)) == 4
    (folder / "keypoints.json").write_text(json.dumps({**joints, "info": "a last digit"}))
    assert mark_of(PairedFolder(folder, "train", 16)) == marks[-1]


def test_pictures_that_are_listed_and_absent_have_a_mark(tmp_path: Path) -> None:
    """Half a download could be loaded, and neither encoded nor evaluated."""
    part = SimpleNamespace(
        root=tmp_path, names=["a\udce9"], paths=[tmp_path / "a\udce9.png"], told=list
    )
    absent = mark_of(cast(Any, part))
    part.paths[0].write_bytes(b"a picture")
    assert mark_of(cast(Any, part)) != absent


def test_people_whom_no_caption_of_a_scene_mentions_are_not_there() -> None:
    place = "A sand desert at noon in fog."
    assert named_in([place])["people"] == "nobody"
    assert (
        named_in([place, "A man in a red shirt and blue trousers, walking."])["people"] == "people"
    )
    assert named_in(["Two dogs."]) == {}


def test_an_earlier_caption_is_not_overruled_by_a_later_one() -> None:
    told = named_in(["A sea coast at noon in fog.", "A forest, dusk, clear."])
    assert (told["biome"], told["hour"], told["weather"]) == ("coast", "noon", "fog")
    later = named_in(["A picture of a sea coast at noon.", "A sea coast, noon, fog."])
    assert later["weather"] == "fog"


def test_coarsened_pictures_keep_size_and_brightness() -> None:
    images = torch.rand(2, 3, *SIZE)
    generator = torch.Generator().manual_seed(0)
    seen = [coarsened(images, 4.0, generator) for _ in range(12)]
    changed = [each for each in seen if not torch.equal(each, images)]
    assert 0 < len(changed) < 12
    assert all(each.shape == images.shape for each in changed)
    assert all(abs(each.mean() - images.mean()) < 0.02 for each in changed)


def test_a_set_that_is_not_mirrored_has_a_judge_that_saw_no_mirror(blocks: Path) -> None:
    """Classes that are mirror images of one another were taught wrongly half of the time."""
    plain = judge_config("depth", blocks, SIZE)
    exact = judge_config("depth", blocks, SIZE, flip=False)
    assert [open_data(each).sets[0].flip for each in (plain, exact)] == [True, False]
    assert home_of(plain) != home_of(exact)


@pytest.mark.parametrize("name", [".DS_Store", "._00.png", ".thumbs/00.png", "Thumbs.db"])
def test_what_file_managers_leave_is_no_annotation(blocks: Path, tmp_path: Path, name: str) -> None:
    root = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    mark = mark_of(PairedFolder(root, "train", SIZE))
    (root / "labels" / name).parent.mkdir(exist_ok=True)
    (root / "labels" / name).write_bytes(b"seen")
    (root / "._keypoints.json").write_bytes(b"seen")
    assert mark_of(PairedFolder(root, "train", SIZE)) == mark
