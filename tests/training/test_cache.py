"""Laws of cached codes: what was drawn comes back, and what belongs to others is refused."""

import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taming.config import instantiate_from_config
from taming.data.mix import Mix
from taming.data.paired_folder import open_set
from taming.training.cache import (
    INDEX,
    CacheError,
    CodesCache,
    build_cache,
    encode,
    fingerprint,
    to_sample,
)


@pytest.fixture(scope="module")
def model(second_stage) -> Any:
    torch.manual_seed(0)
    return instantiate_from_config(second_stage()).eval()


@pytest.fixture
def mix(scenes: Path, pictures: Path) -> Mix:
    """Two sets of different sizes, one of them without any annotation."""
    one = open_set(scenes, "train", size=(16, 24), seed=5)
    other = open_set(pictures, "train", size=(16, 16), seed=5)
    return Mix([one, other], [1.0, 2.0])


def build(folder: Path, mix: Mix, model: Any, **options: Any) -> CodesCache:
    options = {"draws": 2, "mark": "m", "batch_size": 5, "num_workers": 0, **options}
    first_stage, conditions = model.first_stage_model, model.conditions
    how = partial(encode, first_stage=first_stage, conditions=conditions)
    return build_cache(folder, mix, how, **options)


class Words:
    """A condition that is computed once."""

    name, precomputed = "text", True

    def derive_all(self, samples: list[dict[str, Any]], rng: Any) -> list[torch.Tensor | None]:
        return [torch.arange(3.0) if sample.get("caption") else None for sample in samples]


# --- records -------------------------------------------------------------------------------------


def full_sample() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 16, 24), dtype=np.uint8)
    return {
        "image": torch.from_numpy(pixels.astype(np.float32)).div_(127.5).sub_(1.0),
        "labels": torch.from_numpy(rng.integers(0, 300, (16, 24))),
        "depth": torch.from_numpy(rng.uniform(-1, 1, (1, 16, 24)).astype(np.float32)),
        "keypoints": torch.from_numpy(rng.uniform(0, 16, (2, 19, 3)).astype(np.float32)),
        "boxes": torch.from_numpy(rng.uniform(0, 16, (3, 5)).astype(np.float32)),
        "class_label": torch.tensor(1),
        "caption": "a hill",
        "name": "000",
        "set": "hills",
    }


def test_a_record_is_the_sample_it_was_made_from(model) -> None:
    sample = full_sample()
    (record,) = encode([sample], model.first_stage_model, {"text": Words()})
    back = to_sample(record)
    assert set(back) == {*sample, "codes", "text"}
    for key in ("image", "labels", "keypoints", "boxes", "class_label"):
        assert torch.equal(back[key], sample[key]), key
        assert back[key].dtype == sample[key].dtype
    assert torch.allclose(back["depth"], sample["depth"], atol=1e-3)
    assert (back["caption"], back["name"], back["set"]) == ("a hill", "000", "hills")
    assert torch.equal(back["text"], torch.arange(3.0))
    expected = model.first_stage_model.indices(sample["image"][None])[0]
    assert torch.equal(back["codes"], expected)


def test_what_a_sample_lacks_its_record_lacks(model) -> None:
    sample = {key: full_sample()[key] for key in ("image", "name")}
    (record,) = encode([sample], model.first_stage_model, {"text": Words()})
    assert set(to_sample(record)) == {"image", "name", "codes"}


def test_the_cache_holds_the_draws_of_its_pictures(tmp_path, mix, model) -> None:
    cache = build(tmp_path / "cache", mix, model)
    assert cache.lengths == [24, 40 - 2]
    assert len(cache) == 62
    assert cache.sizes == [(16, 24), (16, 16)]
    assert cache.weights == [1.0, 2.0]
    for index, (number, draw) in {0: (0, 0), 12: (0, 1), 24: (12, 0), 61: (30, 1)}.items():
        expected, got = mix.sample(number, draw), cache[index]
        assert got["name"] == expected["name"]
        assert torch.equal(got["image"], expected["image"])
        assert got.keys() - {"codes"} == expected.keys()
        codes = model.first_stage_model.indices(expected["image"][None])[0]
        assert torch.equal(got["codes"], codes)


def test_two_draws_of_a_picture_differ(tmp_path, mix, model) -> None:
    cache = build(tmp_path / "cache", mix, model)
    assert cache[0]["name"] == cache[12]["name"]
    assert any(not torch.equal(cache[i]["image"], cache[i + 12]["image"]) for i in range(12))


def test_zero_and_two_workers_write_the_same_records(tmp_path, mix, model) -> None:
    alone = build(tmp_path / "alone", mix, model)
    together = build(tmp_path / "together", mix, model, num_workers=2)
    for index in range(len(alone)):
        one, other = alone[index], together[index]
        assert one.keys() == other.keys()
        assert torch.equal(one["codes"], other["codes"])
        assert torch.equal(one["image"], other["image"])


