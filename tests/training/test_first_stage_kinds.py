"""Every kind of first stage trains and validates in one way, on batches of either layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from taming.config import instantiate_from_config
from taming.data.batch import VOID
from taming.first_stage import VQModel
from taming.loading import load_model
from taming.training import train, wrap
from taming.training.first_stage import FirstStageTraining
from taming.training.settings import TrainingSettings

N = 3  # labels
GAN = {
    "target": "taming.modules.losses.vqperceptual.VQLPIPSWithDiscriminator",
    "params": {"disc_start": 0, "perceptual_weight": 0.0, "disc_ndf": 4, "disc_num_layers": 1},
}
BCE = {"target": "taming.modules.losses.segmentation.BCELossWithQuant"}
SCHEDULE = {
    "target": "taming.lr_scheduler.LambdaWarmUpCosineScheduler",
    "params": {
        "warm_up_steps": 0, "max_decay_steps": 4, "lr_start": 0.9, "lr_max": 0.9, "lr_min": 0.1
    },
}  # fmt: skip


def section(kind: str, channels: int = 3, loss: Any = GAN, **params: Any) -> dict[str, Any]:
    ddconfig = {"z_channels": 4, "ch": 4, "ch_mult": [1, 2], "num_res_blocks": 1}
    ddconfig |= {"norm_groups": 2, "in_channels": channels, "out_ch": channels}
    given = {"n_embed": 8, "embed_dim": 4, "ddconfig": ddconfig, "lossconfig": loss, **params}
    return {"target": f"taming.models.vqgan.{kind}", "params": given}


ONE_CHANNEL = {**GAN, "params": {**GAN["params"], "disc_in_channels": 1}}
KINDS = {
    "vq": section("VQModel"),
    "ema": section("EMAVQ"),
    "gumbel": section("GumbelVQ", temperature_scheduler_config=SCHEDULE),
    "no_disc": section("VQNoDiscModel"),
    "segmentation": section(
        "VQSegmentationModel", N, BCE, n_labels=N, image_key="segmentation"
    ),
    "depth": section("VQModel", 1, ONE_CHANNEL, image_key="depth"),
}  # fmt: skip


def sample(seed: int) -> dict[str, Tensor]:
    """As published data sets give it: channels last, labels one-hot, depth without an axis."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(N, (8, 12), generator=generator)
    return {
        "image": torch.rand(8, 12, 3, generator=generator) * 2 - 1,
        "segmentation": torch.nn.functional.one_hot(ids, N).float(),
        "depth": torch.rand(8, 12, generator=generator) * 2 - 1,
    }


def loader(count: int = 4) -> DataLoader[Any]:
    samples: Any = [sample(seed) for seed in range(count)]
    return DataLoader(samples, batch_size=2)


def training(kind: str, **options: Any) -> FirstStageTraining:
    torch.manual_seed(0)
    settings = TrainingSettings(warmup_steps=0, restart_every=0, precision="float32", log_every=1)
    return wrap(instantiate_from_config(KINDS[kind]), settings, learning_rate=1e-2, **options)


def fit(module: FirstStageTraining, epochs: int = 1, **options: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, max_epochs=epochs, **options,
    )  # fmt: skip
    trainer.fit(module, loader(), loader(2))
    return trainer


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_of_the_autoencoder_moves_and_is_validated(kind: str) -> None:
    module = training(kind)
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    numbers = fit(module).callback_metrics
    after = module.model.state_dict()
    for part in ("encoder.conv_in.weight", "decoder.conv_out.bias", "post_quant_conv.weight"):
        assert not torch.equal(after[part], before[part]), part
    measure = "accuracy" if kind == "segmentation" else "psnr"
    for name in ("loss", "quant_loss", "usage", "perplexity", measure):
        assert torch.isfinite(numbers[f"validation/{name}"]), name


