"""Many records at once: each as if it had been painted alone."""

from typing import Any

import numpy as np
import pytest
import torch

from taming.pipeline import Pipeline
from taming.provenance import read_record

SIZE = (16, 24)


def values_of(pipeline: Pipeline, **sources: Any) -> dict[str, torch.Tensor]:
    conditions: Any = pipeline.model.conditions
    return {name: conditions[name].read(source, SIZE) for name, source in sources.items()}


@pytest.fixture(scope="module")
def records(pipeline: Pipeline, photo: np.ndarray) -> list[dict[str, torch.Tensor]]:
    """The left half kept, twice, and then the upper rows."""
    left, top = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    left[:, :12], top[:4] = True, True
    masks = (left, left, top)
    return [values_of(pipeline, known=(photo, mask), class_label="day") for mask in masks]


def test_records_are_painted_as_if_alone(pipeline: Pipeline, records: list) -> None:
    together = pipeline.paint_each(records, SIZE, seeds=[3, 4, 5], steps=4)
    alone = [
        pipeline.paint_values(values, SIZE, seeds=[seed], steps=4)[0]
        for seed, values in zip((3, 4, 5), records, strict=True)
    ]
    for one, other in zip(together, alone, strict=True):
        assert np.array_equal(np.asarray(one), np.asarray(other))


def test_records_of_a_panorama_keep_as_many_cells_in_other_windows(
    pipeline: Pipeline, photo: np.ndarray
) -> None:
    wide = np.tile(photo, (1, 2, 1))
    left, top = np.zeros((16, 48), bool), np.zeros((16, 48), bool)
    left[:, :24], top[:8] = True, True  # half of the cells each
    conditions: Any = pipeline.model.conditions
    some = [{"known": conditions["known"].read((wide, mask), (16, 48))} for mask in (left, top)]
    together = pipeline.paint_each(some, (16, 48), seeds=[1, 2], steps=2)
    alone = pipeline.paint_values(some[1], (16, 48), seeds=2, steps=2)[0]
    assert np.array_equal(np.asarray(together[1]), np.asarray(alone))


def test_each_picture_tells_its_own_seed_and_conditions(
    pipeline: Pipeline, records: list, tmp_path: Any
) -> None:
    done: list[tuple[int, int]] = []
    pictures = pipeline.paint_each(
        records, SIZE, seeds=[3, 4, 5], steps=2, progress=lambda *step: done.append(step)
    )
    assert done[-1] == (3, 3)
    kept = [read_record(picture) for picture in pictures]
    assert [record["seed"] for record in kept] == [3, 4, 5]
    hashes = [record["conditions"]["known"]["sha256"] for record in kept]
    assert hashes[0] == hashes[1] != hashes[2]
    again = pipeline.repaint(pictures[2])
    assert np.array_equal(np.asarray(again), np.asarray(pictures[2]))


def test_every_record_needs_a_seed(pipeline: Pipeline, records: list) -> None:
    with pytest.raises(ValueError, match="3 records with 1 seeds"):
        pipeline.paint_each(records, SIZE, seeds=[1])


def test_no_records_are_no_pictures(pipeline: Pipeline) -> None:
    assert pipeline.paint_each([], SIZE, seeds=[]) == []
