"""Laws of training the published second stage from cached tokens."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taming.config import ConfigError, instantiate_from_config
from taming.data.batch import collate
from taming.training import train
from taming.training.cache import CacheError
from taming.training.codes_data import CodesData
from taming.training.run import encode
from taming.training.sequences import SequenceBatch

Config = dict[str, Any]
Net2Net = Callable[..., Config]
KINDS = ("unconditional", "start token", "first stage", "segmentation")


@pytest.fixture
def config(net2net: Net2Net, kinds: Any, scenes: Path) -> Callable[..., Config]:
    """A published model over our own data section."""

    def build(kind: str = "segmentation", data: Config | None = None, **options: Any) -> Config:
        cond, key, tokens, _ = kinds[kind]
        size = {"sets": [str(scenes)], "size": 16, "batch_size": 4, "codes": {"draws": 2}}
        section = net2net(cond, key, tokens, **options)
        target = "taming.training.codes_data.CodesData"
        section["data"] = {"target": target, "params": {**size, **(data or {})}}
        return section

    return build


def opened(config: Config, folder: Path) -> tuple[Any, CodesData]:
    torch.manual_seed(0)
    model = instantiate_from_config({k: config["model"][k] for k in ("target", "params")}).eval()
    data = instantiate_from_config(config["data"])
    data.attach(model, folder)
    return model, data


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_on_cached_codes_is_that_of_the_same_draws(
    config: Any, tmp_path: Path, kind: str
) -> None:
    permuter = {"target": "taming.transformer.permuter.Random", "params": {"H": 4, "W": 4}}
    model, data = opened(config(kind, model={"permuter_config": permuter}), tmp_path)
    cache = data.train_dataloader().dataset
    pictures = len(data.train)
    indices = (0, 3, pictures + 1)  # the last is the second draw of picture 1
    rows = [cache[index, 0] for index in indices]
    samples = [data.train[index % pictures, index // pictures] for index in indices]
    expected = model.loss(*model.get_xc(collate(samples)))
    codes, prefix = (torch.stack(column) for column in zip(*rows, strict=True))
    assert torch.equal(model.loss_of_codes(model.permuter(codes), prefix), expected)


def test_a_published_model_trains_from_cached_codes(config: Any, tmp_path: Path) -> None:
    options = {"data": {"epoch_size": 8}, "training": {"pictures_every": 2}}
    folder = train(config(**options), runs=tmp_path)
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        told = [(row["name"], int(row["step"])) for row in csv.DictReader(file)]
    assert {("train/loss", 1), ("train/loss", 2), ("validation/loss", 2)} <= set(told)
    written = {path.stem.rpartition("_")[0] for path in (folder / "images").glob("*.png")}
    assert {"inputs", "conditioning", "samples_nopix"} <= written


def test_without_held_out_pictures_those_of_training_are_shown(
    config: Any, tmp_path: Path, scenes: Path
) -> None:
    sets = [{"path": str(scenes), "validation_split": None}]
    _, data = opened(config(data={"sets": sets}), tmp_path)
    shown = data.held_out(3)
    assert shown is not None
    assert shown["image"].shape == (3, 3, 16, 16)


def test_codes_written_beforehand_are_read(config: Any, tmp_path: Path) -> None:
    codes = {"draws": 1, "cache": str(encode(config(data={"codes": {"draws": 1}}), tmp_path / "c"))}
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.bin")}
    folder = train(config(data={"codes": codes}), runs=tmp_path / "runs")
    assert not (folder / "cache").exists()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.bin")} == before


def test_batches_hold_tokens_of_one_length(config: Any, tmp_path: Path) -> None:
    batches = list(opened(config(), tmp_path)[1].train_dataloader())
    assert all(isinstance(batch, SequenceBatch) for batch in batches)
    assert {(batch.codes.shape, batch.prefix.shape) for batch in batches} == {((4, 16), (4, 16))}


@pytest.mark.parametrize("change", ["weights", "kind", "size"])
def test_another_condition_makes_a_cache_stale(config: Any, tmp_path: Path, change: str) -> None:
    opened(config(), tmp_path)[1].caches()
    options = {"downsample_cond_size": 8} if change == "size" else {}
    other = config("first stage" if change == "kind" else "segmentation", model=options)
    model, data = opened(other, tmp_path)
    if change == "weights":
        next(model.cond_stage_model.parameters()).data.add_(1.0)
    with pytest.raises(CacheError, match="made with another"):
        data.caches()


@pytest.mark.parametrize("option", [{"orders": {"raster": 1.0}}, {"dropping": {"everything": 0.5}}])
def test_what_only_the_any_order_model_draws_is_refused(
    config: Any, tmp_path: Path, option: Config
) -> None:
    with pytest.raises(ConfigError, match="leave them out"):
        opened(config(data={"codes": option}), tmp_path)
