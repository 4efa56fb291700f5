"""Obedience: painters that copy the truth, painters that ignore it, and the columns between."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from taming.cond_stage.depth import Depth
from taming.cond_stage.labels import Labels
from taming.data.transforms import to_image
from taming.evaluation.judges import DepthJudge, EdgeReader, JudgeConfig, LabelJudge
from taming.evaluation.obedience import Judged, judged
from taming.evaluation.records import Record, to_picture
from taming.evaluation.report import Row

SIZE = (16, 24)


class BrightIsBlock(LabelJudge):
    """Reads labels as a picture of two tones shows them."""

    def read(self, images: Tensor) -> Tensor:
        return (images.mean(dim=1) > 0).long()


class BrightIsNear(DepthJudge):
    def read(self, images: Tensor) -> Tensor:
        return images.mean(dim=1, keepdim=True)


READERS: dict[str, Any] = {
    "labels": BrightIsBlock(JudgeConfig("labels", "", SIZE, ("ground", "block"), widths=(8,))),
    "depth": BrightIsNear(JudgeConfig("depth", "", SIZE, widths=(8,))),
}
CONDITIONS: dict[str, Any] = {
    "labels": Labels(8, 4, ["ground", "block"]),
    "depth": Depth(8, 4),
    "edges": None,
}


def records() -> list[Record]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(8):
        labels = torch.from_numpy((rng.random((4, 6)) > 0.5).repeat(4, 0).repeat(4, 1)).long()
        depth = labels[None] * 2.0 - 1.0
        picture = to_picture(depth.expand(3, *SIZE) * 0.5)
        values = {"labels": labels, "depth": depth}
        made.append(Record(number, f"{number}", picture, values, values))
    return made


def rows_of(found: Judged) -> dict[str, Row]:
    return {row.measure: row for row in found.rows}


def judged_pictures(pictures: list[Image.Image]) -> Judged:
    made = records()
    return judged("sets", READERS, made, [r.picture for r in made], pictures, CONDITIONS)


def test_shuffled_scores_are_below_those_of_a_painter_that_copies_the_truth() -> None:
    rows = rows_of(judged_pictures([record.picture for record in records()]))
    for measure in ("labels: mIoU", "labels: accuracy", "depth: Spearman"):
        row = rows[measure]
        assert row.sampled == row.true == row.reconstructed == pytest.approx(1.0)
        assert row.shuffled is not None
        assert row.shuffled < 0.75
    assert rows["labels: contested accuracy"].shuffled == 0.0
    depth = rows["depth: RMSE"]
    assert (depth.sampled or 0) < (depth.shuffled or 0)


def test_a_painter_that_ignores_its_conditions_is_no_better_than_shuffled() -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 256, (8, *SIZE, 1)).repeat(3, -1).astype(np.uint8)
    rows = rows_of(judged_pictures([Image.fromarray(pixels) for pixels in noise]))
    plain = rows["labels: accuracy"]
    assert plain.sampled == pytest.approx(plain.shuffled, rel=0.15)
    assert abs(rows["depth: centred correlation"].sampled or 0) < 0.15


def test_one_condition_is_named_by_the_task_alone() -> None:
    made = records()
    pictures = [record.picture for record in made]
    readers = {"depth": READERS["depth"]}
    found = judged("sets", readers, made, pictures, pictures, CONDITIONS)
    assert {row.task for row in found.rows} == {"depth"}
    assert "Spearman" in rows_of(found)


def test_the_sample_that_obeys_least_has_the_lowest_score() -> None:
    pictures = [record.picture for record in records()]
    pictures[5] = Image.fromarray(255 - np.asarray(pictures[5]))
    assert judged_pictures(pictures).scores.argmin() == 5


def test_edges_are_read_without_a_judge() -> None:
    reader, made = EdgeReader(), []
    for record in records():
        lines = reader.read(to_image(np.asarray(record.picture))[None])[0]
        made.append(record._replace(asked={"edges": lines}))
    pictures = [record.picture for record in made]
    row = rows_of(judged("sets", {"edges": reader}, made, pictures, pictures, CONDITIONS))["F1"]
    assert row.true == row.sampled == 1.0
    assert (row.shuffled or 0) < 1.0


def test_pictures_survive_the_way_to_eight_bits_and_back() -> None:
    pixels = torch.randint(0, 256, (3, *SIZE), generator=torch.Generator().manual_seed(0))
    image = pixels / 127.5 - 1.0
    assert torch.allclose(to_image(np.asarray(to_picture(image))), image, atol=1e-6)
