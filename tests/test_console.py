"""How far long work is, on a terminal and in a log."""

import pytest

from taming import console
from taming.console import progress_bar


def test_a_log_gets_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with progress_bar("encoding") as progress:
        for seconds, done in ((0.0, 0), (10.0, 50), (61.0, 100), (70.0, 110), (125.0, 1500)):
            clock[0] = seconds
            progress(done, 2000)
    assert capsys.readouterr().err.splitlines() == [
        "encoding: 100 of 2,000, 1.64 a second, 0:19:19 left",
        "encoding: 1,500 of 2,000, 12 a second, 0:00:42 left",
    ]


def test_short_work_leaves_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("painting") as progress:
        progress(1, 2)
        progress(2, 2)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_with_its_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with progress_bar("painting") as progress:
        progress(3, 4)
    shown = capsys.readouterr().err
    assert "painting" in shown
    assert "3/4" in shown
    assert "/s" in shown
