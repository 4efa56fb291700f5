"""Laws of the second stage: presence, guidance, the loss, what is frozen, what is refused."""

import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.checkpoint import CheckpointError, save_weights
from taming.config import instantiate_from_config
from taming.sampling import guide, orders
from taming.transformer import Codes, MultiTaskTransformer
from taming.transformer.multi_task import guidance_chain

SIZE, GRID, T = (16, 24), (4, 6), 24


@pytest.fixture(scope="module")
def model(second_stage) -> MultiTaskTransformer:
    torch.manual_seed(0)
    return instantiate_from_config(second_stage()).eval()


def some_values(batch: int = 3) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "labels": torch.randint(3, (batch, *SIZE), generator=generator),
        "depth": torch.rand(batch, 1, *SIZE, generator=generator) * 2 - 1,
        "lowres": torch.rand(batch, 4, *SIZE, generator=generator),
        "class_label": torch.randint(2, (batch,), generator=generator),
    }


def some_codes(batch: int = 3, known: int = 0) -> Codes:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(16, (batch, T), generator=generator)
    order = torch.stack([orders.random(*GRID, generator) for _ in range(batch)])
    return Codes(targets, targets.clone(), order, torch.full((batch,), known))


# --- presence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["labels", "depth", "class_label"])
def test_a_dropped_condition_is_the_null_exactly(model, name) -> None:
    values = some_values()
    everywhere = {each: torch.ones(3, dtype=torch.bool) for each in values}
    dropped = model.branch(values, {**everywhere, name: torch.zeros(3, dtype=torch.bool)}, 3, GRID)
    left_out = model.branch({k: v for k, v in values.items() if k != name}, {}, 3, GRID)
    assert torch.equal(dropped.control, left_out.control)
    assert torch.equal(dropped.prefix, left_out.prefix)


def test_presence_is_judged_image_by_image(model) -> None:
    values = some_values()
    has = torch.tensor([True, False, True])
    mixed = model.branch(values, {"depth": has}, 3, GRID)
    full = model.branch(values, {}, 3, GRID)
    without = model.branch({k: v for k, v in values.items() if k != "depth"}, {}, 3, GRID)
    for i in range(3):
        expected = full if has[i] else without
        torch.testing.assert_close(mixed.control[i], expected.control[i], atol=1e-6, rtol=1e-6)


def test_the_value_of_an_absent_condition_is_not_looked_at(model) -> None:
    values = some_values()
    present = {"depth": torch.tensor([True, False, False])}
    loss = model(some_codes(), values, present, GRID)
    values["depth"][1:] = torch.nan
    assert torch.equal(model(some_codes(), values, present, GRID), loss)


def test_present_conditions_change_the_loss(model) -> None:
    values = some_values()
    base = model(some_codes(), {}, {}, GRID)
    for name, value in values.items():
        assert not torch.equal(model(some_codes(), {name: value}, {}, GRID), base), name


def test_absent_conditions_still_have_gradients(model) -> None:
    """Distributed training waits for the gradient of every parameter."""
    model.zero_grad()
    model(some_codes(), {}, {}, GRID).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    model.zero_grad()


# --- the loss ------------------------------------------------------------------------------------


def test_the_loss_is_the_cross_entropy_along_the_order(model) -> None:
    codes, values = some_codes(), some_values()
    branch = model.branch(values, {}, 3, GRID)
    logits = model.transformer(codes.context, codes.order, branch.control, branch.prefix)
    loss = model(codes, values, {}, GRID)
    for image, place in itertools.product(range(3), (0, 7, 23)):
        target = codes.targets[image, codes.order[image, place]]
        expected = F.cross_entropy(logits[image, place], target)
        torch.testing.assert_close(loss[image, place], expected)


def test_given_cells_cost_nothing(model) -> None:
    codes = some_codes()._replace(known=torch.tensor([0, 5, 23]))
    loss = model(codes, {}, {}, GRID)
    whole = model(some_codes(), {}, {}, GRID)
    for image, known in enumerate((0, 5, 23)):
        assert not loss[image, :known].any()
        assert torch.equal(loss[image, known:], whole[image, known:])


def test_the_context_is_fed_and_the_targets_are_asked(model) -> None:
    codes = some_codes()
    other = codes._replace(context=(codes.targets + 1) % 16)
    assert not torch.allclose(model(other, {}, {}, GRID)[:, 1:], model(codes, {}, {}, GRID)[:, 1:])
    assert torch.equal(model(other, {}, {}, GRID)[:, 0], model(codes, {}, {}, GRID)[:, 0])


# --- guidance ------------------------------------------------------------------------------------


def formula(scales: list[float]) -> Tensor:
    """Coefficients of u, c1, c12, ... in u + s1 (c1 - u) + s2 (c12 - c1) + ..."""
    unit = torch.eye(len(scales) + 1)
    total = unit[0].clone()
    for i, scale in enumerate(scales):
        total = total + scale * (unit[i + 1] - unit[i])
    return total


