"""Laws of training the published second stage, with every kind of condition."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch.utils.data import DataLoader

from taming.checkpoint import load_weights, read_state_dict
from taming.cond_stage.sources import to_uint8
from taming.config import instantiate_from_config
from taming.data.unpacking import custom_collate
from taming.training import train, wrap
from taming.training.net2net import Net2NetTraining, _grid, linear_groups

Config = dict[str, Any]
Net2Net = Callable[..., Config]
Kinds = dict[str, tuple[Any, str, int, tuple[str, ...]]]


KINDS = ("unconditional", "start token", "first stage", "class", "coordinates", "depth")
KINDS += ("segmentation", "boxes")
ALWAYS = ("inputs", "reconstructions", "samples_half", "samples_nopix", "samples_det")


def history(folder: Path, name: str = "train/loss") -> dict[int, float]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == name]
    return {int(row["step"]): float(row["value"]) for row in rows}


def built(config: Config) -> Any:
    torch.manual_seed(0)
    return instantiate_from_config({k: config["model"][k] for k in ("target", "params")})


def batch_of(config: Config, count: int = 4) -> dict[str, Any]:
    data = instantiate_from_config(config["data"]["params"]["train"])
    return custom_collate([data[i] for i in range(count)])


@pytest.mark.parametrize("kind", KINDS)
def test_every_condition_trains_and_is_shown(
    net2net: Net2Net, kinds: Kinds, tmp_path: Path, kind: str
) -> None:
    *condition, shown = kinds[kind]
    folder = train(net2net(*condition), runs=tmp_path)
    assert sorted(history(folder)) == [1, 2]
    assert len(history(folder, "validation/loss")) == 1
    written = {path.stem.rpartition("_")[0] for path in (folder / "images").glob("*.png")}
    assert written == {*ALWAYS, *shown}


@pytest.mark.parametrize("kind", ["unconditional", "segmentation"])
def test_the_loss_falls_on_one_batch(net2net: Net2Net, kinds: Kinds, kind: str) -> None:
    config = net2net(*kinds[kind][:3])
    module = wrap(built(config), {"warmup_steps": 0, "precision": "float32"}, learning_rate=1e-2)
    first = fit(module, [batch_of(config)] * 30).losses[0]
    assert module.losses[-1] < 0.7 * first


def fit(module: Any, batches: list[Any], **trainer: Any) -> Any:
    """Trains on these batches; the losses and the gradients of every step are noted."""
    module.losses, module.gradients = [], []
    step, update = module.training_step, module.optimizer_step

    def training_step(*args: Any) -> Any:
        loss = step(*args)
        module.losses.append(float(loss))
        return loss

    def optimizer_step(*args: Any, **options: Any) -> None:
        update(*args, **options)  # clips, steps, and leaves the gradients until the next step
        given = [p.grad for p in module.model.transformer.parameters() if p.grad is not None]
        module.gradients.append([gradient.clone() for gradient in given])

    module.training_step, module.optimizer_step = training_step, optimizer_step
    options = {"accelerator": "cpu", "max_epochs": 1, "logger": False, **trainer}
    options |= {"enable_checkpointing": False, "enable_progress_bar": False}
    loader: Any = DataLoader(batches, batch_size=None)  # pyright: ignore[reportArgumentType]
    pl.Trainer(**options, enable_model_summary=False).fit(module, loader)
    return module


def test_codes_to_learn_are_those_that_the_finished_model_gives(
    net2net: Net2Net, kinds: Kinds
) -> None:
    config = net2net(*kinds["depth"][:3])
    module = wrap(built(config), {"warmup_steps": 0, "precision": "bf16"})
    mixed: dict[str, bool] = {}

    def watch(name: str) -> Any:
        return lambda *_: mixed.update({name: torch.is_autocast_enabled("cpu")})

    module.model.first_stage_model.encoder.register_forward_hook(watch("first"))
    module.model.cond_stage_model.encoder.register_forward_hook(watch("cond"))
    module.model.transformer.register_forward_hook(watch("transformer"))
    fit(module, [batch_of(config)], precision="bf16-mixed")
    assert mixed == {"first": False, "cond": False, "transformer": True}


def steady(config: Config) -> Any:
    return wrap(built(config), {"warmup_steps": 0, "precision": "float32"}, learning_rate=1e-3)


def still(net2net: Net2Net) -> Config:
    """Without dropout, so that a batch and its halves meet the same model."""
    return net2net(embd_pdrop=0.0, resid_pdrop=0.0, attn_pdrop=0.0)


def test_accumulated_batches_make_the_gradient_of_the_whole(net2net: Net2Net) -> None:
    config = still(net2net)
    batch = batch_of(config)
    halves = [{key: value[i : i + 2] for key, value in batch.items()} for i in (0, 2)]
    whole = fit(steady(config), [batch]).gradients
    parts = fit(steady(config), halves, accumulate_grad_batches=2).gradients
    assert len(whole) == len(parts) == 1
    for a, b in zip(whole[0], parts[0], strict=True):
        assert torch.allclose(a, b, atol=1e-6)


def test_gradients_are_clipped(net2net: Net2Net) -> None:
    config = still(net2net)
    free = fit(steady(config), [batch_of(config)]).gradients[0]
    cut = fit(steady(config), [batch_of(config)], gradient_clip_val=0.01).gradients[0]
    norm = torch.stack([g.norm() for g in free]).norm()
    assert norm > 0.02
    assert torch.stack([g.norm() for g in cut]).norm() == pytest.approx(0.01, rel=1e-3)


def test_weight_decay_is_for_weights_of_linear_layers_alone(net2net: Net2Net) -> None:
    transformer = built(net2net()).transformer
    decayed, plainly = linear_groups(transformer, 0.01)
    names = {id(p): name for name, p in transformer.named_parameters()}
    assert {names[id(p)] for p in plainly["params"]} == {
        name for name in names.values() if name.endswith("bias") or "ln" in name or "emb" in name
    }
    assert len(decayed["params"]) + len(plainly["params"]) == len(names)
    assert (decayed["weight_decay"], plainly["weight_decay"]) == (0.01, 0.0)


def test_settings_that_say_nothing_mean_the_published_optimiser(net2net: Net2Net) -> None:
    optimizer = wrap(built(net2net())).configure_optimizers()
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.0]
    assert optimizer.defaults["betas"] == (0.9, 0.95)


def test_the_stages_around_the_transformer_stay_as_they_are(
    net2net: Net2Net, kinds: Kinds, tmp_path: Path
) -> None:
    config = net2net(*kinds["depth"][:3])
    pl.seed_everything(config["seed"], verbose=False)
    before = instantiate_from_config({k: config["model"][k] for k in ("target", "params")})
    after = read_state_dict(train(config, runs=tmp_path) / "weights.safetensors")
    changed = {name for name, w in before.state_dict().items() if not torch.equal(w, after[name])}
    assert changed
    assert all(name.startswith("transformer.") for name in changed)


def test_pictures_are_painted_with_the_averaged_weights(net2net: Net2Net) -> None:
    config = net2net()
    module = fit(steady(config), [batch_of(config)])
    averaged = built(config)
    load_weights(averaged, module.export())
    expected = to_uint8(averaged.eval().log_images(batch_of(config))["samples_det"])
    for parameter in module.model.transformer.parameters():
        torch.nn.init.normal_(parameter)
    trained = to_uint8(module.model.eval().log_images(batch_of(config))["samples_det"])
    module.model.train()
    assert np.array_equal(module.pictures()["samples_det"], _grid(expected))
    assert not np.array_equal(trained, expected)
    assert module.model.training


def test_boxes_and_names_of_classes_are_drawn(
    net2net: Net2Net, kinds: Kinds, tmp_path: Path
) -> None:
    """The data set names what the tokens mean; a class would be a number otherwise."""
    grids = {}
    for kind in ("boxes", "class"):
        stage, key, tokens, _ = kinds[kind]
        size = {"train": {**net2net()["data"]["params"]["train"], "params": {"size": 64}}}
        data = {**size, "validation": size["train"]}
        config = net2net(stage, key, tokens + 240, data=data, trainer={"max_steps": 1})
        folder = train(config, runs=tmp_path / kind)
        with Image.open(folder / "images" / "conditioning_0000001.png") as picture:
            grids[kind] = np.asarray(picture)
    assert (30, 118, 179) in {tuple(pixel) for pixel in grids["boxes"].reshape(-1, 3).tolist()}
    cards = [grids["class"][2:66, 2 + 66 * i : 66 + 66 * i] for i in range(4)]  # spread over 0..7
    assert not np.array_equal(cards[0], cards[1])


# Batches of an epoch: 2. Noise in the pictures, dropout, pkeep: all must be drawn alike.
@pytest.mark.parametrize(("cut", "workers", "accumulate"), [(3, 0, 1), (2, 2, 1), (3, 1, 2)])
def test_a_resumed_run_is_the_uninterrupted_one(
    net2net: Net2Net, tmp_path: Path, cut: int, workers: int, accumulate: int
) -> None:
    noisy = {"target": "published_sets.Shapes", "params": {"noise": 0.1}}

    def config(steps: int, workers: int) -> Config:
        return net2net(
            model={"pkeep": 0.8},
            data={"train": noisy, "num_workers": workers},
            trainer={
                "max_steps": steps,
                "accumulate_grad_batches": accumulate,
                "gradient_clip_val": 0.5,
            },
        )

    whole = train(config(6, 0), runs=tmp_path / "whole")
    folder = train(config(cut, workers), runs=tmp_path / "cut")
    train({"trainer": {"max_steps": 6}}, resume=folder)
    assert sorted(history(whole)) == [1, 2, 3, 4, 5, 6]
    assert history(folder) == history(whole)
    expected = read_state_dict(whole / "weights.safetensors")
    for name, weight in read_state_dict(folder / "weights.safetensors").items():
        assert torch.equal(weight, expected[name]), name


def test_it_is_the_training_of_a_net2net_transformer(net2net: Net2Net) -> None:
    assert isinstance(wrap(built(net2net())), Net2NetTraining)
