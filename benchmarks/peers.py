"""The original's two published packages: installed into folders of their own, run in processes.

One of them is called `taming` too, so it never shares a process with ours: a worker takes jobs by
name, with arguments as JSON and tensors as safetensors, and answers in the same way. What the jobs
compute is told in `client_code`; this file knows only how to reach them.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".peers"
WORKER = Path(__file__).with_name("peer_worker.py")


class Package(NamedTuple):
    name: str  # as pip knows it
    version: str
    prefix: str  # of its import paths, before the published `taming.`
    builder: str  # its `instantiate_from_config`


PACKAGES = {
    "rom1504": Package(
        "taming-transformers-rom1504", "0.0.6", "", "taming.main.instantiate_from_config"
    ),
    "hugf": Package(
        "taming-transformers-hugf",
        "0.0.1",
        "taming_transformers_hugf.",
        "taming_transformers_hugf.main.instantiate_from_config",
    ),
}


class PeerError(RuntimeError):
    """A package that cannot be installed, or a job that failed in the peer's process."""


def install(package: Package, folder: Path = FOLDER) -> Path:
    """Where the package lies, without its dependencies; installed once for each version."""
    target = folder / f"{package.name}-{package.version}"
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
        wanted = f"{package.name}=={package.version}"
        done = subprocess.run(
            [*command, str(partial), wanted], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise PeerError(f"pip cannot install {wanted}: {reason}")
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


class Peer:
    """A process that runs jobs with a published package; a context manager."""

    def __init__(self, site: Path, prefix: str = "", builder: str = "") -> None:
        self._work = tempfile.TemporaryDirectory(prefix="peer-")
        self._jobs = 0
        # By its path, not as a module: the project's folder must not be on the worker's path.
        command = [sys.executable, str(WORKER), str(site), prefix, builder]
        self._log = Path(self._work.name) / "log"  # what the package prints: much, of no use
        with open(self._log, "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self._work.name,
            )

    def run(
        self, job: str, tensors: Mapping[str, Tensor] | None = None, **arguments: Any
    ) -> dict[str, Tensor]:
        """What the job returns: tensors by name. PeerError with the worker's traceback."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._jobs += 1
        given = Path(self._work.name) / f"{self._jobs}-given.safetensors"
        result = Path(self._work.name) / f"{self._jobs}-result.safetensors"
        # Cloned: the format refuses tensors that share memory.
        contents = {name: tensor.contiguous().clone() for name, tensor in (tensors or {}).items()}
        save_file(contents, given)
        request = {"job": job, "arguments": arguments, "given": str(given), "result": str(result)}
        with contextlib.suppress(BrokenPipeError):  # of a dead worker, which has no answer either
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            said = self._log.read_text("utf-8", "replace").strip()[-1000:]
            raise PeerError(f"the peer's process ended with {code} during {job}: {said}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        tensors = load_file(result)
        given.unlink()
        result.unlink()
        return tensors

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # the worker ends with its input
        self._process.wait()
        self._process.stdout.close()
        self._work.cleanup()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def start(name: str) -> Peer:
    package = PACKAGES[name]
    return Peer(install(package), package.prefix, package.builder)
