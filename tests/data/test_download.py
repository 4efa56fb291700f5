"""Files from the web arrive whole and right, or not at all; settings are found by a path."""

import hashlib
from pathlib import Path

import pytest

from taming.data import download as module
from taming.data.download import KeyNotFoundError, download, get_ckpt_path, md5_hash, retrieve


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.bin"
    path.write_bytes(b"weights")
    return path


def test_a_file_arrives_in_folders_that_are_made(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.bin"
    digest = hashlib.sha256(b"weights").hexdigest()
    download(source.as_uri(), target, size=7, digest=f"sha256:{digest[:16]}")
    assert target.read_bytes() == b"weights"


@pytest.mark.parametrize("wrong", [{"size": 8}, {"digest": "sha256:00"}, {"digest": "md5:00"}])
def test_a_wrong_file_is_not_kept_and_the_old_one_stays(source, tmp_path, wrong: dict) -> None:
    target = tmp_path / "target" / "b.bin"
    target.parent.mkdir()
    target.write_bytes(b"old")
    with pytest.raises(ValueError, match=r"source\.bin"):
        download(source.as_uri(), target, **wrong)
    assert [p.read_bytes() for p in target.parent.iterdir()] == [b"old"]


def test_an_unreachable_address_says_what_to_do_by_hand(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be reached.*by hand.*b.bin"):
        download((tmp_path / "nowhere").as_uri(), tmp_path / "b.bin")


def test_published_weights_are_fetched_once(source, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(module.URL_MAP, "vgg_lpips", source.as_uri())
    monkeypatch.setitem(module.MD5_MAP, "vgg_lpips", md5_hash(source))
    path = get_ckpt_path("vgg_lpips", tmp_path / "cache")
    source.unlink()
    assert get_ckpt_path("vgg_lpips", tmp_path / "cache", check=True) == path
    with pytest.raises(ValueError, match="no published weights"):
        get_ckpt_path("vgg", tmp_path)


SETTINGS = {"a": {"list": [1, {"deep": 2}]}, "made": lambda: {"x": 3}}


def test_a_path_leads_through_mappings_and_lists() -> None:
    assert retrieve(SETTINGS, "a/list/1/deep") == 2
    assert retrieve(SETTINGS, "a.list.0", splitval=".") == 1


def test_functions_on_the_way_are_called_once() -> None:
    made = dict(SETTINGS)
    assert retrieve(made, "made/x") == 3
    assert made["made"] == {"x": 3}
    with pytest.raises(KeyNotFoundError, match="made"):
        retrieve(dict(SETTINGS), "made/x", expand=False)


def test_a_missing_key_is_an_error_unless_there_is_a_default() -> None:
    with pytest.raises(KeyNotFoundError, match=r"'a/none'.*'a'"):
        retrieve(SETTINGS, "a/none")
    assert retrieve(SETTINGS, "a/list/7", default=0, pass_success=True) == (0, False)
    assert retrieve(SETTINGS, "a/list/0", default=0, pass_success=True) == (1, True)
