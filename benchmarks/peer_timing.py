"""Jobs of the peer's process that are timed there, and its peak of memory.

A workload is `module:function` of this folder: function(side, tensors, **arguments) builds what it
needs and returns a callable, which is what takes the time. The module imports neither `taming`,
except through `side`, nor `benchmarks`.
"""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import peak_memory  # pyright: ignore[reportMissingImports]  # beside the worker's own file
import torch
from torch import Tensor

prepared: dict[str, Callable[[], Any]] = {}


def prepare(
    side: Any, tensors: Mapping[str, Tensor], key: str, workload: str, arguments: dict[str, Any]
) -> dict[str, Tensor]:
    module, name = workload.split(":")
    prepared[key] = getattr(importlib.import_module(module), name)(side, tensors, **arguments)
    gc.collect()
    return {}


def measure(side: Any, tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """Seconds of one call, and the tensors that it returned by name."""
    start = time.perf_counter()
    result = prepared[key]()
    taken = torch.tensor(time.perf_counter() - start, dtype=torch.float64)
    return {**(result if isinstance(result, dict) else {}), "seconds": taken}


def forget(side: Any, tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    del prepared[key]
    gc.collect()
    return {}


def peak(side: Any, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"bytes": torch.tensor(peak_memory.peak_bytes())}


JOBS = {job.__name__: job for job in (prepare, measure, forget, peak)}
