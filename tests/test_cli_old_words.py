"""Words of the published main.py and those that mean the same today, as a table."""

import logging
from pathlib import Path
from typing import Any

import pytest

from taming import cli
from taming.cli_old_words import modern_words

DDP = "trainer.strategy=ddp_find_unused_parameters_true"
TABLE = [
    # what the README of then said
    (
        "--base A.yaml B.yaml -t True --gpus 0, --max_epochs 5 -n name -r run -p project -s 23 "
        "-f postfix --no-test a.b=c",
        "A.yaml B.yaml trainer.accelerator=gpu trainer.devices=[0] trainer.max_epochs=5 "
        "--resume run seed=23 a.b=c --name namepostfix",
    ),
    ("--base=A.yaml --train", "A.yaml"),
    ("-b A.yaml -t", "A.yaml"),
    ("-t A.yaml", "A.yaml"),
    ("--base A.yaml --train False", "A.yaml --dry-run"),
    ("--resume logs/x", "--resume logs/x"),
    ("-r logs/x/checkpoints/last.ckpt", "--resume logs/x/checkpoints/last.ckpt"),
    ("-b A.yaml --seed 7 --name n", "A.yaml seed=7 --name n"),
    ("-b A.yaml -s7", "A.yaml seed=7"),
    ("-b c/A.yaml -f _small", "c/A.yaml --name A_small"),
    ("-b A.yaml -d True", "A.yaml"),
    ("-b A.yaml --no-test True", "A.yaml"),
    ("-b A.yaml -n", "A.yaml"),
    ("A.yaml --gpus 0,1 -t", f"A.yaml trainer.accelerator=gpu trainer.devices=[0,1] {DDP}"),
    ("A.yaml --gpus=0,", "A.yaml trainer.accelerator=gpu trainer.devices=[0]"),
    ("A.yaml --gpus -1", f"A.yaml trainer.accelerator=gpu trainer.devices=-1 {DDP}"),
    ("A.yaml --accumulate_grad_batches 2", "A.yaml trainer.accumulate_grad_batches=2"),
    ("A.yaml --gradient_clip_val=0.5", "A.yaml trainer.gradient_clip_val=0.5"),
    ("--fast_dev_run A.yaml", "trainer.fast_dev_run=true A.yaml"),
    ("--fast_dev_run 3 A.yaml", "trainer.fast_dev_run=3 A.yaml"),
    ("--benchmark a.b=c A.yaml", "trainer.benchmark=true a.b=c A.yaml"),
    ("A.yaml --profiler simple", "A.yaml trainer.profiler=simple"),
    ("A.yaml --precision 16", "A.yaml training.precision=bf16"),
    ("A.yaml --resume_from_checkpoint m.ckpt", "A.yaml model.params.ckpt_path=m.ckpt"),
    ("A.yaml --weights_summary full", "A.yaml"),
]


@pytest.mark.parametrize(("old", "new"), TABLE)
def test_old_words_and_those_of_today(old: str, new: str) -> None:
    translated = modern_words(["train", *old.split()])
    assert translated.words == ["train", *new.split()]


@pytest.mark.parametrize(
    "words",
    [
        "train A.yaml a.b=c --resume runs/x --dry-run",
        "train A.yaml --name x",
        "train --help",
        "-q train A.yaml",
        "paint -n 5 --base x --labels train",
        "encode A.yaml --out train",
        "",
    ],
)
def test_words_of_today_pass_as_they_are(words: str) -> None:
    assert modern_words(words.split()) == (words.split(), [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("A.yaml --max_epoch 5", "unknown option '--max_epoch'; did you mean '--max_epochs'"),
        ("A.yaml --max_epochs", "--max_epochs is given without a value"),
        ("A.yaml -s", "-s is given without a value"),
        ("A.yaml --train=maybe", "--train maybe: give true or false"),
        ("A.yaml --gpus first", "'first' is not understood"),
    ],
)
def test_words_that_mean_nothing_are_errors(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        modern_words(["train", *words.split()])


def test_each_old_spelling_is_told_once_with_todays() -> None:
    old = "-b A.yaml B.yaml -t True --gpus 0, -n name -s 23 -p mine"
    assert modern_words(["train", *old.split()]).notes == [
        "-b is now: the YAML files alone",
        "-t True is now: nothing to say, taming train trains",
        "--gpus 0, is now: trainer.accelerator=gpu trainer.devices=[0]",
        "-n name is now: --name name",
        "-s 23 is now: seed=23",
        "-p mine is now: nothing to say; it never did anything",
    ]


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The calls of `taming.training.run.train`, which trains nothing."""
    from taming.training import run

    calls: list[dict[str, Any]] = []

    def train(config: Any, **options: Any) -> Path:
        calls.append({"config": config, **options})
        return Path("runs/x")

    monkeypatch.setattr(run, "train", train)
    return calls


def said(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert not ended.value.code


def test_the_command_line_of_then_reaches_the_library(
    trained: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mine.yaml").write_text("model: {target: a}\n", encoding="utf-8")
    base = str(tmp_path / "mine.yaml")
    with caplog.at_level(logging.INFO, logger="taming"):
        said("train", "--base", base, "-t", "True", "--max_epochs", "5", "-s", "7", "a.b=c")
    ((call),) = trained
    assert call["config"] == {
        "model": {"target": "a"},
        "trainer": {"max_epochs": 5},
        "seed": 7,
        "a": {"b": "c"},
        "name": "mine",
    }
    assert (call["name"], call["resume"], call["dry_run"]) == (None, None, False)
    assert "--max_epochs 5 is now: trainer.max_epochs=5" in caplog.messages


def test_what_is_resumed_needs_no_file(trained: list[dict[str, Any]], tmp_path: Path) -> None:
    said("train", "-r", str(tmp_path), "--max_epochs", "6")
    ((call),) = trained
    assert call["resume"] == tmp_path
    assert call["config"] == {"trainer": {"max_epochs": 6}}


def test_a_postfix_is_told_in_words_of_today() -> None:
    assert (
        "-f _small is now: _small at the end of --name"
        in modern_words(["train", "-b", "A.yaml", "-f", "_small"]).notes
    )
