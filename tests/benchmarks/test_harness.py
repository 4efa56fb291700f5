"""Ratios have one direction; both sides are called in turn; memory is that of one piece of work."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import harness
from benchmarks.fitting import Watch
from benchmarks.floors import READ, ROW, Floors, best
from benchmarks.harness import Context, Paired, Row, summarize
from benchmarks.peers import Peer

WORKLOADS = """
import torch


def doubling(side, tensors, times):
    x = tensors["x"].clone()

    def work():
        for _ in range(times):
            x.mul_(2)
        return {"x": x}

    return work


def nothing(side, tensors):
    return lambda: None
"""


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Context]:
    """Its peer has the workloads above in the place of a package."""
    site = tmp_path_factory.mktemp("site")
    (site / "taming").mkdir()
    (site / "taming" / "__init__.py").touch()
    (site / "work.py").write_text(WORKLOADS, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.peers, "start", lambda name: Peer(site))
        with Context(site) as context:
            yield context


def recorded(calls: list[str], name: str) -> Callable[[], object]:
    return lambda: calls.append(name)


# --- rows ----------------------------------------------------------------------------------------


def test_the_ratio_is_peer_over_ours() -> None:
    assert Row(name="", unit="s", ours=2.0, peer=6.0).ratio == 3.0


def test_a_given_ratio_stays() -> None:
    assert Row(name="", unit="ms", ours=4.0, floor=3.0, ratio=0.75).ratio == 0.75


def test_a_row_without_a_peer_has_no_ratio() -> None:
    assert Row(name="", unit="%", ours=1.5).ratio is None
    assert Row(name="", unit="s", ours=None, peer=1.0).ratio is None


@pytest.mark.parametrize(("peer", "met"), [(5.9, False), (6.0, True), (7.0, True)])
def test_a_row_is_met_where_its_ratio_reaches_the_line(peer: float, met: bool) -> None:
    assert Row(name="", unit="s", ours=2.0, peer=peer, reach=3.0).met is met


def test_without_a_line_nothing_is_met_and_without_a_number_it_is_missed() -> None:
    assert Row(name="", unit="s", ours=2.0, peer=9.0).met is None
    assert Row(name="", unit="s", ours=None, reach=3.0).met is False


# --- pairs ---------------------------------------------------------------------------------------


def test_the_ratio_of_pairs_is_the_median_over_the_pairs() -> None:
    # The machine was twice as slow during the third pair: both sides met it.
    found = summarize([1.0, 1.0, 2.0], [3.0, 4.0, 8.0])
    assert found == Paired(1.0, 4.0, 4.0, None)  # three pairs have no quartiles
    found = summarize([1.0, 1.0, 2.0, 1.0, 1.0], [3.0, 4.0, 8.0, 5.0, 2.0])
    assert found == Paired(1.0, 4.0, 4.0, (3.0, 4.0))
    assert found.columns(1e3, pieces=2)["spread"] == (6.0, 8.0)


def test_sides_take_turns_and_beginning_too(context: Context) -> None:
    calls: list[str] = []
    context.paired(recorded(calls, "a"), recorded(calls, "b"), repeats=3, warmup=1)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"


def test_more_than_two_take_turns_and_every_other_turn_goes_backwards(context: Context) -> None:
    calls: list[str] = []
    taken = context.in_turn([recorded(calls, name) for name in "abc"], repeats=2, warmup=1)
    assert "".join(calls) == "abc" + "abc" + "cba"
    assert [len(each) for each in taken] == [2, 2, 2]


def test_quick_repeats_less(tmp_path: Path) -> None:
    calls: list[str] = []
    Context(tmp_path, quick=True).median(recorded(calls, "a"), repeats=9, warmup=0)
    assert len(calls) == 3


# --- the peer's process --------------------------------------------------------------------------


def test_the_peers_work_is_prepared_once_and_done_at_each_call(context: Context) -> None:
    timer = context.theirs("work:doubling", {"x": torch.ones(2)}, times=3)
    for power in (3, 6):
        assert harness.seconds(timer) > 0
        assert timer.last["x"].tolist() == [2.0**power] * 2


def test_works_do_not_get_in_each_others_way(context: Context) -> None:
    once, twice = (
        context.theirs("work:doubling", {"x": torch.ones(1)}, times=times) for times in (1, 2)
    )
    for timer in (once, twice):
        timer()
    assert (once.last["x"].item(), twice.last["x"].item()) == (2.0, 4.0)


def test_what_the_peer_forgot_is_gone(context: Context) -> None:
    timer = context.theirs("work:nothing")
    timer.close()
    with pytest.raises(harness.peers.PeerError, match="KeyError"):
        timer()


# --- memory --------------------------------------------------------------------------------------

HOLD = """
def hold(size):
    return len(bytearray(b"x") * size)
"""


def test_a_larger_allocation_has_a_higher_peak(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "holding.py").write_text(HOLD, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    small, large = (context.peak_memory("holding:hold", size=mib * 2**20) for mib in (1, 65))
    assert 60 < large - small < 80


def test_a_process_that_fails_says_why(context: Context) -> None:
    with pytest.raises(RuntimeError, match="No module named 'not_there'"):
        context.peak_memory("not_there:work")


def test_the_peers_peak_is_that_of_another_process(context: Context) -> None:
    small, large = (
        context.peer_memory("work:doubling", {"x": torch.zeros(size * 2**18)}, times=1)
        for size in (1, 65)
    )
    assert large - small > 60


def test_a_reading_covers_the_bytes_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    monkeypatch.setattr(Floors, "_fastest", (1.0, read.append))
    Floors().reading(2 * READ + 3 * ROW)()
    assert [rows * ROW for rows in read] == [READ, READ, 3 * ROW]


# --- floors --------------------------------------------------------------------------------------


def test_a_floor_is_the_best_of_several() -> None:
    waits = iter([0.0, 0.02, 0.001, 0.02])
    assert best(lambda: time.sleep(next(waits)), repeats=3, least=0.0) < 0.02


def test_short_calls_are_repeated_for_a_while() -> None:
    calls: list[str] = []
    best(lambda: calls.append("a") or time.sleep(0.001), repeats=1, least=0.01)
    assert len(calls) > 2


def test_a_rate_is_measured_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("benchmarks.floors.best", lambda work: asked.append(work) or 2.0)
    floors = Floors()
    for rows in (2, 2, 3):
        assert floors.rate(torch.float32, rows, 5, 7) == rows * 5 * 7
    assert len(asked) == 2
    assert floors.seconds_to_compute(140.0, torch.float32, 2, 5, 7) == 2.0


def test_steps_of_training_take_turns_too() -> None:
    """Ours always began."""
    calls: list[str] = []
    theirs: Any = recorded(calls, "b")
    watch = Watch(theirs)
    for _ in range(3):
        watch.on_train_batch_start()
        calls.append("a")
        watch.on_train_batch_end()
    assert "".join(calls) == "ab" + "ba" + "ab"
    assert len(watch.taken.ours) == len(watch.taken.theirs) == 3
