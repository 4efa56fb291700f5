"""What is finished of a long piece of work, kept in a file: a second start goes on there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Journal:
    """What is finished and how long it took, kept in a file after every stage."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: dict[str, dict[str, Any]] = {}
        if path.is_file():
            self.entries = json.loads(path.read_text(encoding="utf-8"))

    def seconds(self, stage: str, mark: str) -> float | None:
        """How long the stage took, if it was finished with these settings."""
        entry = self.entries.get(stage)
        return entry["seconds"] if entry is not None and entry["mark"] == mark else None

    def finish(self, stage: str, mark: str, seconds: float) -> None:
        self.entries[stage] = {"mark": mark, "seconds": round(seconds, 1)}
        self._write()

    def forget(self, stage: str) -> None:
        """The stage is begun anew: what was there of it, will be overwritten."""
        if self.entries.pop(stage, None) is not None:
            self._write()

    def _write(self) -> None:
        from taming.checkpoint import atomic_write

        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(self.entries, indent=1), encoding="utf-8")


def clock(seconds: float) -> str:
    """192.3 -> 3:12"""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
