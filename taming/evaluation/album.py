"""What an evaluation has made so far: pictures by their number, results by their stage.

Everything lies in one folder whose name is a fingerprint of what decides it (the weights, the data,
the settings), so that an evaluation that was stopped goes on where it was, and one with other
settings begins anew. Knows nothing of what pictures or results mean.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from taming.evaluation.report import write_json
from taming.provenance import save_png

AT_ONCE = 16  # pictures made before they are put away
NAME = re.compile("[0-9a-f]{12}")  # of a folder: nothing else in `work` is ours

Progress = Callable[[int, int], None]


class Album:
    """The folder of one evaluation; those of earlier settings beside it are removed."""

    def __init__(self, work: Path, settings: Mapping[str, Any]) -> None:
        told = json.dumps(settings, sort_keys=True)
        self.folder = work / hashlib.sha256(told.encode()).hexdigest()[:12]
        if work.is_dir():
            for other in work.iterdir():
                if other.is_dir() and other != self.folder and NAME.fullmatch(other.name):
                    shutil.rmtree(other)
        self.folder.mkdir(parents=True, exist_ok=True)

    def pictures(
        self,
        shelf: str,
        numbers: Sequence[int],
        make: Callable[[list[int]], Sequence[Image.Image]],  # those with these numbers
        progress: Progress | None = None,
    ) -> list[Image.Image]:
        """The pictures with these numbers; those that are not there yet are made."""
        paths = {number: self.folder / shelf / f"{number:06d}.png" for number in numbers}
        missing = [number for number, path in paths.items() if not path.is_file()]
        for first in range(0, len(missing), AT_ONCE):
            some = missing[first : first + AT_ONCE]
            for number, picture in zip(some, make(some), strict=True):
                save_png(picture, paths[number])
            if progress is not None:
                progress(len(paths) - len(missing) + first + len(some), len(paths))
        return [_read(paths[number]) for number in numbers]

    def result(self, stage: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the stage has found, now or earlier; it has to be plain enough for JSON."""
        path = self.folder / f"{stage}.json"
        if not path.is_file():
            write_json(work(), path)
        return json.loads(path.read_text(encoding="utf-8"))


def _read(path: Path) -> Image.Image:
    with Image.open(path) as opened:
        return opened.convert("RGB")