@pytest.mark.parametrize("scales", list(itertools.product([0.0, 1.0, 2.5], repeat=3)))
def test_a_scale_for_each_condition_is_the_published_formula(scales) -> None:
    """Branches that cancel are left out, so the chain is judged by its coefficients."""
    given = ["a", "b", "c"]
    chain, steps = guidance_chain(given, dict(zip(given, scales, strict=True)))
    unit = torch.eye(4)
    got = guide([unit[len(names)] for names in chain], steps)
    torch.testing.assert_close(got, formula(list(scales)))
    assert all(names == given[: len(names)] for names in chain)


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_one_number_guides_everything_together(scale) -> None:
    assert guidance_chain(["a", "b"], scale) == ([[], ["a", "b"]], [scale])


def test_scales_of_one_ask_for_one_branch() -> None:
    assert guidance_chain(["a", "b"], 1.0) == ([["a", "b"]], [])
    assert guidance_chain(["a", "b"], {}) == ([["a", "b"]], [])
    assert guidance_chain([], 4.0) == ([[]], [])


def test_guiding_a_condition_that_is_not_given_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"'text'.*\['depth'\]"):
        guidance_chain(["depth"], {"text": 2.0})


def test_branches_follow_the_order_of_declaration(model) -> None:
    values = some_values()
    swapped = dict(reversed(values.items()))
    one, other = (
        model.branches(each, 3, GRID, {"labels": 2.0, "depth": 3.0}) for each in (values, swapped)
    )
    assert one[1] == other[1] == [2.0, 3.0, 1.0]
    for a, b in zip(one[0], other[0], strict=True):
        assert torch.equal(a.control, b.control)


def test_branches_that_agree_on_their_words_share_one_prefix(model) -> None:
    branches, _ = model.branches(some_values(), 3, GRID, {"labels": 2.0, "class_label": 4.0})
    prefixes = [id(branch.prefix) for branch in branches]
    assert len(branches) == 4
    assert len(set(prefixes)) == 2


def test_the_first_branch_is_unconditional_and_the_last_has_everything(model) -> None:
    values = some_values()
    branches, scales = model.branches(values, 3, GRID, 2.0)
    assert scales == [2.0]
    nothing, everything = model.branch({}, {}, 3, GRID), model.branch(values, {}, 3, GRID)
    assert torch.equal(branches[0].control, nothing.control)
    assert torch.equal(branches[-1].control, everything.control)
    assert torch.equal(branches[-1].prefix, everything.prefix)


# --- what it is made of --------------------------------------------------------------------------


def test_the_first_stage_stays_frozen(model) -> None:
    try:
        model.train()
        assert not any(part.training for part in model.first_stage_model.modules())
        assert not any(p.requires_grad for p in model.first_stage_model.parameters())
        assert model.transformer.training
    finally:
        model.eval()


@pytest.mark.parametrize("size", [(16, 22), (15, 24), (0, 16), (-16, 16)])
def test_sizes_that_are_no_multiple_of_the_factor_name_the_nearest(model, size) -> None:
    with pytest.raises(ValueError, match=rf"size {size[0]}x{size[1]} .*nearest .* \d+x\d+"):
        model.grid(size)


def test_grids_are_height_by_width(model) -> None:
    assert model.grid((32, 8)) == (8, 2)


@pytest.mark.parametrize("names", [(), ("class_label",), ("depth",)])
def test_any_set_of_conditions_makes_a_model(second_stage, names) -> None:
    model = instantiate_from_config(second_stage(names, control_width=64))
    assert model(some_codes(), {}, {}, GRID).shape == (3, T)


def change(config: dict[str, Any], section: str, **params: Any) -> dict[str, Any]:
    inner = {
        **config["params"][section],
        "params": {**config["params"][section]["params"], **params},
    }
    return {**config, "params": {**config["params"], section: inner}}


def test_without_conditions_features_lie_where_the_weights_are(second_stage) -> None:
    """On a graphics card, too: nothing tells a device but the weights."""
    model = instantiate_from_config(second_stage(())).to("meta")
    branch = model.branch({}, {}, 2, GRID)
    assert {branch.control.device.type, branch.prefix.device.type} == {"meta"}


def test_another_codebook_size_is_an_error_with_the_remedy(second_stage) -> None:
    config = change(second_stage(), "transformer_config", codebook_size=17)
    with pytest.raises(ValueError, match=r"codebook_size 17, the first stage 16; set .* to 16"):
        instantiate_from_config(config)


def test_a_condition_under_another_name_is_an_error(second_stage) -> None:
    config = second_stage()
    conditions = config["params"]["cond_stage_config"]
    conditions = {"segmentation": conditions["labels"]}
    config["params"] = {**config["params"], "cond_stage_config": conditions}
    with pytest.raises(ValueError, match=r'"segmentation".*"labels"'):
        instantiate_from_config(config)


def test_weights_of_another_architecture_are_an_error(second_stage, model, tmp_path) -> None:
    save_weights(tmp_path / "wide.safetensors", model.state_dict())
    config = second_stage(width=64)
    config["params"]["ckpt_path"] = str(tmp_path / "wide.safetensors")
    with pytest.raises(CheckpointError, match=r"wide.safetensors does not fit"):
        instantiate_from_config(config)


def test_sizes_are_known_without_any_memory(second_stage) -> None:
    """A dry run builds the model on the meta device."""
    with torch.device("meta"):
        model = instantiate_from_config(second_stage())
    assert model.transformer.head.weight.is_meta
