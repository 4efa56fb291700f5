"""Laws of the published second stage: stages, tokens, loss, keys, what it refuses."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from taming.checkpoint import CheckpointError
from taming.data.published_batch import read_input
from taming.transformer.net2net import Net2NetTransformer

V, H, W, T = 16, 8, 12, 6  # cells of 4x4 pixels
PREFIX = {
    "depth": T, "segmentation": T, "image": T, "nothing": 1, "class_label": 1, "coord": T,
    "objects_bbox": 7,
}  # fmt: skip


def order(name: str) -> dict[str, Any]:
    return {"target": f"taming.transformer.permuter.{name}", "params": {"H": 2, "W": 3}}


# --- every condition -----------------------------------------------------------------------------


def test_a_condition_becomes_tokens_of_the_shared_table(
    condition_key, net2net, published_batch
) -> None:
    """Flat indices of a quantizer made every spatially conditioned training fail."""
    model = net2net(condition_key)
    _, prefix = model.encode_to_c(model.get_xc(published_batch())[1])
    assert prefix.shape == (2, PREFIX[condition_key])
    assert prefix.dtype == torch.int64
    assert 0 <= int(prefix.min()) <= int(prefix.max()) < V


def test_training_moves_the_transformer_alone(condition_key, net2net, published_batch) -> None:
    model = net2net(condition_key, pkeep=0.5).train()
    model.loss(*model.get_xc(published_batch())).backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved == {f"transformer.{name}" for name, _ in model.transformer.named_parameters()}


def test_the_stages_stay_in_evaluation(condition_key, net2net) -> None:
    model = net2net(condition_key).train()
    training = {name.split(".")[0] for name, part in model.named_modules() if part.training}
    assert training == {"", "transformer", "permuter"}


def test_every_condition_can_be_logged(condition_key, net2net, published_batch) -> None:
    """Class-conditional logging asked the class for its reconstruction and crashed."""
    shown = net2net(condition_key).log_images(published_batch(count=3), count=2)
    expected = {"inputs", "reconstructions", "samples_half", "samples_nopix", "samples_det"}
    if condition_key not in ("nothing", "objects_bbox"):
        expected.add("conditioning")
    if condition_key in ("depth", "segmentation", "image", "coord"):
        expected.add("conditioning_rec")
    assert set(shown) == expected
    assert {tuple(pictures.shape) for pictures in shown.values()} == {(2, 3, H, W)}


WEIGHTLESS = {"nothing", "class_label", "coord", "objects_bbox"}


def test_stages_without_weights_leave_no_keys(condition_key, net2net) -> None:
    parts = {name.split(".")[0] for name in net2net(condition_key).state_dict()}
    expected = {"first_stage_model", "transformer"}
    assert parts == (expected if condition_key in WEIGHTLESS else expected | {"cond_stage_model"})


# --- tokens and loss -----------------------------------------------------------------------------


def test_codes_are_those_of_the_first_stage_permuted_and_back(net2net, published_batch) -> None:
    model = net2net(permuter_config=order("ZCurve"))
    x, _ = model.get_xc(published_batch())
    quantized, codes = model.encode_to_z(x)
    grid = model.first_stage_model.indices(x)
    assert torch.equal(codes, grid.flatten(1)[:, [0, 1, 3, 4, 2, 5]])
    picture = model.decode_to_img(codes, quantized.shape)
    torch.testing.assert_close(picture, model.first_stage_model.decode_code(grid))
    assert len(grid.unique()) > 2, "a degenerate first stage proves nothing"


def test_a_permuter_turns_image_tokens_and_no_others(net2net, published_batch) -> None:
    raster, turned = net2net(), net2net(permuter_config=order("AlternateParsing"))
    x, c = raster.get_xc(published_batch())
    assert torch.equal(raster.encode_to_c(c)[1], turned.encode_to_c(c)[1])
    assert not torch.equal(raster.encode_to_z(x)[1], turned.encode_to_z(x)[1])


def test_logits_are_those_of_image_tokens_after_the_prefix(net2net, published_batch) -> None:
    model = net2net()
    x, c = model.get_xc(published_batch())
    prefix, codes = model.encode_to_c(c)[1], model.encode_to_z(x)[1]
    logits, target = model(x, c)
    assert torch.equal(target, codes)
    for place in range(T):
        expected = model.transformer(torch.cat([prefix, codes[:, :place]], dim=1))[0][:, -1]
        torch.testing.assert_close(logits[:, place], expected, atol=1e-5, rtol=1e-4)


def test_loss_is_the_cross_entropy_of_image_tokens(net2net, published_batch) -> None:
    model = net2net()
    x, c = model.get_xc(published_batch())
    logits, target = model(x, c)
    right = F.log_softmax(logits, -1).gather(-1, target[..., None])
    torch.testing.assert_close(model.loss(x, c), -right.mean())


def fed(model: Net2NetTransformer, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The image tokens (B, T - 1) that a forward pass feeds, and those of the picture."""
    seen: list[Tensor] = []
    hook = model.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.manual_seed(0)
    _, target = model(*model.get_xc(batch))
    hook.remove()
    return seen[0][:, -(T - 1) :], target[:, :-1]