@pytest.mark.parametrize(
    ("kind", "moves"), [("vq", True), ("gumbel", True), ("no_disc", False)]
)  # fmt: skip
def test_the_adversary_plays_where_it_should(kind: str, moves: bool) -> None:
    module = training(kind)
    weight: Tensor = module.model.loss.discriminator.main[0].weight  # pyright: ignore
    before = weight.detach().clone()
    fit(module)
    assert torch.equal(weight.detach(), before) is not moves


def test_label_maps_have_one_player() -> None:
    trainer = fit(training("segmentation"))
    assert len(trainer.optimizers) == 1


def test_label_maps_are_learned() -> None:
    module = training("segmentation")
    first = fit(module).callback_metrics["validation/loss"]
    last = fit(module, epochs=12).callback_metrics["validation/loss"]
    assert float(last) < 0.9 * float(first)


def test_codes_of_running_means_follow_without_an_optimizer() -> None:
    module = training("ema")
    table = module.model.quantize.embedding
    before = table.weight.clone()  # pyright: ignore
    trainer = fit(module)
    assert not torch.equal(table.weight, before)  # pyright: ignore
    held = {id(p) for o in trainer.optimizers for g in o.param_groups for p in g["params"]}
    assert not held & {id(value) for value in table.state_dict(keep_vars=True).values()}
    # What is exported is what is used: running means are not averaged a second time
    assert torch.equal(module.export()["quantize.embedding.weight"], table.weight)  # pyright: ignore


def test_the_published_schedule_cools_gumbel_codes() -> None:
    module = training("gumbel")
    fit(module, epochs=2)
    angle = np.pi * 3 / 4  # the last of four steps
    assert module.model.quantize.temperature == pytest.approx(0.1 + 0.4 * (1 + np.cos(angle)))


def test_our_label_ids_are_what_published_planes_are() -> None:
    module = training("segmentation")
    planes = torch.stack([sample(seed)["segmentation"] for seed in range(2)])
    ids = planes.argmax(dim=-1)
    published = module.images({"segmentation": planes})
    assert published.shape == (2, N, 8, 12)
    present = {"labels": torch.tensor([True, True])}
    assert torch.equal(module.images({"labels": ids, "present": present}), published)
    ids[0, 0, 0] = VOID
    ours = module.images({"labels": ids, "present": present})
    assert ours[0, :, 0, 0].tolist() == [0.0] * N


def test_depth_comes_with_and_without_an_axis() -> None:
    module = training("depth")
    depth = torch.stack([sample(seed)["depth"] for seed in range(2)])
    expected = depth[:, None]
    assert torch.equal(module.images({"depth": depth}), expected)
    assert torch.equal(module.images({"depth": depth[..., None]}), expected)
    present = {"depth": torch.tensor([True, True])}
    assert torch.equal(module.images({"depth": expected, "present": present}), expected)


def test_pictures_without_the_map_are_refused() -> None:
    present = {"depth": torch.tensor([True, False])}
    with pytest.raises(ValueError, match="1 of 2 pictures of the batch have no 'depth'"):
        training("depth").images({"depth": torch.zeros(2, 1, 8, 12), "present": present})


@pytest.mark.parametrize("kind", ["segmentation", "depth"])
def test_maps_are_shown_in_colours(kind: str) -> None:
    module = training(kind)
    fit(module)
    grid = module.pictures()["reconstructions"]
    assert grid.shape[2] == 3
    assert len(np.unique(grid.reshape(-1, 3), axis=0)) > 2  # more than the frame and one colour


def test_a_first_stage_of_labels_trains_from_a_config_and_resumes(
    tiny: Callable[..., dict[str, Any]], scenes: Path, tmp_path: Path
) -> None:
    config = tiny(data={"sets": [str(scenes)]}, trainer={"max_steps": 2})
    config["model"] |= KINDS["segmentation"]
    folder = train(config, runs=tmp_path)
    train({"trainer": {"max_steps": 4}}, resume=folder)
    model = load_model(folder)
    assert isinstance(model, VQModel)
    assert model.config.in_channels == N
    assert torch.load(folder / "checkpoints/last.ckpt")["first_stage"]["steps"] == 4
