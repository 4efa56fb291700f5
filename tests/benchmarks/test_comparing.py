"""A comparison passes for one reason and fails for many."""

import torch
from torch import Tensor

from benchmarks.comparing import TOLERANCE, Row, compare, failure

THEIRS = {"logits": torch.tensor([0.5, -2.0]), "codes": torch.tensor([3, 1])}


def row(**changed: Tensor) -> Row:
    return compare("a model", THEIRS, {**THEIRS, **changed})


def test_the_same_passes() -> None:
    assert row() == Row("a model", "1 float, 1 int", 2.0, 0.0, True, "")


def test_a_float_may_differ_by_the_tolerance_and_no_more() -> None:
    near, far = (THEIRS["logits"] + share * TOLERANCE for share in (0.5, 2.0))
    assert row(logits=near).passed
    assert not row(logits=far).passed


def test_small_tensors_must_agree_ten_times_as_well() -> None:
    theirs = {"gradient": torch.tensor([0.01])}
    for share, passes in ((0.05, True), (0.5, False)):
        ours = {"gradient": theirs["gradient"] + share * TOLERANCE}
        assert compare("", theirs, ours).passed is passes


def test_the_difference_is_the_largest_one() -> None:
    assert row(logits=torch.tensor([0.5, -2.25])).difference == 0.25


def test_a_code_may_not_differ() -> None:
    changed = row(codes=torch.tensor([3, 2]))
    assert changed.remark == "1 of 2 entries of codes differ"
    assert not changed.passed


def test_what_is_missing_fails() -> None:
    assert compare("", THEIRS, {"codes": THEIRS["codes"]}).remark == "logits is missing"


def test_what_we_have_more_does_not_matter() -> None:
    assert row(entropy=torch.zeros(3)).passed


def test_another_shape_fails_even_where_values_would_broadcast() -> None:
    assert row(logits=THEIRS["logits"][None]).remark == "logits has shape 1x2, not 2"


def test_another_kind_of_number_fails() -> None:
    assert row(codes=THEIRS["codes"].float()).remark == "codes is torch.float32, not torch.int64"


def test_nan_agrees_with_nothing() -> None:
    broken = {"logits": torch.tensor([float("nan")])}
    assert not compare("", broken, broken).passed


def test_zeros_alone_show_nothing() -> None:
    nothing = {"gradient": torch.zeros(2)}
    assert compare("", nothing, nothing).remark == "nothing but zeros was compared"
    assert not compare("", {}, {}).passed


def test_many_faults_are_told_in_short() -> None:
    theirs = {f"weight {number}": torch.ones(1) for number in range(9)}
    assert compare("", theirs, {}).remark.endswith("; and 6 more")


def test_an_error_is_a_row_that_failed() -> None:
    failed = failure("a model", RuntimeError("a traceback\nValueError: 3 heads"))
    assert not failed.passed
    assert failed.remark == "RuntimeError: ValueError: 3 heads"
