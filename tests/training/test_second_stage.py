"""Laws of training the second stage: it learns, resumes exactly, counts right and stands alone."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import taming
from taming.checkpoint import CheckpointError, read_state_dict
from taming.config import ConfigError, instantiate_from_config, load_config, plain
from taming.training import TrainingSettings, train
from taming.training.cache import CacheError
from taming.training.codes_data import CodesData
from taming.training.run import encode
from taming.training.second_stage import SecondStageTraining

Config = dict[str, Any]
Second = Callable[..., Config]
LAST, WEIGHTS = "checkpoints/last.ckpt", "weights.safetensors"


def history(folder: Path, name: str = "train/loss") -> dict[int, float]:
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["name"] == name]
    return {int(row["step"]): float(row["value"]) for row in rows}


def run(config: Config, folder: Path, **options: Any) -> Path:
    return train(config, runs=folder, **options)


# --- learning ------------------------------------------------------------------------------------


def test_the_loss_goes_down_on_a_few_pictures(quick: Second, tmp_path: Path) -> None:
    folder = run(quick({"max_steps": 24}, {"log_every": 4}), tmp_path)
    losses = list(history(folder).values())
    assert sum(losses[-3:]) / 3 < 0.75 * losses[0]
    assert history(folder, "validation/loss")


@pytest.mark.parametrize("mode", ["query", "prefix"])
def test_sets_of_different_sizes_and_annotations_train_together(
    second: Second, scenes: Path, pictures: Path, tmp_path: Path, mode: str
) -> None:
    sets = [{"path": str(scenes), "size": [16, 24]}, {"path": str(pictures), "size": [24, 16]}]
    config = second({"max_steps": 8}, data={"sets": sets}, control_mode=mode)
    folder = run(config, tmp_path)
    assert all(np.isfinite(list(history(folder).values())))
    pipeline = taming.load(folder)
    assert pipeline.model.sizes == [(16, 24), (24, 16)]
    tall = pipeline.paint(labels=np.zeros((48, 32), np.uint8), guidance=2.0, steps=2)[0]
    assert tall.size == (16, 24)


def test_accumulated_batches_make_the_gradient_of_the_whole(second_stage, scenes, tmp_path) -> None:
    torch.manual_seed(0)
    model = instantiate_from_config(second_stage())
    data = CodesData([str(scenes)], size=[16, 24], batch_size=8,
                     codes={"draws": 1, "orders": {"known": 0.0}})  # fmt: skip
    data.attach(model, tmp_path)
    batch = next(iter(data.train_dataloader()))
    halves = [
        batch._replace(
            **{name: getattr(batch, name)[part] for name in ("codes", "order", "kind", "known")},
            values={name: value[part] for name, value in batch.values.items()},
            present={name: flags[part] for name, flags in batch.present.items()},
        )
        for part in (slice(0, 4), slice(4, 8))
    ]
    training = SecondStageTraining(model, TrainingSettings(precision="float32"), 1e-3)
    gradients = []
    for parts in ([batch], halves):
        model.zero_grad()
        for part in parts:
            (training._loss(part)[0] / len(parts)).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.requires_grad])
    for whole, summed in zip(*gradients, strict=True):
        torch.testing.assert_close(summed, whole, atol=1e-5, rtol=1e-3)


def test_known_cells_are_learned_from_codes_that_painting_gives(
    second_stage, scenes, tmp_path
) -> None:
    """They were those of an encoder in bf16."""
    torch.manual_seed(0)
    model = instantiate_from_config(second_stage())
    orders = {"random": 0.0, "spread": 0.0, "raster": 0.0, "known": 1.0}
    data = CodesData([str(scenes)], size=[16, 24], batch_size=4,
                     codes={"draws": 1, "orders": orders})  # fmt: skip
    data.attach(model, tmp_path)
    mixed: dict[str, bool] = {}

    def watch(name: str) -> Any:
        return lambda *_: mixed.update({name: torch.is_autocast_enabled("cpu")})

    model.first_stage_model.encoder.register_forward_pre_hook(watch("first stage"))
    model.transformer.register_forward_pre_hook(watch("transformer"))
    training = SecondStageTraining(model, TrainingSettings(precision="bf16"), 1e-3)
    with training.mixed():  # as Lightning's own mixed precision is around every step
        training._loss(next(iter(data.train_dataloader())))
    assert mixed == {"first stage": False, "transformer": True}


def test_the_loss_is_told_for_every_kind_of_order(quick: Second, tmp_path: Path) -> None:
    codes = {"orders": {"random": 0.25, "spread": 0.25, "raster": 0.25, "known": 0.25}}
    folder = run(quick({"max_steps": 8}, data={"codes": codes}), tmp_path)
    for kind in ("random", "spread", "raster", "known"):
        assert history(folder, f"train/loss_{kind}")


# --- steps ---------------------------------------------------------------------------------------


def test_max_steps_counts_steps_and_not_batches(quick: Second, tmp_path: Path) -> None:
    folder = run(quick({"max_steps": 3, "accumulate_grad_batches": 2}), tmp_path)
    assert max(history(folder)) == 3
    state = torch.load(folder / LAST, weights_only=True)
    assert state["stage"]["batches"] == 6
    assert state["ema"]["updates"] == 3


def test_the_last_step_is_in_what_is_exported(quick: Second, tmp_path: Path) -> None:
    """Without averaging, the weights exported are the weights of the checkpoint."""
    folder = run(quick({"max_steps": 3}, {"ema_decay": 0.0}), tmp_path)
    last = read_state_dict(folder / LAST)
    for name, weight in read_state_dict(folder / WEIGHTS).items():
        assert torch.equal(weight, last[name]), name


def test_averaged_weights_are_exported(quick: Second, tmp_path: Path) -> None:
    folder = run(quick({"max_steps": 4}), tmp_path)
    exported, last = read_state_dict(folder / WEIGHTS), read_state_dict(folder / LAST)
    average = torch.load(folder / LAST, weights_only=True)["ema"]
    name = "transformer.head.weight"
    assert torch.equal(exported[name], average[name])
    assert not torch.equal(exported[name], last[name])


def test_the_learning_rate_warms_up_and_falls(quick: Second, tmp_path: Path) -> None:
    settings = {"decay": "cosine", "warmup_steps": 4, "final_rate": 0.0}
    folder = run(quick({"max_steps": 10}, settings), tmp_path)
    rates = history(folder, "learning_rate")
    expected = TrainingSettings(decay_steps=10, **settings)
    for step, rate in rates.items():
        assert rate == pytest.approx(3e-3 * expected.rate(step - 1), rel=1e-6)
    assert rates[1] < rates[4] > rates[10]


def test_a_time_limit_stops_and_saves(quick: Second, tmp_path: Path) -> None:
    folder = run(quick({"max_steps": -1}, {"max_minutes": 1e-6}), tmp_path)
    assert max(history(folder)) == 1
    assert (folder / WEIGHTS).is_file()


def test_without_validation_pictures_a_run_is_whole(second, scenes, tmp_path) -> None:
    data = {"sets": [{"path": str(scenes), "validation_split": None}], "num_workers": 1}
    folder = run(second({"max_steps": 6}, {"pictures_every": 2}, data=data), tmp_path)
    assert sorted(history(folder)) == list(range(1, 7))
    assert history(folder, "validation/loss") == {}
    assert list((folder / "images").glob("labels_*.png"))


# --- what is left behind -------------------------------------------------------------------------


def test_a_run_stands_alone_without_its_first_stage(
    tiny: Callable[..., Config], second: Second, tmp_path: Path
) -> None:
    first = run(tiny({"max_steps": 1}), tmp_path)
    config = second({"max_steps": 2})
    config["model"]["params"]["first_stage_config"] = str(first)
    folder = run(config, tmp_path)
    weights = read_state_dict(first / WEIGHTS)
    shutil.rmtree(first)
    pipeline = taming.load(folder)
    own = pipeline.first_stage.state_dict()
    assert all(torch.equal(own[name], weight) for name, weight in weights.items())
    labels = np.zeros((16, 24), np.uint8)
    picture = pipeline.paint(labels=labels, class_label="night", steps=2)[0]
    assert picture.size == (24, 16)
    assert np.array_equal(np.asarray(pipeline.repaint(picture)), np.asarray(picture))
    run({"trainer": {"max_steps": 3}}, folder, resume=folder)  # and can be trained on


def test_the_resolved_config_has_what_the_data_decided(quick: Second, tmp_path: Path) -> None:
    params = plain(load_config(run(quick({"max_steps": 1}), tmp_path) / "config.yaml"))["model"]
    conditions = params["params"]["cond_stage_config"]
    assert conditions["labels"]["params"]["names"] == ["sky", "ground", "tree"]
    assert conditions["class_label"]["params"]["names"] == ["day", "night"]
    assert params["params"]["sizes"] == [[16, 24]]


def test_weights_to_start_from_are_not_asked_for_again(quick: Second, tmp_path: Path) -> None:
    start = run(quick({"max_steps": 2}), tmp_path)
    config = quick({"max_steps": 1}, {"ema_decay": 0.0, "warmup_steps": 1000})
    config["model"]["params"]["ckpt_path"] = str(start / WEIGHTS)
    folder = run(config, tmp_path)
    name = "transformer.head.weight"
    near = read_state_dict(start / WEIGHTS)[name]
    torch.testing.assert_close(read_state_dict(folder / WEIGHTS)[name], near, atol=1e-4, rtol=0)
    shutil.rmtree(start)
    run({"trainer": {"max_steps": 2}}, folder, resume=folder)


def test_pictures_show_every_condition(quick: Second, tmp_path: Path) -> None:
    folder = run(quick({"max_steps": 2}, {"pictures": 2}), tmp_path)
    names = {path.name for path in (folder / "images").iterdir()}
    tasks = ("labels", "depth", "lowres", "known", "class_label", "nothing")
    assert names == {f"{task}_0000002.png" for task in tasks}
    width, height = Image.open(folder / "images/labels_0000002.png").size
    assert (height, width) == (3 * 18 + 2, 2 * 26 + 2)  # condition, sample and truth, with gaps


def test_codes_may_be_written_ahead(second: Second, tmp_path: Path) -> None:
    cache = encode(second(), out=tmp_path / "cache")
    config = second({"max_steps": 1}, data={"codes": {"draws": 2, "cache": str(cache)}})
    folder = run(config, tmp_path / "runs")
    assert not (folder / "cache").exists()


def test_a_dry_run_shows_sizes_and_leaves_nothing(quick: Second, tmp_path: Path, capsys) -> None:
    run(quick(), tmp_path / "runs", dry_run=True)
    shown = capsys.readouterr().out
    assert "cond_stage_model" in shown
    assert "4x6" in shown
    assert not (tmp_path / "runs").exists()


# --- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "wrong", "told"),
    [
        ("model", {"learning_rte": 1.0}, "did you mean 'learning_rate'"),
        ("trainer", {"max_step": 1}, "did you mean 'max_steps'"),
        ("trainer", {"logger": False}, r"trainer\.logger"),
        ("trainer", {"accelerator": "abacus"}, "trainer: .*abacus"),
        ("training", {"warmup_step": 1}, "did you mean 'warmup_steps'"),
    ],
)
def test_unknown_keys_are_named_and_leave_no_directory(
    quick: Second, tmp_path: Path, section: str, wrong: Config, told: str
) -> None:
    config = quick()
    config[section] = {**config[section], **wrong}
    with pytest.raises(ConfigError, match=told):
        run(config, tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*"))


def test_labels_of_another_vocabulary_are_refused(quick: Second, tmp_path: Path) -> None:
    """An id would mean one thing to the data and another to the model."""
    config = quick()
    names = {"names": ["ground", "sky", "tree"]}  # the data has them in another order
    config["model"]["params"]["cond_stage_config"]["labels"]["params"] = names
    with pytest.raises(ConfigError, match=r"labels has 3 names.*label_names"):
        run(config, tmp_path / "runs")
    config["data"]["params"]["label_names"] = names["names"]
    del config["data"]["params"]["codes"]["cache"]
    config["trainer"]["max_steps"] = 1
    run(config, tmp_path / "runs")


def test_another_codebook_size_is_refused(quick: Second, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"codebook_size 32, the first stage 16"):
        run(quick(codebook_size=32), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_stale_cache_is_refused_and_leaves_no_directory(
    quick: Second, shared: Path, tmp_path: Path
) -> None:
    run(quick({"max_steps": 1}), tmp_path)
    with pytest.raises(CacheError, match=f"cache {shared}"):
        run(quick(data={"codes": {"draws": 3}}), tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*"))


def test_a_second_stage_is_trained_on_the_first_stage_within_another(
    quick: Second, tmp_path: Path
) -> None:
    folder = run(quick({"max_steps": 1}), tmp_path)
    config = quick({"max_steps": 1})
    config["model"]["params"]["first_stage_config"] = str(folder)
    again = run(config, tmp_path / "runs")
    own, theirs = (read_state_dict(each / "weights.safetensors") for each in (again, folder))
    shared = [name for name in theirs if name.startswith("first_stage_model.")]
    assert shared
    assert all(torch.equal(own[name], theirs[name]) for name in shared)


def test_a_first_stage_without_weights_is_warned_of(
    quick: Second, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = run(quick({"max_steps": 1}), tmp_path)
    assert "the first stage has no weights" in caplog.text
    caplog.clear()
    run({"trainer": {"max_steps": 2}}, folder, resume=folder)
    assert "no weights" not in caplog.text, "they are in the checkpoint"


def test_a_first_stage_that_is_nowhere_is_named(quick: Second, tmp_path: Path) -> None:
    config = quick()
    config["model"]["params"]["first_stage_config"] = str(tmp_path / "tokenizer")
    with pytest.raises(CheckpointError, match=r"tokenizer is no model"):
        run(config, tmp_path / "runs")


def test_null_stands_for_not_given(quick: Second, tmp_path: Path) -> None:
    """It ended in a traceback, after all pictures had been encoded."""
    options = {"accumulate_grad_batches": None, "max_epochs": None, "gradient_clip_val": None}
    folder = run(quick({"max_steps": 2, **options}), tmp_path)
    assert sorted(history(folder))[-1] <= 2
    assert (folder / WEIGHTS).is_file()


def test_a_condition_of_another_form_is_named(quick: Second, tmp_path: Path) -> None:
    config = quick({"max_steps": 2})
    config["model"]["params"]["cond_stage_config"]["depth"] = None
    with pytest.raises(ConfigError, match=r"cond_stage_config\.depth is None; give a section"):
        run(config, tmp_path)
