"""`taming evaluate`: its words arrive in the suite, and its table on the terminal."""

from pathlib import Path
from typing import Any

import pytest

import taming.evaluation
from taming import cli
from taming.cli_evaluate import parse_set_size
from taming.evaluation import QUICK, STAGES, Plan

REPORT = {
    "model": "0123456789abcdef",
    "notes": ["FID is left out"],
    "rows": [
        {"name": "r, depth: RMSE", "set": "r", "task": "depth", "measure": "RMSE", "true": 0.5,
         "reconstructed": None, "sampled": 0.6, "shuffled": 0.7, "reach": None, "met": None},
    ],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def suite(run: str, out: Path, **options: Any) -> dict[str, Any]:
        seen.update(options, run=run, out=out)
        return REPORT

    monkeypatch.setattr(taming.evaluation, "evaluate", suite)
    return seen


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(["evaluate", *words])
    return int(ended.value.code or 0)


def test_without_options_everything_is_measured(asked: dict[str, Any], capsys: Any) -> None:
    assert run("bundled", "--out", "results") == 0
    assert (asked["run"], asked["out"]) == ("bundled", Path("results"))
    assert asked["plan"] == Plan()
    assert asked["only"] == STAGES
    shown = capsys.readouterr().out
    assert "RMSE" in shown
    assert "FID is left out" in shown
    assert shown.strip().endswith("index.html")


def test_words_arrive_in_the_suite(asked: dict[str, Any]) -> None:
    words = ["--quick", "--count", "5", "--paired", "7", "--drawn", "9", "--seed", "3"]
    words += ["--only", "obedience, steps"]
    words += ["--task", "rooms:depth+labels", "--data", "a", "--data", "b", "--size", "96x128"]
    assert run("runs/x", "--out", "o", *words, "--set-size", "people=192x128") == 0
    assert (asked["plan"].count, asked["plan"].paired, asked["plan"].drawn) == (5, 7, 9)
    assert asked["plan"].seed == 3
    assert asked["plan"].pictures == QUICK.pictures
    assert asked["only"] == ["obedience", "steps"]
    assert asked["tasks"] == [("rooms", ("depth", "labels"))]
    assert asked["data"] == [Path("a"), Path("b")]
    assert asked["size"] == (96, 128)
    assert asked["set_sizes"] == {"people": (192, 128)}


def test_sizes_of_sets_are_written_with_their_name(capsys: Any) -> None:
    assert parse_set_size("people=192x128") == ("people", (192, 128))
    for wrong, told in (("192x128", "SET=SIZE"), ("people=0", "HEIGHTxWIDTH")):
        with pytest.raises(ValueError, match=told):
            parse_set_size(wrong)
    assert run("runs/x", "--out", "o", "--set-size", "128") == 2
    assert "SET=SIZE" in capsys.readouterr().err
