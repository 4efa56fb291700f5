"""What is aimed at: on scenes only, met at the bound, missed below it, unknown without numbers."""

import pytest

from taming.evaluation.completion import KEPT
from taming.evaluation.reaches import EXCESS, KERNEL, PSNR, REACHES, with_reaches
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
    Row("w", "steps", EXCESS, sampled=2.0),
]
MISSED = [
    Row("w", "reconstruction", PSNR, reconstructed=24.9),
    Row("w", "reconstruction", "codebook usage", reconstructed=0.94),
    Row("w", "labels", "mIoU", true=0.9, reconstructed=0.7, sampled=0.61, shuffled=0.1),
    Row("w", "depth", "Spearman", true=0.8, reconstructed=0.78, sampled=0.61, shuffled=0.1),
    Row("w", "depth", "Spearman", true=0.8, reconstructed=0.7, sampled=0.61, shuffled=0.61),
    Row("w", "text", "accuracy", true=0.8, sampled=0.7, shuffled=0.7),
    Row("w", "pose", "PCK@0.1", true=0.8, reconstructed=0.7, sampled=0.5, shuffled=0.1),
    Row("w", "class_label", "accuracy", true=0.8, sampled=0.67, shuffled=0.1),
    Row("w", "text", "accuracy", true=0.8, sampled=0.67, shuffled=0.1),
    Row("w", "lowres x4", RATIO, sampled=0.61),
    Row("w", "lowres x4", CONSISTENCY, reconstructed=30.0, sampled=26.9),
    Row("w", "known", KEPT, sampled=0.999),
    Row("w", "distribution", KERNEL, true=0.0, reconstructed=0.1, sampled=0.31),
    Row("w", "steps", EXCESS, sampled=2.1),
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
def test_two_together_are_held_against_each_alone(sampled: float, met: bool) -> None:
    alone = Row("w", "depth", "Spearman", sampled=0.6, shuffled=0.1)
    other = Row("v", "depth", "Spearman", sampled=0.1)  # of another set
    together = Row("w", "labels+depth", "depth: Spearman", sampled=sampled)
    assert with_reaches([other, alone, together], ["w"])[2].met is met


def test_two_together_without_the_one_alone_are_not_known() -> None:
    row = with_reaches([Row("w", "labels+depth", "depth: Spearman", sampled=1.0)], ["w"])[0]
    assert row.reach is not None
    assert row.met is None
