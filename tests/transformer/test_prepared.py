"""Laws of linear layers for decoding: every form is the layer it was made of, as far as it says."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taming.transformer.prepared import (
    PackedLinear,
    SharedLinear,
    can_pack,
    linear,
    pack,
    prepare,
    prepare_batches,
)

N, K = 24, 32
PACKINGS = ["bf16", "int8"]
needs_packing = pytest.mark.skipif(not can_pack(), reason="no kernels for packed weights here")


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(K, N)


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, K, generator=torch.Generator().manual_seed(1))


# --- float32 -------------------------------------------------------------------------------------


@torch.inference_mode()
@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (8, 1), (2, 40)])
@pytest.mark.parametrize("is_for_batches", [False, True])
def test_a_prepared_layer_is_the_layer(shape, is_for_batches, layer) -> None:
    prepared = prepare(layer)
    if is_for_batches:
        prepare_batches(prepared)
    torch.testing.assert_close(prepared(rows(*shape)), layer(rows(*shape)), atol=1e-6, rtol=1e-5)


def test_weights_are_the_layers_own(layer) -> None:
    prepared = prepare(layer)
    assert isinstance(prepared, SharedLinear)
    assert prepared.weight.data_ptr() == layer.weight.data_ptr()


@torch.inference_mode()
def test_layers_of_one_input_stand_side_by_side(layer) -> None:
    other = nn.Linear(K, 5, bias=False)
    together = prepare(layer, other)(rows(1, 1))
    torch.testing.assert_close(together[..., :N], layer(rows(1, 1)))
    torch.testing.assert_close(together[..., N:], other(rows(1, 1)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_are_computed_as_ever(dtype, layer) -> None:
    layer = layer.to(dtype)
    assert torch.equal(prepare(layer)(rows(1).to(dtype)), layer(rows(1).to(dtype)))


@torch.inference_mode()
def test_autocast_reaches_prepared_layers(layer) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(rows(1), layer.weight, layer.bias).dtype == torch.bfloat16


# --- packed --------------------------------------------------------------------------------------


@needs_packing
@pytest.mark.parametrize(("packing", "bound"), [("bf16", 1e-3), ("int8", 2e-2)])
def test_packed_weights_drift_no_further_than_their_bits(packing, bound, layer) -> None:
    expected = layer(rows(4))
    drift = (PackedLinear(layer, packing)(rows(4)) - expected).norm() / expected.norm()
    assert 0 < drift < bound


@needs_packing
@pytest.mark.parametrize("packing", PACKINGS)
def test_what_is_unpacked_is_what_counts(packing, layer) -> None:
    packed = PackedLinear(layer, packing)
    weight, bias = packed.unpacked()
    # In 8 bits the input is rounded too.
    expected = F.linear(rows(4), weight, bias)
    torch.testing.assert_close(packed(rows(4)), expected, atol=3e-2, rtol=0)
    torch.testing.assert_close(weight, layer.weight, atol=2e-3, rtol=0)


@needs_packing
def test_bf16_weights_lose_nothing_in_16_bits(layer) -> None:
    rounded = copy.deepcopy(layer).bfloat16().float()
    weight, _ = PackedLinear(rounded, "bf16").unpacked()
    torch.testing.assert_close(weight, rounded.weight, atol=1e-7, rtol=0)


@needs_packing
@pytest.mark.parametrize("packing", PACKINGS)
def test_a_state_dict_makes_the_same_layer(packing, layer) -> None:
    packed, other = PackedLinear(layer, packing), PackedLinear(nn.Linear(K, N), packing)
    assert packed.state_dict().keys() == layer.state_dict().keys()
    other.load_state_dict(packed.state_dict())
    assert torch.equal(other(rows(4)), packed(rows(4)))


@needs_packing
@pytest.mark.parametrize("packing", PACKINGS)
def test_packing_replaces_every_linear_layer_and_nothing_else(packing, layer) -> None:
    model = nn.Sequential(nn.LayerNorm(K), nn.Sequential(layer, nn.GELU()))
    pack(model, packing)
    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * K
    assert isinstance(model.get_submodule("1.0"), PackedLinear)


@needs_packing
def test_packing_leaves_the_kernels_of_others_alone(layer) -> None:
    before = torch.backends.quantized.engine
    PackedLinear(layer, "int8")
    assert torch.backends.quantized.engine == before
