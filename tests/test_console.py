"""How far long work is, on a terminal and in a log."""

import time

import pytest

from taming import console
from taming.console import progress_bar


@pytest.mark.parametrize(
    ("calls", "lines"),
    [
        (  # seconds, done, in all; 400 were there before
            [(1, 400, 2000), (30, 450, 2000), (61, 520, 2000), (70, 530, 2000), (121, 1720, 2000)],
            [
                "encoding: 520 of 2,000, 2 a second, 0:12:20 left",
                "encoding: 1,720 of 2,000, 20 a second, 0:00:14 left",
            ],
        ),
        (  # other work has a rate of its own
            [(0, 1, 900), (50, 900, 900), (60, 1, 50), (120, 7, 50)],
            ["encoding: 7 of 50, 0.1 a second, 0:07:10 left"],
        ),
    ],
)
def test_a_log_gets_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], calls, lines
) -> None:
    clock = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: clock[0])
    with progress_bar("encoding") as progress:
        for seconds, done, total in calls:
            clock[0] = float(seconds)
            progress(done, total)
    assert capsys.readouterr().err.splitlines() == lines


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
