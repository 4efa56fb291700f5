"""One contract for all quantizers, and the laws of each kind."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from taming.config import ConfigError, instantiate_from_config
from taming.first_stage import quantize_external
from taming.first_stage.quantize import (
    EMAVectorQuantizer,
    VectorQuantizer,
    VectorQuantizer2,
    nearest_code,
)
from taming.first_stage.quantize_base import Quantizer, perplexity, usage
from taming.first_stage.quantize_gumbel import GumbelQuantizer

V, D = 16, 4
ROOM = "taming.first_stage"
KINDS = {
    "vq": ("quantize.VectorQuantizer", {}),
    "vq_normalized": ("quantize.VectorQuantizer", {"normalize": True}),
    "vq_published": ("quantize.VectorQuantizer2", {"beta": 0.25, "sane_index_shape": True}),
    "ema": ("quantize.EMAVectorQuantizer", {}),
    "gumbel": ("quantize_gumbel.GumbelQuantizer", {}),
    "fsq": ("quantize_external.FSQ", {"levels": [4, 4]}),
    "lfq": ("quantize_external.LFQ", {}),
    "simvq": ("quantize_external.SimVQ", {}),
}


def build(kind: str) -> Quantizer:
    if kind in ("fsq", "lfq", "simvq"):
        pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    name, params = KINDS[kind]
    config = {"target": f"{ROOM}.{name}", "params": params}
    return instantiate_from_config(config, n_e=V, e_dim=D)


def features(b: int = 2, h: int = 3, w: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(b, D, h, w, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=KINDS)
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    return build(request.param)


def test_lookup_of_nearest_is_what_forward_returns(quantizer: Quantizer) -> None:
    quantizer.eval()
    z = features()
    indices = quantizer.nearest(z)
    quantized = quantizer(z)
    assert indices.dtype == torch.int64
    torch.testing.assert_close(quantizer.lookup(indices), quantized.z_q, atol=1e-5, rtol=1e-5)
    assert torch.equal(quantized.info.indices, indices)


def test_grids_need_not_be_square(quantizer: Quantizer) -> None:
    quantized = quantizer(features(b=3, h=2, w=7))
    assert quantized.z_q.shape == (3, D, 2, 7)
    assert quantized.info.indices.shape == (3, 2, 7)
    assert quantized.loss.shape == ()


def test_indices_stay_inside_the_codebook(quantizer: Quantizer) -> None:
    indices = quantizer.nearest(100 * features(b=8))
    assert int(indices.min()) >= 0
    assert int(indices.max()) < quantizer.codebook_size == V


def test_features_receive_a_gradient(quantizer: Quantizer) -> None:
    z = features().requires_grad_()
    (quantizer(z).z_q * features(seed=2)).sum().backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().sum() > 0


def test_codes_are_found_in_float32_under_autocast(quantizer: Quantizer) -> None:
    quantizer.eval()
    z = features(b=8)
    with torch.autocast("cpu", torch.bfloat16):
        inside = quantizer(z)
        indices = quantizer.nearest(z)
    assert inside.z_q.dtype == torch.float32
    assert torch.equal(indices, quantizer.nearest(z))
    torch.testing.assert_close(inside.z_q, quantizer(z).z_q, atol=1e-6, rtol=1e-6)


def test_perplexity_lies_between_one_and_the_codebook_size(quantizer: Quantizer) -> None:
    spread = float(quantizer(features(b=8)).info.perplexity)
    assert 1 <= spread <= V + 1e-3


def test_published_spelling_of_lookup(quantizer: Quantizer) -> None:
    quantizer.eval()
    indices = quantizer.nearest(features())
    grid = quantizer.get_codebook_entry(indices.flatten(), (2, 3, 5, D))
    torch.testing.assert_close(grid, quantizer.lookup(indices))
    rows = quantizer.get_codebook_entry(indices.flatten())
    torch.testing.assert_close(rows, grid.permute(0, 2, 3, 1).reshape(-1, D))


# --- nearest neighbour ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vq", "vq_normalized", "vq_published", "ema"])
def test_gradient_passes_straight_through_rounding(kind: str) -> None:
    quantizer = build(kind)
    z = features().requires_grad_()
    # The gradient is the identity for the tensor that is rounded, so it is that of `prepare`.
    direction = features(seed=2)
    (quantizer(z).z_q * direction).sum().backward()
    reference = features().requires_grad_()
    prepare: Callable[[Tensor], Tensor] = quantizer.prepare  # pyright: ignore
    (prepare(reference) * direction).sum().backward()
    torch.testing.assert_close(z.grad, reference.grad)


@pytest.mark.parametrize("kind", ["vq", "ema"])
def test_without_normalisation_the_gradient_is_the_identity(kind: str) -> None:
    z = features().requires_grad_()
    direction = features(seed=2)
    (build(kind)(z).z_q * direction).sum().backward()
    torch.testing.assert_close(z.grad, direction)


def test_nearest_code_is_the_closest_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taming.first_stage.quantize.CHUNK", 5 * V)  # several chunks
    z = features().permute(0, 2, 3, 1).reshape(-1, D)
    codes = torch.randn(V, D, generator=torch.Generator().manual_seed(3))
    assert torch.equal(nearest_code(z, codes), torch.cdist(z, codes).argmin(dim=1))


def _loss_gradients(quantizer: VectorQuantizer) -> tuple[Tensor, Tensor]:
    z = features().requires_grad_()
    quantizer(z).loss.backward()
    assert z.grad is not None
    assert quantizer.embedding.weight.grad is not None
    return z.grad, quantizer.embedding.weight.grad


def test_beta_weighs_the_commitment_of_the_features() -> None:
    torch.manual_seed(0)
    one, other = VectorQuantizer(V, D, beta=1.0), VectorQuantizer(V, D, beta=0.25)
    other.load_state_dict(one.state_dict())
    (z_one, codes_one), (z_other, codes_other) = _loss_gradients(one), _loss_gradients(other)
    torch.testing.assert_close(z_other, 0.25 * z_one)
    torch.testing.assert_close(codes_other, codes_one)


def test_legacy_beta_weighs_the_codes_instead() -> None:
    torch.manual_seed(0)
    one, other = VectorQuantizer2(V, D, 1.0), VectorQuantizer2(V, D, 0.25)
    other.load_state_dict(one.state_dict())
    (z_one, codes_one), (z_other, codes_other) = _loss_gradients(one), _loss_gradients(other)
    torch.testing.assert_close(z_other, z_one)
    torch.testing.assert_close(codes_other, 0.25 * codes_one)


def test_normalised_codes_are_unit_vectors() -> None:
    quantizer = build("vq_normalized")
    z_q = quantizer.eval()(7 * features()).z_q
    torch.testing.assert_close(z_q.norm(dim=1), torch.ones(2, 3, 5))


def test_published_indices_are_flat() -> None:
    quantized = VectorQuantizer2(V, D, 0.25)(features())
    assert quantized.info.indices.shape == (2 * 3 * 5,)


@pytest.mark.parametrize("kind", ["vq", "ema"])
def test_only_the_table_is_saved(kind: str) -> None:
    names = set(build(kind).state_dict())
    table = {"embedding.weight"}
    ema = {"embedding.cluster_size", "embedding.embed_avg"}
    assert names == (table | ema if kind == "ema" else table)


# --- dead codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["vq", "vq_normalized", "ema"])
def test_restart_revives_dead_codes(kind: str) -> None:
    quantizer = build(kind)
    assert isinstance(quantizer, VectorQuantizer | EMAVectorQuantizer)
    quantizer.usage_decay = 0.0
    with torch.no_grad():
        quantizer.embedding.weight[1:] = 100 + torch.rand(V - 1, D)  # all far away, one direction
    z = features(b=8)
    quantizer(z)
    moved = quantizer.restart_dead(torch.Generator().manual_seed(0))
    assert len(moved) > 0
    assert set(moved.tolist()) <= set(quantizer.nearest(z).flatten().tolist())
    assert len(quantizer.restart_dead(torch.Generator().manual_seed(0))) == 0


def test_restart_depends_on_its_generator_alone() -> None:
    tables = []
    for noise in (1, 2):
        quantizer = build("vq")
        assert isinstance(quantizer, VectorQuantizer)
        quantizer(features(b=8))
        quantizer.usage.zero_()
        torch.manual_seed(noise)
        quantizer.restart_dead(torch.Generator().manual_seed(5))
        tables.append(quantizer.embedding.weight.detach().clone())
    assert torch.equal(*tables)


def test_used_codes_stay_where_they_are() -> None:
    quantizer = build("vq")
    assert isinstance(quantizer, VectorQuantizer)
    quantizer(features(b=8))
    before = quantizer.embedding.weight.detach().clone()
    quantizer.usage.fill_(1.0)
    quantizer.usage[3] = 0.0
    moved = quantizer.restart_dead(torch.Generator().manual_seed(0))
    assert moved.tolist() == [3]
    changed = (quantizer.embedding.weight != before).any(dim=1)
    assert changed.nonzero().flatten().tolist() == [3]


def test_usage_is_counted_only_in_training() -> None:
    quantizer = build("vq")
    assert isinstance(quantizer, VectorQuantizer)
    quantizer.eval()(features())
    assert torch.equal(quantizer.usage, torch.ones(V))
    quantizer.train()(features())
    assert not torch.equal(quantizer.usage, torch.ones(V))


def test_usage_survives_a_resume() -> None:
    one, other = build("vq"), build("vq")
    assert isinstance(one, VectorQuantizer)
    assert isinstance(other, VectorQuantizer)
    one(features())
    other.load_training_state(one.training_state())
    assert torch.equal(one.usage, other.usage)


# --- running means -------------------------------------------------------------------------------


def test_ema_codes_move_to_the_mean_of_their_features() -> None:
    torch.manual_seed(0)
    quantizer = EMAVectorQuantizer(2, D, decay=0.5)
    with torch.no_grad():
        quantizer.embedding.weight.copy_(torch.tensor([[5.0] * D, [-5.0] * D]))
        quantizer.embedding.embed_avg.copy_(quantizer.embedding.weight)
    z = torch.cat([torch.full((1, D, 2, 2), 1.0), torch.full((1, D, 2, 2), -3.0)])
    for _ in range(40):
        quantizer(z)
    expected = torch.tensor([[1.0] * D, [-3.0] * D])
    torch.testing.assert_close(quantizer.embedding.weight, expected, atol=1e-3, rtol=1e-3)


def test_ema_codes_that_nothing_uses_stay_where_they_are() -> None:
    """They were divided by a size of nothing, and never used again."""
    quantizer = build("ema")
    assert isinstance(quantizer, EMAVectorQuantizer)
    before = quantizer.embedding.weight.clone()
    for _ in range(2):
        quantizer(quantizer.lookup(torch.zeros(1, 2, 2, dtype=torch.int64)))
    torch.testing.assert_close(quantizer.embedding.weight, before, atol=1e-3, rtol=1e-3)


def test_ema_codes_rest_outside_training() -> None:
    quantizer = build("ema").eval()
    before = {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}
    quantizer(features())
    assert all(torch.equal(before[k], v) for k, v in quantizer.state_dict().items())


# --- Gumbel --------------------------------------------------------------------------------------


def test_soft_gumbel_is_a_softmax_over_the_codes() -> None:
    torch.manual_seed(0)
    quantizer = GumbelQuantizer(V, D, straight_through=False)
    quantizer.generator = torch.Generator().manual_seed(4)
    z = features()
    z_q = quantizer(z, temp=0.7).z_q
    noise = torch.empty(2, V, 3, 5).exponential_(generator=torch.Generator().manual_seed(4))
    shares = ((quantizer.logits(z) - noise.log()) / 0.7).softmax(dim=1)
    expected = torch.einsum("bvhw,vd->bdhw", shares, quantizer.embed.weight)
    torch.testing.assert_close(z_q, expected)


def test_hard_gumbel_has_the_gradient_of_the_soft() -> None:
    gradients, direction = [], features(seed=2)
    for straight_through in (True, False):
        torch.manual_seed(0)
        quantizer = GumbelQuantizer(V, D, straight_through=straight_through)
        quantizer.generator = torch.Generator().manual_seed(4)
        z = features().requires_grad_()
        (quantizer(z).z_q * direction).sum().backward()
        gradients.append(z.grad)
    torch.testing.assert_close(*gradients)


def test_gumbel_logits_are_a_convolution_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphics cards rounded what it multiplied, where codes are to be found in float32."""
    quantizer = build("gumbel")
    assert isinstance(quantizer, GumbelQuantizer)
    expected = quantizer.proj(features())
    monkeypatch.delattr("torch.nn.functional.conv2d")
    torch.testing.assert_close(quantizer.logits(features()), expected)


