"""What is measured of a variant, on models that nobody has trained."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import ablations_measures
from benchmarks.ablations_measures import (
    GUIDANCE,
    SAMPLINGS,
    Sampling,
    nats_per_code,
    obeyed,
    paint,
    seconds_per_picture,
)
from benchmarks.ablations_meter import Trained
from benchmarks.ablations_report import compared, moments
from benchmarks.ablations_training import SNAPSHOTS
from benchmarks.ablations_variants import NAMED
from taming.checkpoint import save_weights
from taming.config import instantiate_from_config
from taming.evaluation.judges import EdgeReader
from taming.evaluation.records import Record, to_picture
from taming.pipeline import Pipeline
from taming.sampling import orders
from taming.training.codes import CodesBatch, training_codes
from taming.transformer.multi_task import Codes, MultiTaskTransformer

SIZE = (16, 24)


@pytest.fixture
def model(second_stage: Callable[..., dict[str, Any]]) -> MultiTaskTransformer:
    torch.manual_seed(0)
    built = instantiate_from_config(second_stage(("labels", "depth", "known")))
    return built.eval().requires_grad_(False)


def values(count: int) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"labels": torch.randint(3, SIZE, generator=generator)} for _ in range(count)]


def test_spread_steps_paint_what_the_pipeline_paints(model: MultiTaskTransformer) -> None:
    given, seeds = values(3), [4, 5, 6]
    ours = paint(model, given, SIZE, seeds, SAMPLINGS["24 steps"])
    theirs = Pipeline(model).paint_each(given, SIZE, seeds=seeds, steps=24, guidance=GUIDANCE)
    assert [each.tobytes() for each in ours] == [each.tobytes() for each in theirs]


def test_raster_paints_row_by_row_one_code_at_a_time(model: MultiTaskTransformer) -> None:
    seen: list[list[int]] = []

    def order(height: int, width: int, generator: torch.Generator) -> Tensor:
        found = SAMPLINGS["raster"].order(height, width, generator)
        seen.append(found.tolist())
        return found

    paint(model, values(1), SIZE, [0], Sampling(order, SAMPLINGS["raster"].steps))
    assert seen == [list(range(4 * 6))]
    assert SAMPLINGS["raster"].steps is None


def test_the_order_of_painting_matters(model: MultiTaskTransformer) -> None:
    one, other = (
        paint(model, values(1), SIZE, [0], SAMPLINGS[name])[0].tobytes() for name in SAMPLINGS
    )
    assert one != other


class Records:
    """Stands for a cache of codes: as long as asked, each record drawn from its number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        return {
            "codes": torch.randint(16, (4, 6), generator=generator),
            "image": torch.rand(3, *SIZE, generator=generator) * 2 - 1,
            "labels": torch.randint(3, SIZE, generator=generator),
            "depth": torch.rand(1, *SIZE, generator=generator) * 2 - 1,
        }


def test_nats_are_the_cross_entropy_along_the_order(model: MultiTaskTransformer) -> None:
    cache: Any = Records(3)
    found = nats_per_code(model, cache, 3, "raster", ())
    order = orders.raster(4, 6)[None]
    for index, nats in enumerate(found):
        codes = cache[index]["codes"].flatten()[None]
        branch = model.branch({}, {}, 1, (4, 6))
        logits = model.transformer(codes, order, branch.control, branch.prefix)
        expected = -logits.log_softmax(-1).gather(2, codes[..., None]).mean()
        assert nats == pytest.approx(float(expected), rel=1e-4)


def test_nats_depend_on_what_is_given_and_asked_for(model: MultiTaskTransformer) -> None:
    cache: Any = Records(20)  # more than one batch
    asked = [("raster", ()), ("random", ()), ("known", ()), ("raster", ("labels",))]
    found = {(kind, given): nats_per_code(model, cache, 20, kind, given) for kind, given in asked}
    assert all(len(each) == 20 for each in found.values())
    assert len({tuple(each) for each in found.values()}) == len(asked)
    assert nats_per_code(model, cache, 20, "random", ()) == found["random", ()]


