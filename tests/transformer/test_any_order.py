"""Laws of the any-order transformer: what each logit may know, and what it must."""

import pytest
import torch

from taming.transformer import AnyOrderTransformer


def test_logits_are_given_along_the_order(transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs()
    logits = transformer(control_mode=mode)(codes, order, control, prefix)
    assert logits.shape == (*codes.shape, 16)


def test_a_later_code_never_changes_earlier_logits(transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs()
    model = transformer(control_mode=mode)
    logits = model(codes, order, control, prefix)
    for place in range(codes.shape[1]):
        cell = order[:, place : place + 1]
        other = codes.scatter(1, cell, (codes.gather(1, cell) + 1) % 16)
        changed = model(other, order, control, prefix)
        assert torch.equal(changed[:, : place + 1], logits[:, : place + 1])
        if place < codes.shape[1] - 1:
            assert (changed[:, place + 1 :] != logits[:, place + 1 :]).any(-1).all()


def test_the_gradient_reaches_all_earlier_codes_and_no_others(transformer, inputs, mode) -> None:
    _, order, control, prefix = inputs(batch=1)
    codes = torch.arange(12)[None]  # each code is used once: its row of the table is its cell
    model = transformer(control_mode=mode)
    for place in range(12):
        model.zero_grad()
        model(codes, order, control, prefix)[0, place].square().sum().backward()
        touched = model.tok_emb.weight.grad.abs().sum(1)[:12] > 0
        assert set(touched.nonzero().flatten().tolist()) == set(order[0, :place].tolist())


def test_the_first_cell_is_painted_from_conditions_alone(transformer, inputs) -> None:
    codes, order, control, prefix = inputs()
    model = transformer()
    first = model(codes, order, control, prefix)[:, 0]
    assert torch.equal(model((codes + 3) % 16, order, control, prefix)[:, 0], first)
    assert (model(codes, order, control, prefix + 1)[:, 0] != first).any()


def test_an_image_does_not_depend_on_its_batch(transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs(batch=3)
    model = transformer(control_mode=mode)
    together = model(codes, order, control, prefix)
    for i in range(3):
        one = slice(i, i + 1)
        alone = model(codes[one], order[one], control[one], prefix[one])
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=1e-5)


def test_control_of_a_far_cell_reaches_a_query(transformer, inputs) -> None:
    codes, order, control, prefix = inputs()
    far = control.clone()
    far[:, :, 0, 0] += 1.0
    model = transformer(trunk_layers=1)
    changed = model(codes, order, far, prefix) != model(codes, order, control, prefix)
    assert changed.any(-1).all()


def test_without_a_trunk_a_cell_knows_its_own_control_only(transformer, inputs) -> None:
    codes, order, control, prefix = inputs()
    far = control.clone()
    far[:, :, 0, 0] += 1.0
    model = transformer(trunk_layers=0)
    changed = (model(codes, order, far, prefix) != model(codes, order, control, prefix)).any(-1)
    assert torch.equal(changed, order == 0)


def test_as_a_prefix_a_control_reaches_every_query_without_a_trunk(transformer, inputs) -> None:
    codes, order, control, prefix = inputs()
    far = control.clone()
    far[:, :, 0, 0] += 1.0
    model = transformer(trunk_layers=0, control_mode="prefix")
    assert (model(codes, order, far, prefix) != model(codes, order, control, prefix)).any(-1).all()


def test_as_a_prefix_a_control_stands_at_its_own_cell(transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs()
    model = transformer(control_mode=mode)
    rotation = model.rotation(3, 4, codes.device)
    front = model.guide(control, prefix).prefix.shape[1]
    placed = model.place_tokens(rotation, order[:, :5], front)
    assert placed.cos.shape[:2] == (2, front + 5)
    unplaced = 1 + prefix.shape[1]
    assert (placed.sin[:, :unplaced] == 0).all()
    if mode == "prefix":
        torch.testing.assert_close(placed.sin[:, unplaced:front], rotation.sin.expand(2, -1, -1))
    torch.testing.assert_close(placed.sin[:, front:], rotation.at(order[:, :5]).sin)


def test_rows_and_columns_are_told_apart(transformer, inputs) -> None:
    """On a grid and on its transpose the same raster indices are different places."""
    codes, order, control, prefix = inputs()
    model = transformer()
    turned = model(codes, order, control.reshape(2, 32, 4, 3), prefix)
    assert not torch.allclose(turned, model(codes, order, control, prefix), atol=1e-3)


def test_every_parameter_learns(transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs()
    model = transformer(control_mode=mode)
    model(codes, order, control, prefix).square().sum().backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_a_picture_of_one_cell(transformer, inputs, mode) -> None:
    _, _, control, prefix = inputs()
    one = torch.zeros(2, 1, dtype=torch.int64)
    logits = transformer(control_mode=mode)(one, one, control[:, :, :1, :1], prefix)
    assert logits.shape == (2, 1, 16)


def test_without_prefix_tokens_the_start_token_is_enough(transformer, inputs, mode) -> None:
    codes, order, control, prefix = inputs()
    assert transformer(control_mode=mode)(codes, order, control, prefix[:, :0]).isfinite().all()


def test_an_order_of_another_grid_is_an_error(transformer, inputs) -> None:
    codes, order, control, prefix = inputs()
    with pytest.raises(ValueError, match="grid 3x2 has 6 cells, the order 12"):
        transformer()(codes, order, control[..., :2], prefix)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"layers": 3}, "layers is 3"),
        ({"width": 36, "heads": 4}, "width 36 over 4 heads"),
        ({"control_mode": "both"}, '"both"'),
        ({"control_width": 200}, "control_width 200"),
    ],
)
def test_impossible_sizes_are_errors_that_name_them(options, told) -> None:
    with pytest.raises(ValueError, match=told):
        AnyOrderTransformer(16, **{"width": 32, "layers": 4, "heads": 2, **options})


def test_codes_that_look_alike_start_alike() -> None:
    torch.manual_seed(0)
    model = AnyOrderTransformer(64, width=128, layers=2, heads=2)
    codebook = torch.randn(64, 8)
    model.place_codes(codebook)
    pairs = tuple(torch.triu_indices(64, 64, 1))
    for table in (model.tok_emb.weight, model.head.weight):
        apart = torch.cdist(table, table)[pairs]
        expected = torch.cdist(codebook, codebook)[pairs]
        assert torch.corrcoef(torch.stack([apart, expected]))[0, 1] > 0.8
