"""Where data sets lie, and saying so when they do not.

The folder of all data is what the caller names, else what `TAMING_DATA` names, else `data` in the
working directory, which is mentioned in the log. ImageNet is also looked for where the original
unpacked it, in the user's cache.
"""

import functools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

VARIABLE = "TAMING_DATA"
PathLike = str | os.PathLike[str]


def data_root(root: PathLike | None = None) -> Path:
    """The folder of all data; it need not exist."""
    if root is not None:
        return Path(os.path.expanduser(os.fspath(root)))
    if os.environ.get(VARIABLE):
        return Path(os.path.expanduser(os.environ[VARIABLE]))
    return _working_directory(Path("data").absolute())


@functools.lru_cache(maxsize=16)
def _working_directory(folder: Path) -> Path:
    logger.warning("data is looked for in %s; %s names another folder", folder, VARIABLE)
    return folder


def cache_root() -> Path:
    """Where the original keeps the sets that it unpacks itself."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "autoencoders", "data")


def existing(path: PathLike, what: str) -> Path:
    """The path, or a ValueError that says what should be there and where to get it."""
    path = Path(path)
    if not path.exists():
        raise ValueError(
            f"{path} does not exist: {what}; put it there, or name the folder of your data by "
            f"{VARIABLE}"
        )
    return path


def read_lines(path: PathLike, what: str = "a text file with one entry a line") -> list[str]:
    """The lines of a text file, without empty ones."""
    try:
        lines = existing(path, what).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as text ({error}); it should be {what}") from error
    return [line.strip() for line in lines if line.strip()]


def first_of(candidates: Sequence[Path]) -> Path | None:
    """The first of these that exists."""
    return next((path for path in candidates if path.exists()), None)
