"""What the machine can do at best: bytes a second and operations a second, measured in this run.

A floor is a time that no program of the same work can go below: bytes / bandwidth where weights are
read once, operations / rate where matrices are multiplied. Both are taken as the best of several
ways and repeats, with all threads, so that floors are low rather than kind.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F

READ, ROW = 2**29, 2**14  # bytes: many times the largest cache; a row of the matrix that is read
GIGA = 1e9
LONG = 1.0  # seconds: short calls are repeated until then, past what disturbs a moment


def best(work: Callable[[], object], repeats: int = 5, least: float = LONG) -> float:
    """Seconds of the fastest call, of `repeats` or more; the first one does not count."""
    work()
    times: list[float] = []
    while len(times) < repeats or sum(times) < least:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


class Floors:
    """Measured where first asked for, then kept."""

    def __init__(self) -> None:
        self._rates: dict[tuple[torch.dtype, int, int, int], float] = {}

    @cached_property
    def _ways(self) -> list[Callable[[int], object]]:
        """Ways to read the first so many rows of ROW bytes of a matrix of READ bytes."""
        matrix = torch.ones(READ // ROW, ROW // 4)  # touched, or its pages would all be one
        vector, half = torch.ones(ROW // 4), torch.ones(1, ROW // 2, dtype=torch.bfloat16)
        halves = matrix.view(torch.bfloat16)
        return [
            lambda rows: torch.mv(matrix[:rows], vector),
            lambda rows: matrix[:rows].sum(),
            lambda rows: F.linear(half, halves[:rows]),
        ]

    @cached_property
    def _fastest(self) -> tuple[float, Callable[[int], object]]:
        with torch.inference_mode():
            times = [best(lambda way=way: way(READ // ROW)) for way in self._ways]
        return min(zip(times, self._ways, strict=True), key=lambda each: each[0])

    @property
    def bandwidth(self) -> float:
        """Bytes a second read from memory."""
        return READ / self._fastest[0]

    def reading(self, size: int) -> Callable[[], None]:
        """Something that reads `size` bytes from memory, to be timed beside what it is a floor of:
        how fast memory is depends on who else uses it at the time."""
        whole, rest = divmod(size // ROW, READ // ROW)
        way = self._fastest[1]

        def read() -> None:
            with torch.inference_mode():
                for _ in range(whole):
                    way(READ // ROW)
                way(rest)

        return read

    def rate(
        self, dtype: torch.dtype, rows: int = 512, inner: int = 1024, columns: int = 4096
    ) -> float:
        """Operations a second of (rows, inner) x (inner, columns); an addition counts as one.

        A 3x3 convolution of C to D channels on N pixels is (N, 9 C) x (9 C, D), and is measured
        itself where the sizes are those of one: its kernels may be better than those of matrices.
        """
        key = (dtype, rows, inner, columns)
        if key not in self._rates:
            x = torch.randn(rows, inner).to(dtype)
            weight = torch.randn(columns, inner).to(dtype)
            ways: list[Callable[[], object]] = [lambda: F.linear(x, weight)]
            side = math.isqrt(rows)
            if inner % 9 == 0 and side * side == rows:
                image = torch.randn(1, inner // 9, side, side).to(dtype)
                image = image.contiguous(memory_format=torch.channels_last)
                kernel = torch.randn(columns, inner // 9, 3, 3).to(dtype)
                kernel = kernel.contiguous(memory_format=torch.channels_last)
                ways.append(lambda: F.conv2d(image, kernel, padding=1))
            with torch.inference_mode():
                self._rates[key] = 2 * rows * inner * columns / min(map(best, ways))
        return self._rates[key]

    def seconds_to_read(self, size: int) -> float:
        return size / self.bandwidth

    def seconds_to_compute(
        self,
        operations: float,
        dtype: torch.dtype,
        rows: int = 512,
        inner: int = 1024,
        columns: int = 4096,
    ) -> float:
        return operations / self.rate(dtype, rows, inner, columns)

    def summary(self) -> dict[str, float]:
        """What has been measured, in GB/s and GFLOP/s."""
        rates = {
            f"{str(dtype).removeprefix('torch.')} {rows}x{inner}x{columns} GFLOP/s": rate / GIGA
            for (dtype, rows, inner, columns), rate in self._rates.items()
        }
        return {"memory GB/s": self.bandwidth / GIGA, **rates}
