"""Which pictures form which batch: decided by (seed, epoch) alone, so that training can resume.

Every batch has one picture size. Each set sends its pictures in an endless row of shuffled
passes; an epoch takes its share of every row and continues in the next epoch where it stopped.
An index travels with the number of its pass, which is the epoch of its random draw: a small set
that is passed several times in an epoch shows a new crop each time, and workers need no telling.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

Index = tuple[int, int]  # index in the mix, pass


class BatchSampler(Sampler[list[Index]]):
    """Batches of (index, pass) over the sets of a `Mix`.

    lengths, sizes, weights: pictures, (height, width) and share of each set.
    batch_size: pictures a batch on each device.
    epoch_size: pictures in an epoch over all devices; None: as many as there are.
    rank, replicas: this device among those that share every step.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        weights: Sequence[float],
        batch_size: int,
        *,
        seed: int = 0,
        epoch_size: int | None = None,
        rank: int = 0,
        replicas: int = 1,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size {batch_size} must be at least 1")
        self.lengths = list(lengths)
        self.batch_size, self.seed = batch_size, seed
        self.rank, self.replicas = rank, replicas
        self.offsets = np.concatenate([[0], np.cumsum(self.lengths)])
        step = batch_size * replicas
        batches = max(1, (epoch_size or sum(self.lengths)) // step)
        self.counts, self.groups = _plan(sizes, weights, batches, step)
        self.batches = sum(self.counts) // step
        self.epoch = 0
        self._start = (0, 0)

    @property
    def sampler(self) -> "BatchSampler":
        """Lightning tells the epoch to `batch_sampler.sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def resume_at(self, epoch: int, batch: int) -> None:
        """The next pass over `epoch` begins at this batch; other epochs are whole."""
        if not 0 <= batch <= self.batches:
            raise ValueError(f"batch {batch} of an epoch of {self.batches} batches")
        self.epoch = epoch
        self._start = (epoch, batch)

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[Index]]:
        epoch, start = self.epoch, 0
        if self._start[0] == epoch:
            start = self._start[1]
        for batch in self.schedule(epoch)[start:]:
            mine = batch[self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
            yield [(int(index), int(draw)) for index, draw in mine]

    def schedule(self, epoch: int) -> NDArray[np.int64]:
        """All batches of an epoch over all devices: (batches, batch_size * replicas, 2)."""
        rng = np.random.default_rng((self.seed, epoch, 0x5E7))
        batches = []
        for members in self.groups:
            rows = [self._row(number, epoch) for number in members]
            pool = np.concatenate(rows)
            batches.append(rng.permutation(pool).reshape(-1, self.batch_size * self.replicas, 2))
        return rng.permutation(np.concatenate(batches))

    def _row(self, number: int, epoch: int) -> NDArray[np.int64]:
        """This epoch's part of the endless row of one set: (count, 2)."""
        count, length = self.counts[number], self.lengths[number]
        begin, end = epoch * count, (epoch + 1) * count
        parts = []
        for turn in range(begin // length, -(-end // length)):
            order = np.random.default_rng((self.seed, number, turn, 0x0DD)).permutation(length)
            first, last = max(begin - turn * length, 0), min(end - turn * length, length)
            chosen = order[first:last] + self.offsets[number]
            parts.append(np.stack([chosen, np.full_like(chosen, turn)], axis=1))
        return np.concatenate(parts) if parts else np.zeros((0, 2), dtype=np.int64)


class InOrder(Sampler[list[Index]]):
    """Every picture once, batches of one size, the last of each size perhaps smaller."""

    def __init__(
        self,
        lengths: Sequence[int],
        sizes: Sequence[tuple[int, int]],
        batch_size: int,
        *,
        limit: int | None = None,
        rank: int = 0,
        replicas: int = 1,
    ):
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        pools: dict[tuple[int, int], list[int]] = {}
        for number, size in enumerate(sizes):
            count = lengths[number] if limit is None else min(limit, lengths[number])
            # Spread over the set: neighbours in a sequence of frames look alike.
            chosen = np.linspace(0, lengths[number] - 1, count).round().astype(int)
            pools.setdefault(size, []).extend((chosen + offsets[number]).tolist())
        every = [
            [(index, 0) for index in pool[start : start + batch_size]]
            for pool in pools.values()
            for start in range(0, len(pool), batch_size)
        ]
        # No device may be left without: where there are few batches, some see the first again.
        self.batches = every[rank::replicas] or every[:1]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Index]]:
        return iter(self.batches)


def _plan(
    sizes: Sequence[tuple[int, int]], weights: Sequence[float], batches: int, step: int
) -> tuple[list[int], list[list[int]]]:
    """Pictures of each set in an epoch, and the sets of each picture size.

    Every size has at least one batch, so there may be more than `batches`.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for number, size in enumerate(sizes):
        if weights[number] > 0:
            groups.setdefault(size, []).append(number)
    members = list(groups.values())
    shares = [sum(weights[number] for number in group) for group in members]
    counts = [0] * len(sizes)
    for group, its_batches in zip(
        members, _shared_out(max(batches, len(members)), shares), strict=True
    ):
        inner = _shared_out(its_batches * step, [weights[number] for number in group])
        for number, count in zip(group, inner, strict=True):
            counts[number] = count
    return counts, members


def _shared_out(total: int, weights: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to `weights` that sum to `total` (largest remainders).

    None is zero where `total` suffices: its pictures would come in no epoch at all.
    """
    exact = np.asarray(weights, dtype=np.float64) / sum(weights) * total
    counts = np.floor(exact).astype(int)
    order = np.argsort(-(exact - counts), kind="stable")
    counts[order[: total - int(counts.sum())]] += 1
    if total >= len(counts):
        for empty in np.flatnonzero(counts == 0):
            counts[counts.argmax()] -= 1
            counts[empty] = 1
    return counts.tolist()
