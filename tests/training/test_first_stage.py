"""Laws of the first stage's training, with a trainer of one's own."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch._functorch.config as functorch_config
from torch import Tensor
from torch.utils.data import DataLoader

from taming.config import ConfigError, instantiate_from_config
from taming.first_stage.losses import FirstStageLoss
from taming.first_stage.vqgan import GumbelVQ
from taming.training import wrap
from taming.training.first_stage import FirstStageTraining

Tiny = Callable[..., dict[str, Any]]
Seen = list[tuple[int, list[Tensor]]]


def batches(count: int, size: int) -> DataLoader[Any]:
    """The same pictures however they are split."""
    images = torch.rand(count * size, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    parts: Any = [{"image": part} for part in images.split(size)]
    return DataLoader(parts, batch_size=None)


class Watch(pl.Callback):
    """The gradients that each optimiser's step is made with."""

    def __init__(self) -> None:
        self.seen: Seen = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        player = int(len(optimizer.param_groups) == 1)  # the autoencoder's has two groups
        gradients = [p.grad.clone() for p in parameters if p.grad is not None]
        self.seen.append((player, gradients))


def module(config: dict[str, Any], **options: Any) -> FirstStageTraining:
    torch.manual_seed(0)
    section = {key: config["model"][key] for key in ("target", "params")}
    settings = config["training"]
    return wrap(instantiate_from_config(section), settings=settings, learning_rate=1e-2, **options)


def fit(
    training: FirstStageTraining,
    loader: DataLoader[Any],
    held_out: DataLoader[Any] | None = None,
    **options: Any,
) -> Watch:
    watch = Watch()
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[watch], **{"max_epochs": 1, **options},
    )  # fmt: skip
    trainer.fit(training, loader, held_out)
    return watch


@pytest.fixture
def still(tiny: Tiny) -> Tiny:
    """Without dropout and rounding, so that two ways to compute can be compared."""

    def build(**options: Any) -> dict[str, Any]:
        config = tiny(**options)
        config["model"]["params"]["ddconfig"]["dropout"] = 0.0
        config["training"]["precision"] = "float32"
        return config

    return build


def test_checkpointed_activations_train_alike(still: Tiny) -> None:
    config = still(loss={"disc_start": 0})
    kept = fit(module(config), batches(2, 2)).seen
    config["training"]["checkpoint_activations"] = True
    recomputed = fit(module(config), batches(2, 2)).seen
    assert len(kept) == len(recomputed) == 4  # two steps of two players
    for (_, expected), (_, found) in zip(kept, recomputed, strict=True):
        torch.testing.assert_close(found, expected)


def test_accumulated_gradient_is_that_of_the_whole_batch(still: Tiny) -> None:
    config = still(loss={"disc_start": 100})
    whole = fit(module(config), batches(1, 4)).seen
    halves = fit(module(config, accumulate_grad_batches=2), batches(2, 2)).seen
    assert len(whole) == len(halves) == 1
    for a, b in zip(whole[0][1], halves[0][1], strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_accumulated_gradients_outlive_a_validation(still: Tiny) -> None:
    """Three batches an epoch, two a step: the second step begins before a validation."""
    seen = []
    for held_out in (None, batches(1, 2)):
        training = module(still(loss={"disc_start": 100}), accumulate_grad_batches=2)
        seen.append(fit(training, batches(3, 2), held_out, max_epochs=2).seen)
    assert len(seen[0]) == len(seen[1]) == 3
    for (_, expected), (_, found) in zip(*seen, strict=True):
        for a, b in zip(expected, found, strict=True):
            assert torch.equal(a, b)


def test_gradients_are_clipped_for_each_player(still: Tiny) -> None:
    watch = fit(module(still(loss={"disc_start": 0}), gradient_clip_val=0.01), batches(2, 2))
    assert [player for player, _ in watch.seen] == [0, 1, 0, 1]
    for _, gradients in watch.seen:
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        assert float(norm) == pytest.approx(0.01, rel=1e-2)


def test_gradients_are_clipped_as_the_trainer_says(still: Tiny) -> None:
    training = module(still(loss={"disc_start": 0}), gradient_clip_val=1e-6)
    for _, gradients in fit(training, batches(2, 2), gradient_clip_algorithm="value").seen:
        assert max(float(gradient.abs().max()) for gradient in gradients) <= 1e-6


def test_discriminator_does_not_move_before_its_start(still: Tiny) -> None:
    training = module(still(loss={"disc_start": 3}))
    before = {k: v.clone() for k, v in training.loss.discriminator.state_dict().items()}
    watch = fit(training, batches(3, 2))
    assert {player for player, _ in watch.seen} == {0}
    after = training.loss.discriminator.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert training.loss.lecam_real == training.loss.lecam_fake == 0


def test_an_adversary_that_cannot_judge_fails_before_it_plays(still: Tiny) -> None:
    training = module(still(loss={"disc_start": 100, "disc_in_channels": 1}))
    with pytest.raises(ValueError, match="set disc_in_channels to 3"):
        fit(training, batches(1, 2))


def test_an_adversary_that_never_plays_is_not_tried(still: Tiny) -> None:
    fit(module(still(loss={"disc_factor": 0.0, "disc_in_channels": 1})), batches(1, 2))


def test_an_adversary_with_a_condition_is_refused(still: Tiny) -> None:
    with pytest.raises(ConfigError, match="gives its loss no condition"):
        module(still(loss={"disc_conditional": True, "disc_in_channels": 4}))


def test_a_model_that_was_loaded_learns_as_a_new_one(still: Tiny) -> None:
    """Lightning leaves models in the mode they come in: the codebook stood still."""
    training = module(still(loss={"disc_start": 0}))
    training.model.eval()
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    usage = training.model.quantize.usage.clone()
    fit(training, batches(3, 2))
    after = training.model.state_dict()
    mean = "loss.discriminator.main.3.running_mean"
    assert not torch.equal(after[mean], before[mean])
    assert not torch.equal(training.model.quantize.usage, usage)


def test_networks_that_only_compare_stay_in_evaluation_mode(still: Tiny) -> None:
    training = module(still(loss={"disc_start": 0}))
    frozen = torch.nn.Sequential(torch.nn.BatchNorm2d(3)).eval().requires_grad_(False)
    training.loss.add_module("eyes", frozen)
    fit(training, batches(2, 2))
    training.pictures()
    assert not any(part.training for part in frozen.modules())
    assert training.loss.discriminator.training


def test_gradients_are_clipped_in_mixed_precision_of_the_trainer(still: Tiny) -> None:
    """Lightning refused, for the optimiser makes its step in one pass."""
    training = module(still(loss={"disc_start": 0}), gradient_clip_val=1e-9)
    watch = fit(training, batches(1, 2), precision="bf16-mixed")
    largest = max(float(each.abs().max()) for _, step in watch.seen for each in step)
    assert 0 < largest <= 1e-9


def test_a_model_is_validated_and_then_trained(still: Tiny) -> None:
    training = module(still())
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=1,
    )  # fmt: skip
    trainer.validate(training, batches(1, 2), verbose=False)
    trainer.fit(training, batches(2, 2))
    assert training.steps == 2


