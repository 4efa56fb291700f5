"""Laws of the second stage's loaders: who draws what, when, and from which codes."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from PIL import Image

from taming.config import ConfigError, instantiate_from_config
from taming.training import codes_data
from taming.training.cache import CacheError
from taming.training.codes import CodesBatch
from taming.training.codes_data import CodesData

Open = Callable[..., CodesData]


@pytest.fixture(scope="module")
def model(second_stage) -> Any:
    torch.manual_seed(0)
    return instantiate_from_config(second_stage()).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all tests of this file that ask for the same settings."""
    return tmp_path_factory.mktemp("codes")


@pytest.fixture
def open_data(scenes: Path, model: Any, folder: Path) -> Open:
    def build(where: Path = folder, **options: Any) -> CodesData:
        params = {"sets": [str(scenes)], "size": [16, 24], "batch_size": 4, "seed": 3}
        data = CodesData(**{**params, "codes": {"draws": 2}, **options})
        data.attach(model, where)
        return data

    return build


def flat(batch: CodesBatch) -> list[torch.Tensor]:
    tensors = [batch.codes, batch.order, batch.kind, batch.known, batch.filled, batch.rows]
    for name in sorted(batch.present):
        tensors += [batch.present[name], *([batch.values[name]] if name in batch.values else [])]
    return tensors


def equal(one: list[CodesBatch], other: list[CodesBatch]) -> bool:
    mine, theirs = ([each for batch in part for each in flat(batch)] for part in (one, other))
    return len(mine) == len(theirs) and all(map(torch.equal, mine, theirs))


def epoch(data: CodesData, number: int = 0, start: int = 0) -> list[CodesBatch]:
    loader: Any = data.train_dataloader()
    loader.batch_sampler.resume_at(number, start)
    return list(loader)


def test_zero_and_two_workers_draw_alike(open_data: Open) -> None:
    assert equal(epoch(open_data()), epoch(open_data(num_workers=2)))


def test_two_epochs_differ_and_repeat_under_the_same_number(open_data: Open) -> None:
    first, second, again = (epoch(open_data(), number) for number in (0, 1, 0))
    assert equal(first, again)
    assert not equal(first, second)


def test_two_seeds_differ(open_data: Open, tmp_path: Path) -> None:
    assert not equal(epoch(open_data()), epoch(open_data(tmp_path, seed=4)))


def test_a_record_read_twice_is_drawn_anew(open_data: Open) -> None:
    examples: Any = open_data().train_dataloader().dataset
    one, other = examples[5, 0], examples[5, 1]
    assert torch.equal(one.codes, other.codes)
    assert not (torch.equal(one.order, other.order) and one.values.keys() == other.values.keys())


def test_training_resumes_in_the_middle_of_an_epoch(open_data: Open) -> None:
    assert equal(epoch(open_data(), 1, start=3), epoch(open_data(), 1)[3:])


def test_validation_is_always_the_same(open_data: Open) -> None:
    one, other = (list(open_data().val_dataloader()) for _ in range(2))
    assert sum(len(batch.codes) for batch in one) == 4
    assert equal(one, other)


def test_without_held_out_pictures_there_is_no_validation(
    open_data: Open, tmp_path: Path, scenes: Path
) -> None:
    entry = {"path": str(scenes), "validation_split": None}
    data = open_data(tmp_path, sets=[entry])
    assert set(data.caches()) == {"train"}
    assert data.val_dataloader() == []


def test_a_cache_is_built_once(open_data: Open, folder: Path) -> None:
    open_data().caches()
    before = {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*.bin")}
    assert before
    open_data(batch_size=2, num_workers=1).caches()
    assert {path: path.stat().st_mtime_ns for path in (folder / "cache").rglob("*.bin")} == before


def test_pictures_are_encoded_where_the_trainer_trains(
    open_data: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning moves the model there only afterwards."""
    asked: list[Any] = []

    def remember(model: Any, device: Any) -> Any:
        asked.append(device)
        return nullcontext()

    monkeypatch.setattr(codes_data, "moved", remember)
    data = open_data(tmp_path / "one")
    data.trainer = Mock(strategy=Mock(root_device=torch.device("cuda:1")))
    data.caches()
    open_data(tmp_path / "two").caches(device="mps")
    open_data(tmp_path / "three").caches()
    # Training pictures and those held out
    assert asked == [*[torch.device("cuda:1")] * 2, *["mps"] * 2, *[None] * 2]


@pytest.mark.parametrize("change", [{"seed": 4}, {"size": [16, 16]}, {"codes": {"draws": 3}}])
def test_other_data_settings_make_a_cache_stale(open_data: Open, change: dict[str, Any]) -> None:
    open_data().caches()
    with pytest.raises(CacheError, match="other data settings"):
        open_data(**change).caches()


def test_another_first_stage_makes_a_cache_stale(
    open_data: Open, second_stage: Any, folder: Path
) -> None:
    open_data().caches()
    torch.manual_seed(1)
    data = open_data()
    data.attach(instantiate_from_config(second_stage()), folder)
    with pytest.raises(CacheError, match="another first stage"):
        data.caches()


def test_new_pictures_make_a_cache_stale(open_data: Open, tmp_path: Path) -> None:
    """They would never be learned from, and nothing would say so."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(6):
        Image.new("RGB", (24, 16), (number * 40, 0, 0)).save(folder / f"{number}.png")
    options = {"where": tmp_path, "sets": [str(folder)]}
    open_data(**options).caches()
    Image.new("RGB", (24, 16)).save(folder / "new.png")
    with pytest.raises(CacheError, match="other pictures"):
        open_data(**options).caches()


@pytest.mark.parametrize("what", ["captions", "pictures", "maps"])
def test_a_cache_of_what_has_changed_since_is_stale(
    open_data: Open, scenes: Path, tmp_path: Path, what: str
) -> None:
    """Annotations may be added to pictures that were encoded, by `taming annotate` say."""
    root = Path(shutil.copytree(scenes, tmp_path / "scenes"))
    open_data(tmp_path, sets=[str(root)]).caches()
    open_data(tmp_path, sets=[str(root)]).caches()
    if what == "captions":
        captions = {path.stem: ["a place"] for path in (root / "images").iterdir()}
        (root / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    else:
        picture = next((root / ("images" if what == "pictures" else "labels")).iterdir())
        Image.new("L", (30, 20)).save(picture)
    with pytest.raises(CacheError, match="other pictures"):
        open_data(tmp_path, sets=[str(root)]).caches()


def test_the_cache_lies_where_the_config_says(open_data: Open, tmp_path: Path) -> None:
    data = open_data(tmp_path / "run", codes={"draws": 1, "cache": str(tmp_path / "shared")})
    data.caches()
    assert (tmp_path / "shared" / "train" / "cache.json").is_file()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"codes": {"draw": 2}}, "did you mean 'draws'"),
        ({"codes": {"orders": {"rastr": 1}}}, "did you mean 'raster'"),
        ({"codes": {"dropping": {"keep": {"dept": 0.5}}}}, "did you mean 'depth'"),
        ({"bach_size": 4}, "did you mean 'batch_size'"),
    ],
)
def test_misspelt_keys_name_the_nearest(
    open_data: Open, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        open_data(**options)