def test_pkeep_replaces_its_share_in_training_alone(net2net, published_batch) -> None:
    model = net2net(pkeep=0.25)
    assert torch.equal(*fed(model, published_batch(count=40)))
    given, codes = fed(model.train(), published_batch(count=40))
    share = (given == codes).float().mean()  # a random code is the right one once in V
    torch.testing.assert_close(share, torch.tensor(0.25 + 0.75 / V), atol=0.08, rtol=0)


def test_downsample_cond_size_is_the_side_that_is_encoded(net2net, published_batch) -> None:
    model = net2net(downsample_cond_size=8)
    _, c = model.get_xc(published_batch())
    small = F.interpolate(c, size=(8, 8))
    assert torch.equal(model.encode_to_c(c)[1], model.cond_stage_model.indices(small).flatten(1))


# --- stages --------------------------------------------------------------------------------------


def test_the_first_stage_can_be_the_condition_stage(net2net) -> None:
    model = net2net("image")
    assert model.cond_stage_model is model.first_stage_model
    assert model.cond_stage_key == "image"


@pytest.mark.parametrize(
    "how", [{"cond_stage_config": "__is_unconditional__"}, {"unconditional": True}]
)
def test_without_a_condition_stands_the_start_token(how, net2net, published_batch) -> None:
    model = net2net(sos_token=5, **how)
    assert model.be_unconditional
    assert model.cond_stage_key == "image"
    assert model.encode_to_c(model.get_xc(published_batch())[1])[1].tolist() == [[5], [5]]


def test_another_word_for_a_stage_is_refused(net2net) -> None:
    with pytest.raises(ValueError, match="cond_stage_config is '__is_nothing__'"):
        net2net(cond_stage_config="__is_nothing__")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"gpt": {"vocab_size": 12}}, r"first stage has 16 codes.* vocab_size is 12"),
        ({"gpt": {"vocab_size": 16}, "sos_token": 16}, r"cond stage has 17 codes.* is 16"),
    ],
)
def test_a_vocabulary_too_small_for_a_stage_is_refused(params, message, net2net) -> None:
    with pytest.raises(ValueError, match=message):
        net2net("nothing", **params)


def test_it_builds_where_there_is_no_memory(net2net) -> None:
    with torch.device("meta"):
        model = net2net(permuter_config=order("Random"))
    assert all(parameter.is_meta for parameter in model.parameters())


# --- checkpoints ---------------------------------------------------------------------------------


@pytest.fixture
def state(net2net) -> dict[str, Tensor]:
    """The content of a published file, other values than a new model has."""
    own = net2net("image", permuter_config=order("Random")).state_dict()
    drawn = {name: torch.rand(t.shape).to(t.dtype) for name, t in own.items()}
    for name in drawn:  # one module under two names
        if name.startswith("cond_stage_model."):
            drawn[name] = drawn[name.replace("cond_stage", "first_stage")]
    return drawn


def test_a_published_file_loads_key_for_key(state, net2net, tmp_path) -> None:
    path = tmp_path / "last.ckpt"
    extra = ("transformer.blocks.0.attn.mask", "first_stage_model.loss.logvar")
    torch.save({"state_dict": {**state, **dict.fromkeys(extra, torch.ones(1))}}, path)
    model = net2net("image", permuter_config=order("Random"))
    report = model.init_from_ckpt(path)
    assert sorted(report.left_over) == sorted(extra)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_what_a_file_lacks_is_named_unless_it_is_ignored(state, net2net, tmp_path) -> None:
    path = tmp_path / "last.ckpt"
    del state["transformer.pos_emb"]
    torch.save({"state_dict": state}, path)
    options = {"permuter_config": order("Random"), "ckpt_path": path}
    with pytest.raises(CheckpointError, match=r"transformer\.pos_emb"):
        net2net("image", **options)
    model = net2net("image", **options, ignore_keys=["transformer.pos"])
    name = "first_stage_model.encoder.conv_in.weight"
    assert torch.equal(model.state_dict()[name], state[name])


def test_a_batch_is_cut_to_its_first(net2net, published_batch) -> None:
    x, c = net2net("class_label").get_xc(published_batch(count=3), 2)
    assert len(x) == len(c) == 2


def test_both_layouts_give_one_loss(net2net, our_batch) -> None:
    model, batch = net2net("segmentation"), our_batch
    published = {
        "image": batch["image"].movedim(1, -1),
        "segmentation": read_input(batch, "segmentation", 5).movedim(1, -1),
    }
    losses = [model.loss(*model.get_xc(each)) for each in (batch, published)]
    torch.testing.assert_close(*losses)