def test_a_compiled_model_goes_on_when_the_discriminator_starts(
    still: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled code kept nothing for the second pass backward, which the adaptive weight needs."""
    monkeypatch.setattr(functorch_config, "donated_buffer", True)

    def compile_quickly(part: Any) -> None:
        part._compiled_call_impl = torch.compile(part._call_impl, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_quickly)
    training = module(still(training={"compile": True}, loss={"disc_start": 1}))
    assert {player for player, _ in fit(training, batches(2, 2)).seen} == {0, 1}


def test_half_precision_with_a_short_exponent_is_refused(
    still: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pl.Trainer, "precision", "16-mixed")  # a processor has none
    with pytest.raises(ConfigError, match=r"trainer\.precision is 16-mixed.*training\.precision"):
        fit(module(still()), batches(1, 2))


def test_usage_is_that_of_all_devices(still: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(counts: Tensor) -> Tensor:
        return torch.ones_like(counts)

    monkeypatch.setattr("taming.training.first_stage.sum_over_devices", everything)
    training = module(still(training={"log_every": 1}))
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=1,
    )  # fmt: skip
    trainer.fit(training, batches(1, 2), batches(1, 2))
    for name in ("codebook", "validation"):
        assert float(trainer.callback_metrics[f"{name}/usage"]) == 1
        assert float(trainer.callback_metrics[f"{name}/perplexity"]) == pytest.approx(16)


@pytest.mark.parametrize("kind", ["VQModel", "EMAVQ", "GumbelVQ"])
def test_codes_that_are_kept_do_not_move_and_the_decoder_does(still: Tiny, kind: str) -> None:
    config = still(training={"keep_codes": True, "restart_every": 1}, loss={"disc_start": 0})
    config["model"]["target"] = f"taming.first_stage.vqgan.{kind}"
    if kind != "VQModel":
        config["model"]["params"].pop("quantizer")
    training = module(config)
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    watch = fit(training, batches(3, 2))
    assert {player for player, _ in watch.seen} == {0, 1}
    kept = ("encoder.", "quant_conv.", "quantize.")
    for weights in (training.model.state_dict(), training.export()):
        moved = {name for name, value in weights.items() if not torch.equal(value, before[name])}
        assert not [name for name in moved if name.startswith(kept)]
        assert {"decoder.conv_out.weight", "post_quant_conv.weight"} <= moved


def test_codes_that_are_kept_are_made_in_full_precision(still: Tiny) -> None:
    config = still(training={"keep_codes": True})
    config["training"]["precision"] = "bf16"
    training = module(config)
    mixed: dict[str, bool] = {}

    def watch(name: str) -> Any:
        return lambda *_: mixed.update({name: torch.is_autocast_enabled("cpu")})

    training.model.encoder.register_forward_hook(watch("encoder"))
    training.model.decoder.register_forward_hook(watch("decoder"))
    fit(training, batches(1, 2))
    assert mixed == {"encoder": False, "decoder": True}


def test_autoencoder_runs_once_a_step(still: Tiny) -> None:
    training = module(still(loss={"disc_start": 0}))
    calls = []
    training.model.encoder.register_forward_hook(lambda *_: calls.append(1))
    fit(training, batches(3, 2))
    assert len(calls) == 3


def test_learning_rate_warms_up_and_falls(still: Tiny) -> None:
    config = still(training={"warmup_steps": 4, "decay": "cosine", "final_rate": 0.1})
    training = module(config, max_steps=8)
    rates = []

    class Rates(pl.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        callbacks=[Rates()],
    )  # fmt: skip
    trainer.fit(training, batches(8, 2))
    assert len(rates) == 8
    falling = [0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * step / 8)) for step in range(8)]
    expected = [1e-2 * min(1, (step + 1) / 4) * share for step, share in enumerate(falling)]
    assert rates == pytest.approx(expected)


def test_a_cosine_without_length_is_refused(still: Tiny) -> None:
    with pytest.raises(ConfigError, match=r"training\.decay_steps or trainer\.max_steps"):
        fit(module(still(training={"decay": "cosine"})), batches(1, 2))


def test_restarted_codes_lose_their_momentum_and_their_average(still: Tiny) -> None:
    config = still(training={"restart_every": 2, "warmup_steps": 0})
    training = module(config, max_steps=2)
    training.model.quantize.usage_decay = 0.0  # what the last batch did not use is dead
    moved: list[Tensor] = []
    restart = training.model.quantize.restart_dead

    def record(generator: torch.Generator) -> Tensor:
        moved.append(restart(generator))
        return moved[-1]

    training.model.quantize.restart_dead = record
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.fit(training, batches(2, 2))
    rows = moved[0]
    assert 0 < len(rows) < 16
    codes = training.model.quantize.embedding.weight
    average = training.ema.weights()["quantize.embedding.weight"]
    others = [row for row in range(16) if row not in rows]
    assert torch.equal(average[rows], codes[rows])
    assert not torch.equal(average[others], codes[others])
    state = trainer.optimizers[0].state[codes]
    assert float(state["exp_avg"][rows].abs().sum()) == 0
    assert float(state["exp_avg"][others].abs().sum()) > 0


def test_validation_sees_the_average_and_training_goes_on_with_the_weights(still: Tiny) -> None:
    training = module(still())
    seen = {}

    class Compare(pl.Callback):
        def on_validation_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            seen["validated"] = pl_module.model.encoder.conv_in.weight.clone()

    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        callbacks=[Compare()], max_epochs=1, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(training, batches(4, 2), batches(1, 2))
    average = training.ema.weights()["encoder.conv_in.weight"]
    assert torch.equal(seen["validated"], average)
    assert not torch.equal(training.model.encoder.conv_in.weight, average)
    assert 0 < float(trainer.callback_metrics["validation/usage"]) <= 1


def test_gumbel_follows_its_temperature(still: Tiny) -> None:
    config = still(model={"quantizer": None})
    params = {key: v for key, v in config["model"]["params"].items() if key != "quantizer"}
    model = GumbelVQ(**params)
    model.temperature_scheduler = lambda step: 1.0 / (1 + step)
    training = wrap(model, settings=config["training"])
    fit(training, batches(3, 2))
    assert model.quantize.temperature == pytest.approx(1 / 3)


def test_pictures_show_truth_above_reconstruction(still: Tiny) -> None:
    training = module(still(training={"pictures": 1}))
    fit(training, batches(1, 2))
    grid = training.pictures()["reconstructions"]
    assert grid.dtype == np.uint8
    assert grid.shape == (2 * 8 + 3 * 2, 2 * 8 + 3 * 2, 3)


def test_a_first_stage_without_losses_is_refused(still: Tiny) -> None:
    config = still()
    config["model"]["params"]["lossconfig"] = None
    with pytest.raises(ValueError, match=r"give model\.params\.lossconfig"):
        module(config)


class Hoping(FirstStageLoss):
    """A discriminator that nobody would train."""

    def generator_loss(
        self, codebook_loss, inputs, reconstructions, step, last_layer=None, cond=None
    ):
        loss = (inputs - reconstructions).square().mean() + codebook_loss
        return loss, {"rec_loss": loss.detach()}

    def discriminator_loss(self, inputs, reconstructions, step, cond=None):
        return inputs.mean(), {}


def test_an_adversary_that_nobody_would_train_is_refused(still: Tiny) -> None:
    model = instantiate_from_config(still()["model"])
    model.loss = Hoping()
    with pytest.raises(ValueError, match=r"Hoping has a discriminator_loss.*AdversarialLoss"):
        wrap(model)


def test_only_our_models_are_wrapped() -> None:
    with pytest.raises(TypeError, match="no training for Linear"):
        wrap(torch.nn.Linear(1, 1))
