"""On what a benchmark ran: the processor, its units, and the versions of what counts."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

UNITS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")
PACKAGES = ("taming", "torch", "transformers", "diffusers", "torchao")


def machine() -> dict[str, Any]:
    about = _read("/proc/cpuinfo")
    flags = about.get("flags", "").split()
    return {
        "processor": about.get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "units": [unit for unit in UNITS if unit in flags],
        "memory GiB": round(int(_read("/proc/meminfo").get("MemTotal", "0 kB").split()[0]) / 2**20),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _read(path: str) -> dict[str, str]:
    """`name : value` lines; the first of each name. Empty where there is no such file."""
    if not Path(path).exists():
        return {}
    pairs = (line.partition(":") for line in Path(path).read_text("utf-8").splitlines())
    found: dict[str, str] = {}
    for name, _, value in pairs:
        found.setdefault(name.strip(), value.strip())
    return found
