"""What every benchmark shares: a row of the table, and how its numbers are taken.

A module of rows (`rows_decode`, ...) has one function, `rows(context) -> Iterator[Row]`. Two things
are compared by calling them in turn, so that whatever else the machine does meets both alike; the
original runs in a process of its own and is timed there. Peaks of memory are those of a process
that does one thing and ends. Knows nothing of models.

**ratio = what ours is compared with / ours, bigger is better, in every row**: peer / ours, slow /
fast, or floor / ours.
"""

from __future__ import annotations

import contextlib
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks import peers
from benchmarks.floors import Floors

ROOT = Path(__file__).parents[1]
MIB = 2**20
LEAST_PAIRS = 5  # below which quartiles would be made up


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. Times and sizes are in `unit`; what is not known is None."""

    name: str
    ours: float | None
    unit: str  # "s", "ms", "MiB", "dB", "%", ...
    peer: float | None = None  # what ours is compared with, unless that is the floor
    against: str = "the original"  # what `peer` is, or "floor"
    ratio: float | None = None  # peer / ours where it is not given
    spread: tuple[float, float] | None = None  # quartiles of the ratio over the pairs
    reach: float | None = None  # the ratio that was aimed at; None: the row only informs
    floor: float | None = None  # bytes / bandwidth or operations / rate
    memory: float | None = None  # peak of a process that does this alone, MiB
    note: str = ""  # one sentence: drift, why it is not reached, ...

    def __post_init__(self) -> None:
        if self.ratio is None and self.peer is not None and self.ours:
            object.__setattr__(self, "ratio", self.peer / self.ours)

    @property
    def met(self) -> bool | None:
        """None where nothing was aimed at; a row without a number has not met its reach."""
        if self.reach is None:
            return None
        return self.ratio is not None and self.ratio >= self.reach


class Curve(NamedTuple):
    """Time of one kind of work by one side, for the figure."""

    work: str  # the panel's title
    against: str  # what x is
    side: str  # whose, and in which precision
    x: list[int]
    seconds: list[float]  # of one call


class Paired(NamedTuple):
    """Two things measured in turn."""

    ours: float  # median, seconds
    peer: float  # median, seconds
    ratio: float  # peer / ours, the median over the pairs
    spread: tuple[float, float] | None  # quartiles of the ratio over the pairs, where they say so

    def columns(self, scale: float = 1.0, pieces: float = 1) -> dict[str, Any]:
        """What a `Row` says of them: times by `scale`; ours did so many `pieces` at once."""
        return {
            "ours": self.ours / pieces * scale,
            "peer": self.peer * scale,
            "ratio": self.ratio * pieces,
            "spread": self.spread and (self.spread[0] * pieces, self.spread[1] * pieces),
        }


def summarize(ours: list[float], peer: list[float]) -> Paired:
    """The n-th of `ours` was measured beside the n-th of `peer`."""
    ratios = [theirs / mine for mine, theirs in zip(ours, peer, strict=True)]
    low, middle, high = torch.tensor(ratios).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
    spread = (low, high) if len(ratios) >= LEAST_PAIRS else None
    return Paired(statistics.median(ours), statistics.median(peer), middle, spread)


class PeerTimer:
    """Something prepared in the peer's process; calling it does it once, timed there."""

    def __init__(self, peer: peers.Peer, key: str) -> None:
        self._peer = peer
        self._key = key
        self.last: dict[str, Tensor] = {}  # tensors that the last call returned

    def __call__(self) -> float:
        """Seconds."""
        self.last = self._peer.run("measure", key=self._key)
        return float(self.last.pop("seconds"))

    def close(self) -> None:
        """The peer forgets it, and its memory is free."""
        self._peer.run("forget", key=self._key)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes once; of something in the peer's process, without the way there."""
    if isinstance(work, PeerTimer):
        return work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass
class Context:
    """What row modules are given; closes the peer's process when left."""

    folder: Path  # for files of this run
    quick: bool = False  # fewer repeats, smaller sizes: for trying, not for the record
    whole: bool = False  # the original's sampler from beginning to end, besides what is integrated
    peer_name: str = "rom1504"
    floors: Floors = field(default_factory=Floors)
    report: Callable[[str], object] = lambda text: None  # told what is being measured
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _prepared: int = 0

    @property
    def threads(self) -> int:
        return torch.get_num_threads()

    # --- time ------------------------------------------------------------------------------------

    def repeats(self, count: int) -> int:
        return min(count, 3) if self.quick else count

    def median(self, work: Callable[[], object], repeats: int = 5, warmup: int = 1) -> float:
        """Seconds."""
        for _ in range(warmup):
            seconds(work)
        gc.collect()
        return statistics.median(seconds(work) for _ in range(self.repeats(repeats)))

    def paired(
        self,
        ours: Callable[[], object],
        peer: Callable[[], object],
        repeats: int = 5,
        warmup: int = 1,
    ) -> Paired:
        """Both in turn; every other pair begins with the peer."""
        return summarize(*self.in_turn([ours, peer], repeats, warmup))

    def in_turn(
        self, works: Sequence[Callable[[], object]], repeats: int = 5, warmup: int = 1
    ) -> list[list[float]]:
        """Seconds of each, one after the other; every other turn goes backwards."""
        for work in [*works] * warmup:
            seconds(work)
        gc.collect()
        taken: list[list[float]] = [[] for _ in works]
        for turn in range(self.repeats(repeats)):
            for side in range(len(works))[:: 1 if turn % 2 == 0 else -1]:
                taken[side].append(seconds(works[side]))
        return taken

    # --- the original ----------------------------------------------------------------------------

    @cached_property
    def peer(self) -> peers.Peer:
        """The one process of the original that the whole run uses."""
        return self._stack.enter_context(peers.start(self.peer_name))

    def theirs(
        self, workload: str, tensors: Mapping[str, Tensor] | None = None, **arguments: Any
    ) -> PeerTimer:
        """`module:function` of this folder, called as function(side, tensors, **arguments) in the
        peer's process; it returns what is to be timed, a callable without arguments.

        The module imports neither `taming` nor `benchmarks`: there, those are other packages.
        """
        self._prepared += 1
        key = f"{workload} {self._prepared}"
        self.peer.run("prepare", tensors, key=key, workload=workload, arguments=arguments)
        return PeerTimer(self.peer, key)

    # --- memory ----------------------------------------------------------------------------------

    def peak_memory(self, work: str, **arguments: Any) -> float:
        """MiB: the peak of a new process that imports `module:function` and calls it once."""
        command = [sys.executable, "-m", "benchmarks.peak_memory", work, json.dumps(arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{work} failed in its own process: {done.stderr[-2000:]}")
        return int(done.stdout.splitlines()[-1]) / MIB

    def peer_memory(
        self,
        workload: str,
        tensors: Mapping[str, Tensor] | None = None,
        calls: int = 1,
        **arguments: Any,
    ) -> float:
        """MiB: the same of the original; preparing counts."""
        with peers.start(self.peer_name) as peer:
            peer.run("prepare", tensors, key="", workload=workload, arguments=arguments)
            for _ in range(calls):
                peer.run("measure", key="")
            return int(peer.run("peak")["bytes"]) / MIB

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
