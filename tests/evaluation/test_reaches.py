"""What is aimed at: on scenes only, met at the bound, missed below it, unknown without numbers."""

from dataclasses import replace

import pytest

from taming.evaluation.completion import KEPT
from taming.evaluation.reaches import (
    ALONE,
    EXCESS,
    KERNEL,
    PSNR,
    REACHES,
    doubts,
    unmeasured,
    with_reaches,
)
from taming.evaluation.report import Row
from taming.evaluation.superresolution import CONSISTENCY, RATIO

MET = [
    Row("w", "reconstruction", PSNR, reconstructed=25.0),
    Row("w", "reconstruction", "codebook usage", reconstructed=0.95),
    Row("w", "labels", "mIoU", true=0.8, reconstructed=0.7, sampled=0.61, shuffled=0.1),
    Row("w", "depth", "Spearman", true=0.8, reconstructed=0.7, sampled=0.61, shuffled=0.1),
    Row("w", "pose", "PCK@0.1", true=0.8, reconstructed=0.7, sampled=0.61, shuffled=0.1),
    Row("w", "class_label", "accuracy", true=0.8, sampled=0.7, shuffled=0.1),
    Row("w", "text", "accuracy", true=0.8, sampled=0.7, shuffled=0.1),
    Row("w", "lowres x4", RATIO, sampled=0.6),
    Row("w", "lowres x4", CONSISTENCY, reconstructed=30.0, sampled=27.0),
    Row("w", "known", KEPT, sampled=1.0),
    Row("w", "distribution", KERNEL, true=0.0, reconstructed=0.1, sampled=0.3),
    Row("w", "steps", EXCESS, sampled=2.0, pictures=1000),
]
MISSED = [
    Row("w", "reconstruction", PSNR, reconstructed=24.9),
    Row("w", "reconstruction", "codebook usage", reconstructed=0.94),
    Row("w", "labels", "mIoU", true=0.9, reconstructed=0.7, sampled=0.61, shuffled=0.1),
    Row("w", "depth", "Spearman", true=0.8, reconstructed=0.78, sampled=0.61, shuffled=0.1),
    Row("w", "depth", "Spearman", true=0.8, reconstructed=0.7, sampled=0.65, shuffled=0.61),
    Row("w", "text", "accuracy", true=0.8, sampled=0.7, shuffled=0.69),
    Row("w", "pose", "PCK@0.1", true=0.8, reconstructed=0.7, sampled=0.5, shuffled=0.1),
    Row("w", "class_label", "accuracy", true=0.8, sampled=0.67, shuffled=0.1),
    Row("w", "text", "accuracy", true=0.8, sampled=0.67, shuffled=0.1),
    Row("w", "lowres x4", RATIO, sampled=0.61),
    Row("w", "lowres x4", CONSISTENCY, reconstructed=30.0, sampled=26.9),
    Row("w", "known", KEPT, sampled=0.999),
    Row("w", "distribution", KERNEL, true=0.0, reconstructed=0.1, sampled=0.31),
    Row("w", "steps", EXCESS, sampled=2.1, pictures=1000),
]


def test_every_reach_is_tried_here() -> None:
    tried = {(row.task, row.measure) for row in MET}
    assert tried == {(row.task, row.measure) for row in MISSED}
    assert tried == {(reach.task, reach.measure) for reach in REACHES}


@pytest.mark.parametrize("row", MET, ids=lambda row: f"{row.task} {row.measure}")
def test_numbers_at_the_bound_meet_it(row: Row) -> None:
    assert with_reaches([row], ["w"])[0].met is True


@pytest.mark.parametrize("row", MISSED, ids=lambda row: f"{row.task} {row.measure}")
def test_numbers_beyond_the_bound_miss_it(row: Row) -> None:
    assert with_reaches([row], ["w"])[0].met is False


def test_nothing_is_aimed_at_on_other_sets() -> None:
    assert with_reaches(MET, []) == MET


