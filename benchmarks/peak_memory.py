"""The peak of a process's memory.

    python -m benchmarks.peak_memory MODULE:FUNCTION ARGUMENTS     # JSON; prints bytes

Imports neither torch nor `benchmarks`: the peer's process uses it too.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """Of resident memory, since this program began."""
    if STATUS.exists():
        # Not getrusage: on Linux its peak begins with that of the process that started this one.
        lines = STATUS.read_text("utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


def main() -> None:
    module, name = sys.argv[1].split(":")
    getattr(importlib.import_module(module), name)(**json.loads(sys.argv[2]))
    print(peak_bytes())


if __name__ == "__main__":
    main()
