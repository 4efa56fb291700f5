"""Laws of loading a model in less memory: what is kept, what is refused, what paints."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import taming
from taming.checkpoint import save_weights
from taming.config import instantiate_from_config, to_yaml
from taming.transformer.prepared import PackedLinear, can_pack

needs_packing = pytest.mark.skipif(not can_pack(), reason="no kernels for packed weights here")


def write(folder: Path, section: dict[str, Any]) -> Path:
    torch.manual_seed(0)
    model = instantiate_from_config(section)
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml({"model": section}), encoding="utf-8")
    save_weights(folder / "weights.safetensors", model.state_dict())
    return folder


@pytest.fixture
def published(tmp_path: Path, published_stage) -> Path:
    return write(tmp_path / "published", published_stage("none"))


@pytest.fixture
def any_order(tmp_path: Path, second_stage) -> Path:
    return write(tmp_path / "rooms", second_stage())


def packed(model: torch.nn.Module) -> set[str]:
    return {
        f"{name}: {module.packing}"
        for name, module in model.named_modules()
        if isinstance(module, PackedLinear)
    }


@needs_packing
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_published_transformer_is_packed_and_its_head_in_16_bits(precision, published) -> None:
    model = taming.load(published, precision=precision).model
    expected = {
        f"transformer.blocks.{layer}.{name}: {precision}"
        for layer in range(2)
        for name in ("attn.key", "attn.query", "attn.value", "attn.proj", "mlp.0", "mlp.2")
    }
    assert packed(model) == expected | {"transformer.head: bf16"}


@needs_packing
def test_int8_is_for_the_layers_that_paint_in_any_order(any_order) -> None:
    names = packed(taming.load(any_order, precision="int8").model)
    assert {name.split(".")[1] for name in names} == {"content", "query_blocks"}


@needs_packing
@pytest.mark.parametrize("kind", ["published", "any_order"])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_lighter_model_paints_the_same_picture_again(kind, precision, request) -> None:
    folder = request.getfixturevalue(kind)
    first, again = (taming.load(folder, precision=precision).paint(seeds=3)[0] for _ in range(2))
    assert np.array_equal(np.asarray(first), np.asarray(again))


@needs_packing
@pytest.mark.parametrize("kind", ["published", "any_order"])
@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_pictures_of_a_lighter_model_do_not_depend_on_their_neighbours(
    kind, precision, request
) -> None:
    model = taming.load(request.getfixturevalue(kind), precision=precision)
    together = model.paint(seeds=range(3))
    for seed, picture in enumerate(together):
        alone = model.paint(seeds=seed)[0]
        assert np.array_equal(np.asarray(picture), np.asarray(alone))
        assert np.array_equal(np.asarray(model.repaint(picture)), np.asarray(picture))


@needs_packing
def test_int8_is_refused_for_a_first_stage(tmp_path, published_stage) -> None:
    section = published_stage("none")["params"]["first_stage_config"]
    with pytest.raises(ValueError, match=r'"int8" is for second stages.*"bf16"'):
        taming.load(write(tmp_path / "tokenizer", section), precision="int8")


def test_int8_is_refused_where_nothing_computes_it(published, monkeypatch) -> None:
    monkeypatch.setattr("taming.loading.can_pack", lambda: False)
    with pytest.raises(ValueError, match=r'"int8" needs an x86 processor; use "bf16"'):
        taming.load(published, precision="int8")


def test_no_weight_is_left_to_chance(published) -> None:
    """Parameters are built without their random numbers, which a file replaces anyway."""
    states = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        states.append(taming.load(published).model.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