def test_a_cache_travels_to_workers(tmp_path, mix, model) -> None:
    cache = build(tmp_path / "cache", mix, model)
    here = cache[3]
    there = pickle.loads(pickle.dumps(cache))
    assert torch.equal(there[3]["codes"], here["codes"])


@pytest.mark.parametrize("index", [-1, 62])
def test_records_outside_are_an_index_error(tmp_path, mix, model, index) -> None:
    with pytest.raises(IndexError, match=f"record {index} of a cache of 62"):
        build(tmp_path / "cache", mix, model)[index]


def test_progress_counts_records(tmp_path, mix, model) -> None:
    seen: list[tuple[int, int]] = []
    build(tmp_path / "cache", mix, model, progress=lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1] == (62, 62)


# --- what is refused -----------------------------------------------------------------------------


def test_fingerprints_know_settings_and_the_weights_that_make_codes(model) -> None:
    first = model.first_stage_model
    before = fingerprint(first, {"size": 16})
    assert fingerprint(first, {"size": 16}) == before
    assert fingerprint(first, {"size": 32}) != before
    for part, matters in ((first.encoder, True), (first.quantize, True), (first.decoder, False)):
        weight = next(part.parameters())
        kept = weight.detach().clone()
        with torch.no_grad():
            weight += 1e-6
            moved = fingerprint(first, {"size": 16})
            weight.copy_(kept)
        assert (moved != before) == matters


def test_a_cache_of_another_model_is_refused(tmp_path, mix, model) -> None:
    build(tmp_path / "cache", mix, model, mark="abc")
    assert len(CodesCache(tmp_path / "cache", "abc")) == 62
    with pytest.raises(CacheError, match=r"cache was made with another .*abc.*data\.params\.codes"):
        CodesCache(tmp_path / "cache", "def")


@pytest.mark.parametrize(("mark", "is_same"), [("abc", True), ("def", False)])
def test_a_cache_that_appears_meanwhile_is_used(
    tmp_path, mix, model, monkeypatch, mark: str, is_same: bool
) -> None:
    """Another process may be faster; it takes hours to find out."""
    other = tmp_path / "other"
    build(other, mix, model, mark=mark)

    def finish(done: int, total: int) -> None:
        if done == total:
            other.rename(tmp_path / "cache")

    if is_same:
        assert len(build(tmp_path / "cache", mix, model, mark="abc", progress=finish)) == 62
    else:
        with pytest.raises(CacheError, match="made with another first stage"):
            build(tmp_path / "cache", mix, model, mark="abc", progress=finish)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("data_format", "pickle", "holds pickle"),
        ("data_format", "int:pickle", "holds int:pickle"),  # the part behind decides
        ("data_spec", "collections.defaultdict", "holds collections.defaultdict"),
        ("", "", "damaged"),
    ],
)
def test_shards_of_strangers_run_no_code(
    tmp_path, mix, model, place: str, value: str, told: str
) -> None:
    """litdata reads entries as the index says, be it as pickle, and imports what it names."""
    build(tmp_path / "cache", mix, model)
    index = tmp_path / "cache" / "00" / "index.json"
    content = json.loads(index.read_text())
    if place == "data_format":
        content["config"][place][0] = value
    elif place:
        content["config"][place] = content["config"][place].replace("builtins.dict", value)
    index.write_text(json.dumps(content) if place else "{")
    with pytest.raises(CacheError, match=rf"index\.json .*{told}"):
        CodesCache(tmp_path / "cache")[0]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"sets": []}'])
def test_folders_that_are_no_cache_say_so(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / INDEX).write_text(content)
    with pytest.raises(
        CacheError, match=rf"{tmp_path.name}.*(missing|damaged).*remove that folder"
    ):
        CodesCache(tmp_path, "mark")


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError, OSError(28, "No space left")])
def test_an_interrupted_build_leaves_nothing(tmp_path, mix, model, monkeypatch, stop) -> None:
    calls = []
    nearest = model.first_stage_model.quantize.nearest

    def fail(features: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise stop
        return nearest(features)

    monkeypatch.setattr(model.first_stage_model.quantize, "nearest", fail)
    with pytest.raises(stop if isinstance(stop, type) else type(stop)):
        build(tmp_path / "deep" / "cache", mix, model)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert not (tmp_path / "deep" / "cache").exists()


@pytest.mark.parametrize(
    ("draws", "size", "told"), [(0, 16, "draws is 0"), (1, 70_000, "70000 are too many")]
)
def test_what_cannot_be_cached_is_refused(
    tmp_path, mix, model, monkeypatch, draws, size, told
) -> None:
    monkeypatch.setattr(model.first_stage_model.quantize, "codebook_size", size)
    with pytest.raises(ValueError, match=told):
        build(tmp_path / "cache", mix, model, draws=draws)
    assert not (tmp_path / "cache").exists()


def test_the_index_says_what_the_folders_hold(tmp_path, mix, model) -> None:
    build(tmp_path / "cache", mix, model)
    index = json.loads((tmp_path / "cache" / INDEX).read_text())
    assert [each["records"] for each in index["sets"]] == [24, 38]
    assert index["draws"] == 2