def test_without_a_number_nobody_knows() -> None:
    row = with_reaches([Row("w", "steps", EXCESS)], ["w"])[0]
    assert row.reach is not None
    assert row.met is None


def test_photographs_have_a_bound_of_their_own() -> None:
    rows = [Row("flower_photos", "reconstruction", PSNR, reconstructed=x) for x in (22.5, 22.4)]
    assert [row.met for row in with_reaches(rows, [])] == [True, False]


@pytest.mark.parametrize(("sampled", "met"), [(0.59, True), (0.57, False)])
def test_two_together_are_held_against_each_alone_on_the_same_pictures(
    sampled: float, met: bool
) -> None:
    """Poses of pictures with people were held against sentences of pictures without any."""
    others = Row("w", "depth", "Spearman", sampled=0.1, shuffled=0.1)  # of other pictures
    name = "depth: Spearman"
    beside = Row("w", "labels+depth", name + ALONE, sampled=0.6, pictures=31)
    elsewhere = replace(beside, set="v", sampled=0.1)
    together = Row("w", "labels+depth", name, 0.7, sampled=sampled, shuffled=0.1, pictures=31)
    row = with_reaches([others, elsewhere, beside, together], ["w"])[3]
    assert row.met is met
    assert row.reach is not None
    assert "the same 31 pictures" in row.reach


def test_two_that_are_ignored_together_as_each_is_alone_do_not_meet_it() -> None:
    name = "depth: Spearman"
    alone = Row("w", "labels+depth", name + ALONE, sampled=0.08)
    together = Row("w", "labels+depth", name, true=0.9, sampled=0.08, shuffled=0.07)
    assert with_reaches([together, alone], ["w"])[0].met is False


def test_two_together_without_the_one_alone_are_not_known() -> None:
    together = Row("w", "labels+depth", "depth: Spearman", true=1.0, sampled=1.0, shuffled=0.0)
    row = with_reaches([together], ["w"])[0]
    assert row.reach is not None
    assert row.met is None


@pytest.mark.parametrize("excess", [0.0, 9.0])
def test_small_draws_tell_nothing_and_the_reach_says_how_small_they_are(excess: float) -> None:
    """Five draws of 16 pictures are within two standard errors of nearly anything."""
    rows = with_reaches([Row("w", "steps", EXCESS, sampled=excess, pictures=16)], ["w"])
    assert rows[0].met is None
    assert rows[0].reach == "sampled <= 2 in draws of 1000 pictures (16 here)"
    assert "--drawn 1000" in doubts(rows)[0]


@pytest.mark.parametrize("true", [0.1, 0.2])
def test_a_bound_that_bounds_nothing_is_not_met_but_unknown(true: float) -> None:
    row = Row("w", "distribution", KERNEL, true=true, reconstructed=0.1, sampled=0.05)
    rows = with_reaches([row], ["w"])
    assert rows[0].met is None
    assert "bounds nothing" in doubts(rows)[0]


def test_verdicts_leave_no_doubt() -> None:
    assert doubts(with_reaches([*MET, *MISSED], ["w"])) == []


def test_every_reach_has_a_row_measured_or_not() -> None:
    """What was not measured was not in the report, and what is not there was not missed."""
    rows = with_reaches([*MET, *unmeasured(MET, ["w"])], ["w"])
    assert rows[: len(MET)] == with_reaches(MET, ["w"])
    rest = rows[len(MET) :]
    assert {(row.set, row.task, row.measure) for row in rest} == {
        ("w", "labels+depth", "labels: mIoU"),
        ("w", "labels+depth", "depth: Spearman"),
        ("w", "pose+text", "pose: PCK@0.1"),
        ("w", "pose+text", "text: accuracy"),
        ("flower_photos", "reconstruction", PSNR),
        ("clothing_cc0", "reconstruction", PSNR),
    }
    assert len(unmeasured([], ["w"])) == len(REACHES) + len(rest)
    for row in rest:
        assert row.reach is not None
        assert row.met is None
        assert {row.true, row.reconstructed, row.sampled, row.shuffled} == {None}
