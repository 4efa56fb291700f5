"""Laws of drawing a training example from a record: orders, known regions, dropping."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from taming.cond_stage import CONDITIONS
from taming.cond_stage.holes import fill_hole
from taming.cond_stage.known import Known
from taming.config import ConfigError, from_mapping
from taming.sampling import orders
from taming.training.codes import (
    ORDER_KINDS,
    Dropping,
    Example,
    OrderShares,
    draw_example,
    stack_examples,
    training_codes,
)

SIZE, GRID = (16, 24), (4, 6)
KEEP_ALL = Dropping(everything=0.0, keep_others=1.0)


def build(*names: str) -> dict[str, Any]:
    words = {"labels": {"names": ["a", "b"]}, "class_label": {"names": ["x", "y"]}}
    made = {}
    for name in names:
        kind = CONDITIONS[name]
        spatial = {"downsample_factor": 4} if kind.kind == "control" else {}
        made[name] = kind(width=8, **spatial, **words.get(name, {}))
    return made


def record() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "codes": torch.randint(16, GRID, generator=generator),
        "image": torch.rand(3, *SIZE, generator=generator) * 2 - 1,
        "labels": torch.randint(2, SIZE, generator=generator),
        "class_label": torch.tensor(1),
    }


def examples(count: int, conditions: dict[str, Any], **options: Any) -> list[Example]:
    shares = options.get("shares", OrderShares())
    dropping = options.get("dropping", KEEP_ALL)
    sample = record()
    return [
        draw_example(sample, conditions, shares, dropping, np.random.default_rng(seed))
        for seed in range(count)
    ]


def only(kind: str) -> OrderShares:
    return OrderShares(**{each: float(each == kind) for each in ORDER_KINDS})


# --- orders --------------------------------------------------------------------------------------


def test_an_example_depends_on_its_generator_alone() -> None:
    conditions = build("labels", "lowres", "known")
    one, other = (examples(8, conditions) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.order, b.order)
        assert a.values.keys() == b.values.keys()
        assert all(torch.equal(value, b.values[name]) for name, value in a.values.items())
    assert len({tuple(each.order.tolist()) for each in one}) > 4


def test_kinds_of_orders_have_their_shares() -> None:
    shares = OrderShares(random=4, spread=3, raster=2, known=1)  # normalised
    drawn = Counter(ORDER_KINDS[each.kind] for each in examples(400, build("known"), shares=shares))
    for kind, share in zip(ORDER_KINDS, (0.4, 0.3, 0.2, 0.1), strict=True):
        assert drawn[kind] / 400 == pytest.approx(share, abs=0.08)


def test_without_the_condition_known_its_share_goes_to_the_others() -> None:
    shares = OrderShares(random=1, spread=0, raster=1, known=8)
    drawn = Counter(ORDER_KINDS[each.kind] for each in examples(400, {}, shares=shares))
    assert set(drawn) == {"random", "raster"}
    assert drawn["random"] == pytest.approx(200, abs=50)


@pytest.mark.parametrize("kind", ORDER_KINDS)
def test_every_order_visits_every_cell_once(kind: str) -> None:
    for each in examples(10, build("known"), shares=only(kind)):
        assert ORDER_KINDS[each.kind] == kind
        assert torch.equal(each.order.sort().values, torch.arange(24))


def test_raster_is_raster() -> None:
    (each,) = examples(1, {}, shares=only("raster"))
    assert torch.equal(each.order, orders.raster(*GRID))


def test_cells_are_numbered_row_by_row() -> None:
    (each,) = examples(1, {}, shares=only("raster"))
    assert torch.equal(each.codes.reshape(GRID), record()["codes"])
    assert (each.size, each.grid) == (SIZE, GRID)


# --- a known region ------------------------------------------------------------------------------


def test_a_known_region_comes_first_and_is_wholly_kept() -> None:
    partly = 0
    for each in examples(40, build("known"), shares=only("known")):
        mask = Known.mask(each.values["known"])
        whole = mask.reshape(4, 4, 6, 4).all(3).all(1).flatten()  # (h w)
        front = each.order[: each.known]
        assert whole[front].all()
        assert each.known < 24, "something has to be left to learn"
        if each.holed is not None:
            partly += 1
            assert each.known > 0
            assert torch.equal(each.holed[0], record()["image"])
            assert torch.equal(each.holed[1], mask)
    assert partly > 12


def test_only_that_kind_of_order_shows_the_region() -> None:
    for kind in ("random", "spread", "raster"):
        for each in examples(5, build("known"), shares=only(kind)):
            assert "known" not in each.values
            assert each.known == 0
            assert each.holed is None


def test_codes_of_the_filled_picture_are_fed_where_it_is_known_and_no_others() -> None:
    conditions = build("known")
    known = next(e for e in examples(20, conditions, shares=only("known")) if e.holed is not None)
    plain = examples(1, conditions, shares=only("random"))[0]
    batch = stack_examples([plain, known, plain], conditions)
    assert batch.rows.tolist() == [1]
    assert known.holed is not None
    image, mask = known.holed
    assert torch.equal(batch.filled[0, :, mask], image[:, mask])
    assert not torch.allclose(batch.filled[0, :, ~mask], image[:, ~mask])

    class FirstStage:
        def indices(self, images: torch.Tensor) -> torch.Tensor:
            assert torch.equal(images, batch.filled)
            return torch.full((len(images), *GRID), 15)

    codes = training_codes(batch, FirstStage())
    assert torch.equal(codes.targets, batch.codes)
    cells = known.order[: known.known]
    expected = batch.codes[1].clone()
    expected[cells] = 15
    assert 0 < known.known < len(expected)
    assert torch.equal(codes.context[1], expected)
    assert torch.equal(codes.context[[0, 2]], batch.codes[[0, 2]])
    assert codes.known.tolist() == [0, known.known, 0]


def test_pictures_are_filled_together_as_each_alone() -> None:
    conditions = build("known")
    some = [e for e in examples(8, conditions, shares=only("known")) if e.holed is not None]
    batch = stack_examples(some, conditions)
    for filled, example in zip(batch.filled, some, strict=True):
        assert torch.equal(filled, fill_hole(*example.holed))


def test_a_batch_without_known_regions_encodes_nothing() -> None:
    batch = stack_examples(examples(3, {}), {})
    assert batch.filled.shape == (0, 3, *SIZE)
    codes = training_codes(batch, first_stage=None)
    assert torch.equal(codes.context, codes.targets)


# --- dropping ------------------------------------------------------------------------------------


def test_conditions_are_dropped_by_their_probabilities() -> None:
    dropping = Dropping(everything=0.2, keep={"labels": 0.25}, keep_others=0.9)
    conditions = build("labels", "class_label")
    drawn = examples(800, conditions, shares=only("raster"), dropping=dropping)
    shares = {name: sum(name in each.values for each in drawn) / 800 for name in conditions}
    assert shares["labels"] == pytest.approx(0.8 * 0.25, abs=0.05)
    assert shares["class_label"] == pytest.approx(0.8 * 0.9, abs=0.05)
    nothing = sum(not each.values for each in drawn) / 800
    assert nothing == pytest.approx(0.2 + 0.8 * 0.75 * 0.1, abs=0.05)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 40), (1.0, 0)])
def test_everything_is_dropped_together(share: float, expected: int) -> None:
    dropping = Dropping(everything=share, keep_others=1.0)
    drawn = examples(40, build("labels", "class_label"), dropping=dropping, shares=only("raster"))
    assert sum(len(each.values) == 2 for each in drawn) == expected


def test_conditions_come_alone_as_often_as_asked() -> None:
    conditions = build("labels", "depth", "class_label", "known")  # the record has no depth
    dropping = Dropping(everything=0.2, alone=0.5, keep_others=1.0)
    drawn = examples(800, conditions, shares=only("raster"), dropping=dropping)
    kinds = Counter(tuple(sorted(each.values)) for each in drawn)
    assert set(kinds) == {(), ("labels",), ("class_label",), ("class_label", "labels")}
    assert kinds[()] / 800 == pytest.approx(0.2, abs=0.05)
    assert kinds[("labels",)] / 800 == pytest.approx(0.25, abs=0.05)
    assert kinds[("class_label",)] / 800 == pytest.approx(0.25, abs=0.05)


def test_conditions_alone_come_by_their_weights() -> None:
    conditions = build("labels", "depth", "class_label")  # the record has no depth
    weights = {"class_label": 3.0, "depth": 5.0}
    dropping = Dropping(everything=0.0, alone=1.0, alone_weights=weights)
    drawn = examples(800, conditions, shares=only("raster"), dropping=dropping)
    kinds = Counter(tuple(each.values) for each in drawn)
    assert set(kinds) == {("labels",), ("class_label",)}
    assert kinds[("class_label",)] / 800 == pytest.approx(0.75, abs=0.05)


def test_what_a_record_lacks_is_never_present() -> None:
    conditions = build("labels", "depth", "pose")
    for each in examples(5, conditions):
        assert set(each.values) == {"labels"}
    batch = stack_examples(examples(2, conditions), conditions)
    assert batch.present["labels"].all()
    assert not batch.present["depth"].any()
    assert "depth" not in batch.values


def test_blanks_stand_for_absent_values() -> None:
    conditions = build("labels")
    with_labels, without = examples(1, conditions)[0], examples(1, conditions)[0]
    without = without._replace(values={})
    batch = stack_examples([without, with_labels], conditions)
    assert batch.present["labels"].tolist() == [False, True]
    assert torch.equal(batch.values["labels"][0], conditions["labels"].blank(SIZE))
    assert torch.equal(batch.values["labels"][1], record()["labels"])


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"random": -1.0}, {"random": 0, "spread": 0, "raster": 0, "known": 0}]
)
def test_impossible_shares_are_refused_where_they_are_read(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="shares of orders"):
        from_mapping(OrderShares, wrong, "codes.orders")


def test_orders_of_known_regions_alone_need_the_condition() -> None:
    with pytest.raises(ValueError, match='condition "known"'):
        only("known").probabilities(has_known=False)


@pytest.mark.parametrize(
    "wrong", [{"everything": 1.5}, {"keep_others": -0.1}, {"keep": {"depth": 2.0}}]
)
def test_impossible_probabilities_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="give a probability"):
        from_mapping(Dropping, wrong, "codes.dropping")


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf")])
def test_weights_of_conditions_alone_are_positive(weight: float) -> None:
    with pytest.raises(ConfigError, match=r"alone_weights\.depth .* give a number > 0"):
        from_mapping(Dropping, {"alone_weights": {"depth": weight}}, "codes.dropping")


def test_shares_of_dropping_are_of_the_same_examples() -> None:
    with pytest.raises(ConfigError, match="sum to 1 at most"):
        from_mapping(Dropping, {"everything": 0.6, "alone": 0.5}, "codes.dropping")


def test_dropping_a_condition_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no condition 'label'; did you mean 'labels'"):
        Dropping(keep={"label": 0.5}).check(["depth", "labels"])
    with pytest.raises(ConfigError, match="alone_weights: no condition 'label'; did you mean"):
        Dropping(alone_weights={"label": 2.0}).check(["depth", "labels"])
    with pytest.raises(ConfigError, match=r"orders\.known"):
        Dropping(keep={"known": 0.5}).check(["known"])
