"""The contract that every condition keeps, and how conditions are combined."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from taming.cond_stage import CONDITIONS, ControlEncoder, combine

SIZE, GRID, WIDTH = (32, 48), (4, 6), 24
LIKE = {
    "class_label": ((), torch.int64),
    "labels": (SIZE, torch.int64),
    "depth": ((1, *SIZE), torch.float32),
    "lowres": ((4, *SIZE), torch.float32),
    "pose": ((3, 19, 3), torch.float32),
    "known": ((4, *SIZE), torch.float32),
    "text": ((384,), torch.float32),
    "edges": ((1, *SIZE), torch.float32),
    "boxes": ((3, 5), torch.float32),
}


# --- one condition ---------------------------------------------------------------------------


def test_name_is_the_key(condition):
    assert CONDITIONS[condition.name] is type(condition)


def test_values_have_the_promised_shape_and_type(condition, sample, rng):
    for value in (condition.derive(sample, rng), condition.blank(SIZE)):
        assert (tuple(value.shape), value.dtype) == LIKE[condition.name]


def test_derive_is_the_same_for_the_same_draw(condition, sample):
    first, second = (condition.derive(sample, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first, second)


def test_derive_leaves_the_sample_untouched(condition, sample, rng):
    before = copy.deepcopy(sample)
    condition.derive(sample, rng)
    assert all(torch.equal(before[k], v) for k, v in sample.items() if k != "caption")


def test_what_a_sample_lacks_derives_to_none(condition, sample, rng):
    bare = {"image": sample["image"]}
    expected = condition.name in ("lowres", "known", "edges")  # a picture alone is enough
    assert (condition.derive(bare, rng) is not None) == expected


def test_embedded_and_null_have_one_shape(condition, values_of):
    features = condition.embed(values_of(condition, 2), GRID)
    assert features.shape == condition.null(2, GRID).shape
    tail = (WIDTH, *GRID) if condition.kind == "control" else (condition.tokens, WIDTH)
    assert tuple(features.shape) == (2, *tail)


def test_a_value_is_not_the_null(condition, values_of):
    features = condition.embed(values_of(condition, 1), GRID)
    assert not torch.allclose(features, condition.null(1, GRID), atol=1e-3)


def test_different_values_differ(condition, values_of):
    features = condition.embed(values_of(condition, 2), GRID)
    assert not torch.allclose(features[0], features[1], atol=1e-4)


def test_gradient_reaches_every_parameter(condition, values_of):
    values = values_of(condition, 2)
    out = combine({"it": condition}, {"it": values}, {"it": torch.tensor([True, False])}, GRID)
    (out.control.square().sum() + out.prefix.square().sum()).backward()
    for name, parameter in condition.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_shown_is_a_picture(condition, values_of):
    for value in (values_of(condition, 1)[0], condition.blank(SIZE)):
        picture = condition.show(value)
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3


def test_copies_embed_alike(condition, values_of):
    values = values_of(condition, 1)
    twin = copy.deepcopy(condition)
    assert torch.equal(condition.embed(values, GRID), twin.embed(values, GRID))


def test_state_dict_holds_parameters_only(condition):
    assert set(condition.state_dict()) == {name for name, _ in condition.named_parameters()}


# --- all conditions together -----------------------------------------------------------------


def stacked(conditions, values_of, count):
    return {name: values_of(condition, count) for name, condition in conditions.items()}


def test_dropped_equals_absent_equals_null(conditions, values_of):
    values = stacked(conditions, values_of, 2)
    nobody = {name: torch.zeros(2, dtype=torch.bool) for name in conditions}
    dropped = combine(conditions, values, nobody, GRID)
    absent = combine(conditions, {}, {}, GRID, batch=2)
    control = sum(c.null(2, GRID) for c in conditions.values() if c.kind == "control")
    prefix = torch.cat([c.null(2, GRID) for c in conditions.values() if c.kind == "prefix"], dim=1)
    for control_i, prefix_i in (dropped, absent):
        assert torch.equal(control_i, control)
        assert torch.equal(prefix_i, prefix)


def test_combine_is_where_present_embed_else_null(condition, values_of):
    values, present = values_of(condition, 3), torch.tensor([True, False, True])
    out = combine({"it": condition}, {"it": values}, {"it": present}, GRID)
    got = out.control if condition.kind == "control" else out.prefix
    keep = present.reshape(-1, *[1] * (got.ndim - 1))
    naive = torch.where(keep, condition.embed(values, GRID), condition.null(3, GRID))
    torch.testing.assert_close(got, naive, rtol=0, atol=1e-6)


def test_an_image_does_not_depend_on_its_batch(conditions, values_of):
    values = stacked(conditions, values_of, 3)
    present = {name: torch.tensor([i % 2 == 0, True, False]) for i, name in enumerate(conditions)}
    together = combine(conditions, values, present, GRID)
    for i in range(3):
        alone = combine(
            conditions,
            {name: value[i : i + 1] for name, value in values.items()},
            {name: flags[i : i + 1] for name, flags in present.items()},
            GRID,
        )
        torch.testing.assert_close(alone.control[0], together.control[i], rtol=0, atol=1e-6)
        torch.testing.assert_close(alone.prefix[0], together.prefix[i], rtol=0, atol=1e-6)


def test_an_absent_value_is_not_looked_at(condition, values_of):
    values, present = values_of(condition, 2), torch.tensor([True, False])
    other = values.clone()
    other[1] = condition.blank(SIZE)
    first, second = (
        combine({"it": condition}, {"it": v}, {"it": present}, GRID) for v in (values, other)
    )
    assert torch.equal(first.control, second.control)
    assert torch.equal(first.prefix, second.prefix)


def test_values_alone_are_present_everywhere(conditions, values_of):
    values = stacked(conditions, values_of, 2)
    everybody = {name: torch.ones(2, dtype=torch.bool) for name in conditions}
    assert torch.equal(
        combine(conditions, values, {}, GRID).control,
        combine(conditions, values, everybody, GRID).control,
    )


def test_prefixes_stand_in_order_of_declaration(conditions, values_of):
    values = stacked(conditions, values_of, 1)
    prefix = combine(conditions, values, {}, GRID).prefix
    assert torch.equal(prefix[:, :1], conditions["class_label"].embed(values["class_label"]))
    assert torch.equal(prefix[:, 1:4], conditions["text"].embed(values["text"]))
    assert torch.equal(prefix[:, 4:], conditions["boxes"].embed(values["boxes"]))


def test_module_dict_works_as_well(conditions, values_of):
    values = stacked(conditions, values_of, 1)
    one, other = (combine(c, values, {}, GRID) for c in (conditions, nn.ModuleDict(conditions)))
    assert torch.equal(one.control, other.control)


def test_absent_conditions_still_get_gradients(conditions):
    """Distributed training stops where a parameter has none."""
    out = combine(conditions, {}, {}, GRID, batch=1)
    (out.control.sum() + out.prefix.sum()).backward()
    assert all(p.grad is not None for c in conditions.values() for p in c.parameters())


def test_without_conditions_control_is_zero_and_prefix_empty():
    out = combine({}, {}, {}, GRID, batch=2, width=5)
    assert torch.equal(out.control, torch.zeros(2, 5, *GRID))
    assert out.prefix.shape == (2, 0, 5)


def test_presence_without_values_is_an_error(conditions):
    with pytest.raises(ValueError, match=r"'depth' is marked present in 1 of 1 .* no values"):
        combine(conditions, {}, {"depth": torch.tensor([True])}, GRID)


def test_unknown_condition_is_an_error(conditions):
    with pytest.raises(ValueError, match=r"no condition is called depht; this model has class"):
        combine(conditions, {"depht": torch.zeros(1)}, {}, GRID)


def test_a_value_of_another_size_is_an_error(conditions):
    with pytest.raises(ValueError, match=r"'depth' gives features \(24, 4, 4\).*\(24, 4, 6\)"):
        combine(conditions, {"depth": torch.zeros(1, 1, 32, 32)}, {}, GRID)


# --- the encoder of maps ---------------------------------------------------------------------


@pytest.mark.parametrize("f", [1, 2, 4, 8, 16, 32])
def test_encoder_gives_one_cell_per_patch(f):
    encoder = ControlEncoder(3, 20, f)
    assert encoder(torch.zeros(2, 3, 2 * f, 3 * f)).shape == (2, 20, 2, 3)


def test_a_cell_sees_its_own_pixels_only():
    encoder = ControlEncoder(1, 8, 8)
    maps = torch.zeros(1, 1, 24, 32)
    maps[..., 8:16, 16:24] = 1.0
    changed = (encoder(maps) != encoder(torch.zeros_like(maps))).any(dim=1)[0]
    assert changed.nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("f", [0, 3, 12])
def test_factor_must_be_a_power_of_two(f):
    with pytest.raises(ValueError, match=f"downsample_factor is {f}"):
        ControlEncoder(1, 8, f)


def test_map_that_does_not_divide_names_the_next_size():
    with pytest.raises(
        ValueError, match=r"30x40 does not divide .* 8x8 pixels; resize it to 32x40"
    ):
        ControlEncoder(1, 8, 8)(torch.zeros(1, 1, 30, 40))