def test_gumbel_loss_is_the_divergence_from_uniform() -> None:
    quantizer = GumbelQuantizer(V, D, kl_weight=1.0)
    torch.nn.init.zeros_(quantizer.proj.weight)
    torch.nn.init.zeros_(quantizer.proj.bias)  # pyright: ignore
    assert float(quantizer(features()).loss.detach()) == pytest.approx(0.0, abs=1e-6)


# --- remapping -----------------------------------------------------------------------------------


@pytest.fixture
def used(tmp_path: Path) -> str:
    path = tmp_path / "used.npy"
    np.save(path, np.array([2, 3, 7, 11]))
    return str(path)


@pytest.mark.parametrize(("unknown", "size"), [("random", 4), ("extra", 5), (1, 4)])
def test_remapped_codes_count_only_those_in_use(used: str, unknown: str | int, size: int) -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(V, D, remap=used, unknown_index=unknown)
    assert quantizer.codebook_size == quantizer.re_embed == size
    indices = quantizer.nearest(features(b=8))
    assert int(indices.max()) < size
    plain = VectorQuantizer(V, D)
    plain.embedding.load_state_dict(quantizer.embedding.state_dict())
    whole = plain.nearest(features(b=8))
    for place, code in enumerate([2, 3, 7, 11]):
        assert bool((indices[whole == code] == place).all())
    shown = quantizer.lookup(torch.arange(4).reshape(1, 2, 2))
    torch.testing.assert_close(shown, plain.lookup(torch.tensor([2, 3, 7, 11]).reshape(1, 2, 2)))


