"""Laws of the prepared first stage: it is the plain one, sooner."""

import copy
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.checkpoint import tensor_hash
from taming.first_stage import prepared as prepared_module
from taming.first_stage.prepared import PreparedFirstStage, spread_kernel
from taming.first_stage.strips import Stored, StripRunner, rows_of
from taming.first_stage.vqgan import VQModel

SMALL = {
    "z_channels": 4,
    "ch": 8,
    "ch_mult": [1, 2, 2],
    "num_res_blocks": 1,
    "resolution": 32,
    "norm_groups": 4,
}
FORMS = {
    "published": {"attn_resolutions": [8]},
    "attention_in_the_middle": {"attn_resolutions": [16]},
    "without_convolutions": {"resamp_with_conv": False},
    "light": {"stem": 2, "resample": "shuffle", "mid_attention": False},
    "lightest": {"stem": 4},
    "refined": {"stem": 4, "refine": 4},
}


def model_of(form: str) -> VQModel:
    torch.manual_seed(0)
    model = VQModel({**SMALL, **FORMS[form]}, n_embed=16, embed_dim=4).eval().requires_grad_(False)
    for weight in model.parameters():
        # Fresh norms and biases, and layers that are zero, would hide that one is left out
        if weight.ndim == 1 or not weight.any():
            weight += 0.3 * torch.randn_like(weight)
    torch.nn.init.normal_(model.quantize.get_parameter("embedding.weight"))
    return model


def pictures(model: VQModel, count: int = 2) -> Tensor:
    """Neither square nor even in codes, and darker below: no part has the statistics of all."""
    f = model.downsample_factor
    ramp = torch.linspace(0.5, -1, 5 * f)[:, None]
    return (0.3 * torch.randn(count, 3, 5 * f, 3 * f) + ramp).clamp(-1, 1)


def codes(count: int = 2) -> Tensor:
    return torch.randint(16, (count, 5, 3), generator=torch.Generator().manual_seed(0))


def apart(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


def psnr(found: Tensor, expected: Tensor) -> float:
    return float(10 * torch.log10(4 / (found.float() - expected).square().mean()))


@pytest.mark.parametrize("form", FORMS)
def test_prepared_decoding_is_plain_decoding(form: str) -> None:
    model = model_of(form)
    expected = model.decode_code(codes())
    assert apart(PreparedFirstStage(model).decode_code(codes()), expected) < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_prepared_encoding_is_plain_encoding(form: str) -> None:
    model = model_of(form)
    x = pictures(model)
    features, indices = model.features(x), model.indices(x)
    prepared = PreparedFirstStage(model)
    assert apart(prepared.features(x), features) < 1e-4
    assert torch.equal(prepared.indices(x), indices)
    assert apart(prepared.encode(x).z_q, model.lookup(indices)) < 1e-4


def test_half_precision_differs_by_rounding() -> None:
    model = model_of("published")
    expected = model.decode_code(codes())
    half = PreparedFirstStage(copy.deepcopy(model).bfloat16())
    assert psnr(half.decode_code(codes()), expected) > 40


def test_preparing_keeps_the_model() -> None:
    model = model_of("published")
    before = tensor_hash(model.state_dict())
    PreparedFirstStage(model)
    assert tensor_hash(model.state_dict()) == before


def test_a_model_that_has_painted_can_learn() -> None:
    """Prepared where pictures are made, its weights were such as no gradient goes through."""
    model = model_of("lightest").requires_grad_()
    with torch.inference_mode():
        PreparedFirstStage(model)
    model.decode_code(codes()).sum().backward()
    assert model.decoder.conv_in.weight.grad is not None


def test_weights_that_are_loaded_later_count() -> None:
    """Kernels made once for all were those of the weights before."""
    model = model_of("published")
    prepared = PreparedFirstStage(model)
    prepared.decode_code(codes())
    with torch.no_grad():
        others = {name: 0.5 * value for name, value in model.state_dict().items()}
    for assign in (False, True):
        model.load_state_dict(others, assign=assign)
        expected = model.decode_code(codes())
        assert apart(prepared.decode_code(codes()), expected) < 1e-4
        others = {name: 0.5 * value for name, value in others.items()}


def test_prepared_refuses_sizes_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        PreparedFirstStage(model_of("published")).indices(torch.zeros(1, 3, 6, 8))


def test_spread_kernel_is_doubling_and_convolution_in_one() -> None:
    x, weight = torch.randn(1, 2, 3, 4), torch.randn(5, 2, 3, 3)
    expected = F.conv2d(F.interpolate(x, scale_factor=2.0, mode="nearest"), weight, padding=1)
    found = F.conv_transpose2d(x, spread_kernel(weight), stride=2, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- strips ---


def strips(model: VQModel, stored: torch.dtype = torch.float32) -> StripRunner:
    """Strips of two rows, and nothing whole but where attention is."""
    return StripRunner(PreparedFirstStage(model), values=1, whole_level=0, stored=stored)


@pytest.mark.parametrize("form", FORMS)
def test_decoding_in_strips_is_decoding_whole(form: str) -> None:
    model = model_of(form)
    z = model.post_quant_conv(model.lookup(codes(1)))
    assert apart(strips(model).decode(model.decoder, z), model.decoder(z)) < 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_encoding_in_strips_is_encoding_whole(form: str) -> None:
    model = model_of(form)
    x = pictures(model, 1)
    assert apart(strips(model).encode(model.encoder, x), model.encoder(x)) < 1e-4


def test_what_was_stored_ends_at_once() -> None:
    """Rows that knew their store from within it once kept it until the garbage was collected."""
    x = torch.zeros(1, 4, 6, 2)
    stored = Stored(rows_of(x), values=1, dtype=torch.float32, times=1)
    assert torch.equal(stored.rows.take(2, 4), x[:, :, 2:4])
    memory = weakref.ref(stored)
    del stored
    assert memory() is None


@pytest.mark.parametrize("computed", [torch.float32, torch.bfloat16])
def test_storing_eight_bits_costs_nothing_that_is_seen(computed: torch.dtype) -> None:
    model = model_of("published")
    z = model.post_quant_conv(model.lookup(codes(1)))
    expected = model.decoder(z)
    model.to(computed)
    found = strips(model, torch.bfloat16).decode(model.decoder, z.to(computed))
    assert psnr(found, expected) > (50 if computed == torch.float32 else 40)


def test_large_pictures_are_run_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each picture of a batch with its own statistics, and progress to the end."""
    model = model_of("published")
    x = pictures(model)
    features, decoded = model.features(x), model.decode_code(codes())
    prepared = PreparedFirstStage(model)
    assert not prepared.is_large(5 * 3 * model.downsample_factor**2)
    monkeypatch.setattr(prepared_module, "WHOLE", 0)
    told: list[tuple[int, int]] = []
    found = prepared.decode_code(codes(), lambda done, total: told.append((done, total)))
    assert psnr(found, decoded) > 50
    assert told[-1] == (12, 12)  # two pictures of three levels of two blocks
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert psnr(prepared.features(x), features) > 50
