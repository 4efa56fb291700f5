"""What the command says and returns; the comparison itself is `make parity`."""

from pathlib import Path

import pytest

from benchmarks import parity
from benchmarks.client_code import JOBS
from benchmarks.comparing import Row
from benchmarks.parity_cases import cases
from benchmarks.peers import PACKAGES, PeerError

SAME = Row("one", "1 float, 0 int", 1.0, 0.0, True)
DIFFERS = Row("two", "1 float, 0 int", 1.0, 2.0, False, "logits differs by 2")


@pytest.mark.parametrize(
    ("found", "code", "last"),
    [
        ([SAME, SAME], 0, "2 passed, 0 failed"),
        ([SAME, DIFFERS], 1, "1 passed, 1 failed"),
        ([], 1, "0 passed, 0 failed"),
    ],
)
def test_the_last_line_counts_and_the_exit_code_tells(
    found: list[Row],
    code: int,
    last: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(parity, "rows", lambda words: found)
    assert parity.main() == code
    assert capsys.readouterr().out.splitlines()[-1] == last


def test_packages_that_cannot_be_had_are_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(words: str) -> list[Row]:
        raise PeerError("pip cannot install it")

    monkeypatch.setattr(parity, "rows", rows)
    assert parity.main() == 1
    assert "pip cannot install it" in capsys.readouterr().out


def test_cases_have_names_of_their_own_known_jobs_and_peers(tmp_path: Path) -> None:
    found = cases(str(tmp_path))
    assert len({case.what for case in found}) == len(found)
    assert {case.job for case in found} == {*JOBS, "windows"}
    assert {case.peer for case in found} == set(PACKAGES)
