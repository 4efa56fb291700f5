"""How far long work is, on a terminal and in a log."""

import time

import pytest

from taming import console
from taming.console import progress_bar


def test_a_log_gets_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with progress_bar("encoding") as progress:
        for seconds, done in ((1.0, 400), (30.0, 450), (61.0, 520), (70.0, 530), (121.0, 1720)):
            clock[0] = seconds
            progress(done, 2000)
    assert capsys.readouterr().err.splitlines() == [
        "encoding: 520 of 2,000, 2 a second, 0:12:20 left",  # 400 were there before
        "encoding: 1,720 of 2,000, 20 a second, 0:00:14 left",
    ]


def test_other_work_has_a_rate_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with progress_bar("encoding") as progress:
        for seconds, done, total in (
            (0.0, 1, 900),
            (50.0, 900, 900),
            (60.0, 1, 50),
            (120.0, 7, 50),
        ):
            clock[0] = seconds
            progress(done, total)
    assert capsys.readouterr().err == "encoding: 7 of 50, 0.1 a second, 0:07:10 left\n"


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
        progress(1, 4)
        time.sleep(0.05)  # the clocks of some systems are coarse
        progress(3, 4)
    shown = capsys.readouterr().err
    assert "painting" in shown
    assert "3/4" in shown
    assert "/s" in shown