def test_random_places_of_unknown_codes_are_always_the_same(used: str) -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(V, D, remap=used)
    assert torch.equal(quantizer.nearest(features()), quantizer.nearest(features()))


def test_codes_outside_the_codebook_cannot_be_in_use(tmp_path: Path) -> None:
    np.save(tmp_path / "used.npy", np.array([1, V]))
    with pytest.raises(ValueError, match=r"used\.npy must list codes in \[0, 16\)"):
        VectorQuantizer(V, D, remap=str(tmp_path / "used.npy"))


# --- words ---------------------------------------------------------------------------------------


def test_perplexity_of_equal_shares_is_their_number() -> None:
    counts = torch.tensor([3.0, 3.0, 0.0, 3.0])
    assert float(perplexity(counts)) == pytest.approx(3.0)
    assert usage(counts) == 0.75


def test_levels_must_make_the_codebook() -> None:
    with pytest.raises(ConfigError, match="n_embed: 15"):
        instantiate_from_config(
            {"target": f"{ROOM}.quantize_external.FSQ", "params": {"levels": [3, 5]}},
            n_e=V,
            e_dim=D,
        )


@pytest.mark.parametrize(
    ("name", "e_dim", "n_e"), [("SimVQ", 6, 16), ("LFQ", 6, 16), ("FSQ", 6, 1000)]
)
def test_external_quantizers_stay_exact_in_a_rounded_model(name: str, e_dim: int, n_e: int) -> None:
    pytest.importorskip("vector_quantize_pytorch")
    torch.manual_seed(0)
    quantizer = getattr(quantize_external, name)(n_e, e_dim).eval()
    z = torch.randn(2, e_dim, 3, 4)
    expected = quantizer.nearest(z)
    model = torch.nn.Sequential(quantizer, torch.nn.Conv2d(e_dim, 4, 1)).to(torch.bfloat16)
    assert model[1].weight.dtype == torch.bfloat16
    assert torch.equal(quantizer.nearest(z), expected)
    assert quantizer(z.bfloat16()).info.indices.shape == expected.shape
