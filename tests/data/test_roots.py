"""Where data is looked for is an argument, a variable, or said aloud."""

import logging

import pytest

from taming.data import roots


def test_the_argument_comes_before_the_variable(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TAMING_DATA", str(tmp_path / "b"))
    assert roots.data_root(tmp_path / "a") == tmp_path / "a"
    assert roots.data_root() == tmp_path / "b"


def test_the_working_directory_is_never_used_silently(tmp_path, monkeypatch, caplog) -> None:
    monkeypatch.delenv("TAMING_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert roots.data_root() == tmp_path / "data"
    assert str(tmp_path / "data") in caplog.text
    assert "TAMING_DATA" in caplog.text


def test_what_is_missing_is_named_with_its_origin(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"list.txt does not exist: from there.*TAMING_DATA"):
        roots.existing(tmp_path / "list.txt", "from there")


def test_lists_are_read_without_empty_lines(tmp_path) -> None:
    (tmp_path / "list.txt").write_text("a\r\n\r\n b \n", encoding="utf-8")
    assert roots.read_lines(tmp_path / "list.txt") == ["a", "b"]
