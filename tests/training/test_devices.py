"""Two processes, one run: started by Lightning, and from outside."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from taming.config import load_config, to_yaml
from taming.training.cache import CodesCache

Second = Callable[..., dict[str, Any]]

TWO = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_steps": 2}


def run(words: list[str], folder: Path, **variables: str) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd(), **variables}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_two_processes_train_one_run(second: Second, tmp_path: Path, launcher: str) -> None:
    config = tmp_path / "two.yaml"
    config.write_text(to_yaml(second(TWO)), encoding="utf-8")
    words = ["taming.cli", "train", str(config)]
    if launcher == "lightning":
        run(["-m", *words], tmp_path)
    else:
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        run([*torchrun, "-m", *words], tmp_path, TAMING_RUN="runs/second")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["second"]
    folder = tmp_path / "runs" / "second"
    assert (folder / "weights.safetensors").is_file()
    # One batch is held out, which both processes see.
    held = CodesCache(folder / "cache" / "validation")
    assert 0 < len(held) <= 4
    history = (folder / "history.csv").read_text(encoding="utf-8")
    assert "validation/loss," in history
    assert load_config(folder / "config.yaml").trainer.devices == TWO["devices"]
