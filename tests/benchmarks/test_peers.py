"""Packages are installed whole or not at all; jobs run in a process with its own `taming`."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import peers
from benchmarks.peers import Package, Peer, PeerError

PACKAGE = Package("a-package", "1.0", "", "taming.main.instantiate_from_config")
SCHEDULE = """
import sys
import pytorch_lightning as lightning  # what no longer imports is replaced


class Doubling:
    def __init__(self, base, fails=False, dies=False):
        self.base = base
        if fails:
            raise ValueError(f"base is {base}")
        if dies:
            print("out of luck")
            sys.stdout.flush()
            sys.exit(7)

    def __call__(self, step):
        print("noise on the standard output")
        return self.base + 2 * step
"""


def start_with(folder: Path) -> Peer:
    """A peer with a package that is called like ours."""
    package = folder / "taming"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "lr_scheduler.py").write_text(SCHEDULE, "utf-8")
    return Peer(folder)


def job(peer: Peer, **params: Any) -> dict[str, torch.Tensor]:
    steps = {"steps": torch.arange(3)}
    return peer.run("schedule", steps, path="taming.lr_scheduler.Doubling", params=params)


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    with start_with(tmp_path_factory.mktemp("site")) as peer:
        yield peer


def test_a_job_takes_and_returns_tensors_through_the_peers_own_package(peer: Peer) -> None:
    assert job(peer, base=10)["rates"].tolist() == [10, 12, 14]


def test_an_error_comes_back_as_a_traceback_and_the_peer_lives_on(peer: Peer) -> None:
    with pytest.raises(PeerError, match="ValueError: base is 3"):
        job(peer, base=3, fails=True)
    assert job(peer, base=0)["rates"].tolist() == [0, 2, 4]


def test_the_death_of_a_peer_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with start_with(tmp_path) as peer, pytest.raises(PeerError, match=r"with 7 .*out of luck"):
        job(peer, base=0, dies=True)


def test_a_version_is_installed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = []

    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        wanted.append(command[-1])
        (Path(command[-2]) / "module.py").touch()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(peers.subprocess, "run", pip)
    first, second = (peers.install(PACKAGE, tmp_path) for _ in range(2))
    assert wanted == ["a-package==1.0"]
    assert first == second
    assert [path.name for path in first.iterdir()] == ["module.py"]


def test_a_failed_installation_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pip(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        (Path(command[-2]) / "half").touch()
        return subprocess.CompletedProcess(command, 1, "", "looking\nno such package")

    monkeypatch.setattr(peers.subprocess, "run", pip)
    with pytest.raises(PeerError, match=r"a-package==1.0: no such package"):
        peers.install(PACKAGE, tmp_path)
    assert list(tmp_path.iterdir()) == []
