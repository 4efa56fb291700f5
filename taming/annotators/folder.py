"""One pass over a set: whatever picture has no annotation yet gets one.

What is written stays readable at any moment and is not made again, so a pass may be stopped and
begun anew. Pictures that cannot be read are named in the log and left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from taming.annotators.base import Annotator
from taming.annotators.depth import DepthAnnotator
from taming.annotators.labels import LabelAnnotator
from taming.annotators.pose import PoseAnnotator
from taming.config import nearest
from taming.data.pictures import UnreadableImage, find_pictures, read_image

logger = logging.getLogger(__name__)

ANNOTATORS: Mapping[str, Callable[..., Annotator]] = {
    "depth": DepthAnnotator,
    "labels": LabelAnnotator,
    "pose": PoseAnnotator,
}
# A table is written as a whole: every so often, and in a share of the time where that takes long
SECONDS_A_TABLE, SHARE_OF_SAVING = 30.0, 0.1


def annotate(
    kind: str,  # one of ANNOTATORS
    folder: str | Path,  # of a set, with its pictures in images/
    network: str,  # hub id, or a folder
    *,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,  # pictures done, in all
    **options: Any,  # of the annotator
) -> int:
    """How many pictures were annotated now; `PairedFolder` reads what was written."""
    root = Path(folder)
    if kind not in ANNOTATORS:
        raise ValueError(f"'{kind}' is no annotation; {nearest(kind, ANNOTATORS)}")
    if not (root / "images").is_dir():
        raise ValueError(f"{root / 'images'} does not exist; a set has its pictures in images/")
    paths = find_pictures(root / "images")
    if not paths:
        raise ValueError(f"{root / 'images'} holds no pictures")
    annotator = ANNOTATORS[kind](root, network, device=device, **options)
    count = 0
    pause, saved = SECONDS_A_TABLE, time.monotonic()
    try:
        for done, path in enumerate(paths, start=1):
            file = path.relative_to(root / "images")
            name = file.with_suffix("").as_posix()
            if annotator.has(name):
                continue
            count += _add(annotator, name, file.as_posix(), path)
            if (began := time.monotonic()) - saved >= pause:
                annotator.save()
                saved = time.monotonic()
                pause = max(SECONDS_A_TABLE, (saved - began) / SHARE_OF_SAVING)
            if progress is not None:
                progress(done, len(paths))
    finally:
        if count:
            annotator.save()
    return count


def _add(annotator: Annotator, name: str, file: str, path: Path) -> bool:
    try:
        pixels = read_image(path)
    except UnreadableImage as error:
        logger.warning("left out: %s", error)
        return False
    annotator.add(name, file, pixels)
    return True