def test_orders_belong_to_the_picture_and_not_to_the_model(
    model: MultiTaskTransformer,
    second_stage: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A model of one task is asked in the order in which one of all tasks is."""
    seen: list[Tensor] = []

    def watched(batch: CodesBatch, first_stage: Any) -> Codes:
        seen.append(batch.order)
        return training_codes(batch, first_stage)

    monkeypatch.setattr(ablations_measures, "training_codes", watched)
    alone = instantiate_from_config(second_stage(("labels",))).eval()
    cache: Any = Records(4)
    for each in (model, alone):
        nats_per_code(each, cache, 4, "random", ("labels",))
    assert torch.equal(*seen)


def test_obedience_is_told_picture_by_picture() -> None:
    reader = EdgeReader()
    images = [torch.zeros(3, 16, 16), torch.zeros(3, 16, 16), torch.zeros(3, 16, 16)]
    for n, image in enumerate(images):
        image[:, :, 3 + 4 * n :] = 1.0
    pictures = [to_picture(image) for image in images]
    lines = [reader.read(image[None])[0] for image in images]
    records = [Record(n, "", pictures[n], {}, {"edges": lines[n]}) for n in range(3)]
    found = obeyed(reader, "edges", (), records, [pictures[0], pictures[1], pictures[0]])
    assert found["F1"] == [1.0, 1.0, 0.0]


def test_works_are_timed_in_turn_and_after_warming_up() -> None:
    called: list[tuple[str, int]] = []
    works = {name: lambda count, name=name: called.append((name, count)) for name in "ab"}
    found = seconds_per_picture(works, rounds=2)
    assert called == [("a", 1), ("a", 16), ("b", 1), ("b", 16)] * 3
    assert set(found) == {"a", "b"}
    assert all(seconds >= 0 for timed in found.values() for seconds in timed)


def test_differences_are_taken_picture_by_picture() -> None:
    """Scenes differ much more than the variants do, which pairs do not mind."""
    told = compared([1.1, 5.1, 9.1], [1.0, 5.0, 9.0])
    assert told.mean == pytest.approx(5.1)
    assert told.error == pytest.approx(4 / 3**0.5)
    assert told.difference == pytest.approx(0.1)
    assert told.difference_error == pytest.approx(0.0, abs=1e-9)


def test_without_a_reference_there_is_no_difference() -> None:
    assert compared([1.0, 2.0])[2:] == (None, None)


# --- when variants are compared ------------------------------------------------------------------


def trained(folder: Path, name: str, steps: Sequence[int]) -> Trained:
    """A run of which there are snapshots alone."""
    for step in steps:
        path = folder / name / SNAPSHOTS / f"{step:07d}.safetensors"
        save_weights(path, {"w": torch.zeros(1)}, {"steps": str(step), "seconds": str(step)})
    return Trained(NAMED[name], folder / name, "", batch_size=4)


def test_variants_of_unequal_speed_are_also_compared_after_equally_many_examples(
    tmp_path: Path,
) -> None:
    fast = trained(tmp_path, "no_trunk", [16, 23, 32, 40])
    slow = trained(tmp_path, "base", [16, 23, 30])
    same_minutes, same_examples = moments([slow, fast])
    assert {name: s.step for name, s in same_minutes.snapshots.items()} == {
        "base": 30, "no_trunk": 40,
    }  # fmt: skip
    assert {s.step for s in same_examples.snapshots.values()} == {23}
    assert same_examples.title == "after the same 92 examples"


def test_variants_of_equal_speed_are_compared_once(tmp_path: Path) -> None:
    pair = [trained(tmp_path, "base", [16, 1000]), trained(tmp_path, "prefix", [16, 1010])]
    assert len(moments(pair)) == 1
