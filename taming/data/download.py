"""Fetching files from the web, and reaching into nested settings by a path.

A file arrives whole and checked or not at all. What the network does not give is named in the
error, with the place where to put it by hand. The names are those of the published `taming.util`.
"""

import hashlib
import logging
import os
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from taming.checkpoint import atomic_write

logger = logging.getLogger(__name__)

URL_MAP = {"vgg_lpips": "https://heibox.uni-heidelberg.de/f/607503859c864bc1b30b/?dl=1"}
CKPT_MAP = {"vgg_lpips": "vgg.pth"}
MD5_MAP = {"vgg_lpips": "d507d7349b931f0638a25a48a722f98a"}
TIMEOUT = 30  # seconds without a single byte


class Unreachable(ValueError):
    """The network does not give the file; says what to do by hand."""


def download(
    url: str,
    local_path: str | os.PathLike[str],
    chunk_size: int = 1 << 20,
    *,
    size: int | None = None,  # bytes
    digest: str | None = None,  # "sha256:..." or "md5:...", the beginning suffices
) -> None:
    """Fetches `url` to `local_path`, which is replaced only by a complete and correct file."""
    path = Path(local_path)
    logger.info("downloading %s to %s", url, path)
    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT) as source,
            atomic_write(path) as partial,
        ):
            with open(partial, "wb") as target:
                while chunk := source.read(chunk_size):
                    target.write(chunk)
            promised = source.headers.get("Content-Length")
            _check_size(partial, url, int(promised) if promised else None)
            _check_size(partial, url, size)
            if digest is not None:
                check_digest(partial, digest, url)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise Unreachable(
            f"{url} cannot be reached ({error}); fetch it by hand and save it as {path}"
        ) from error


def _check_size(path: Path, url: str, size: int | None) -> None:
    found = path.stat().st_size
    if size is not None and found != size:
        raise ValueError(f"{url} gave {found} bytes, it should have {size}; try again later")


def check_digest(path: str | os.PathLike[str], digest: str, origin: str) -> None:
    """ValueError if the file is not the one that `origin` has."""
    kind, _, expected = digest.partition(":")
    found = file_digest(path, kind)
    spelt = {"sha256": "SHA-256", "md5": "MD5"}.get(kind, kind)
    if not found.startswith(expected):
        raise ValueError(
            f"{path} has {spelt} {found[:16]}..., {origin} has {expected[:16]}...; remove it"
        )


def file_digest(path: str | os.PathLike[str], kind: str = "sha256") -> str:
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def md5_hash(path: str | os.PathLike[str]) -> str:
    return file_digest(path, "md5")


def get_ckpt_path(name: str, root: str | os.PathLike[str], check: bool = False) -> str:
    """Path of a published file of weights in the folder `root`, fetched if it is not there.

    check: whether a file that is there already must have the right MD5, or is fetched anew.
    """
    if name not in URL_MAP:
        raise ValueError(f"'{name}' has no published weights; there are: {', '.join(URL_MAP)}")
    path = Path(root) / CKPT_MAP[name]
    if not path.is_file() or (check and md5_hash(path) != MD5_MAP[name]):
        download(URL_MAP[name], path, digest=f"md5:{MD5_MAP[name]}")
    return str(path)


# --- nested settings -----------------------------------------------------------------------------


class KeyNotFoundError(Exception):
    """A path that leads nowhere: `keys` is all of it, `visited` the part that exists."""

    def __init__(
        self, cause: Any, keys: list[str] | None = None, visited: list[str] | None = None
    ) -> None:
        self.cause, self.keys, self.visited = cause, keys, visited
        path, known = ("/".join(map(str, part or [])) for part in (keys, visited))
        super().__init__(f"there is no '{path}', only '{known}' exists ({cause!r})")


def retrieve(
    list_or_dict: Any,
    key: str,  # "section/name/0"
    splitval: str = "/",
    default: Any = None,  # None: a missing key is a KeyNotFoundError
    expand: bool = True,  # call what is callable on the way, and keep the result in its place
    pass_success: bool = False,  # return (value, whether it was there)
) -> Any:
    """The value at a path through nested mappings and lists."""
    try:
        found = _walk(list_or_dict, key.split(splitval), expand)
    except KeyNotFoundError:
        if default is None:
            raise
        return (default, False) if pass_success else default
    return (found, True) if pass_success else found


def _walk(start: Any, keys: list[str], expand: bool) -> Any:
    node: Any = start
    visited: list[str] = []
    for key in keys:
        try:
            place: Any = key if hasattr(node, "keys") else int(key)
            value = node[place]
            if callable(value) and expand:
                value = node[place] = value()
            elif callable(value) and key is not keys[-1]:
                raise KeyNotFoundError("a function, and expand is off", keys, visited)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise KeyNotFoundError(error, keys, visited) from error
        node = value
        visited.append(key)
    return node
