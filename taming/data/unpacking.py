"""Archives -> folders, the mark that a folder is complete, and batches of published samples.

An archive is unpacked beside itself, never outside: an entry that points elsewhere, by its path or
by a link, is an error before anything is written. The names are those of the published
`taming.data.utils`.
"""

import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import default_collate

from taming.data.download import download
from taming.data.objects import Annotation

READY = ".ready"


def is_prepared(root: str | os.PathLike[str]) -> bool:
    """Whether `mark_prepared` was called for this folder."""
    return (Path(root) / READY).exists()


def mark_prepared(root: str | os.PathLike[str]) -> None:
    (Path(root) / READY).touch()


def unpack(path: str | os.PathLike[str], target: str | os.PathLike[str] | None = None) -> None:
    """Unpacks a .tar, .tar.gz, .tgz or .zip into `target`, by default the folder it lies in."""
    path = Path(path)
    folder = path.parent if target is None else Path(target)
    try:
        if path.name.endswith((".tar", ".tar.gz", ".tgz")):
            with tarfile.open(path, "r:*") as archive:
                _unpack_tar(archive, folder, path)
        elif path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    _check_inside(name, path)
                archive.extractall(folder)
        else:
            raise ValueError(f"{path} is no archive known here; give a .tar, .tar.gz or .zip")
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is broken ({error}); fetch it again") from error


def unpack_whole(path: Path, target: Path, finish: Callable[[Path], None] | None = None) -> None:
    """Unpacks into the new folder `target`, which appears only when all is done.

    finish: further work inside the unpacked folder before it gets its name.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        unpack(path, partial)
        if finish is not None:
            finish(partial)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _unpack_tar(archive: tarfile.TarFile, folder: Path, path: Path) -> None:
    members = archive.getmembers()
    for member in members:
        _check_inside(member.name, path)
        if not (member.isfile() or member.isdir()):
            raise ValueError(
                f"{path}: entry '{member.name}' is a link or a device; unpack it by hand if you "
                "trust it"
            )
    for member in members:
        member.mode, member.uid, member.gid = (0o755 if member.isdir() else 0o644), 0, 0
        if hasattr(tarfile, "data_filter"):
            archive.extract(member, folder, filter="data")
        else:
            archive.extract(member, folder)


def _check_inside(name: str, path: Path) -> None:
    windows = PureWindowsPath(name)
    outside = PurePosixPath(name).is_absolute() or windows.is_absolute() or windows.drive
    if outside or ".." in windows.parts:
        raise ValueError(f"{path}: entry '{name}' would be written outside; nothing was unpacked")


def get_root(name: str, base: str | os.PathLike[str] = "data") -> str:
    """The folder of a set of this name below `base`, made if need be."""
    root = os.path.join(base, name)
    os.makedirs(root, exist_ok=True)
    return root


def download_url(file_: str, url: str, target_dir: str | os.PathLike[str]) -> str:
    path = os.path.join(target_dir, file_)
    download(url, path)
    return path


def download_urls(urls: Mapping[str, str], target_dir: str | os.PathLike[str]) -> dict[str, str]:
    """{file name: address} -> {file name: path}."""
    return {file: download_url(file, url, target_dir) for file, url in urls.items()}


# --- pictures and batches ------------------------------------------------------------------------


def quadratic_crop(x: NDArray, bbox: Sequence[float], alpha: float = 1.0) -> NDArray:
    """A square of `alpha` times the longer side around a box (x0, y0, x1, y1), mirrored outside."""
    height, width = x.shape[:2]
    x0, y0, x1, y1 = np.clip(np.asarray(bbox, dtype=np.float32), 0, max(height, width))
    centre_x, centre_y = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
    side = max(int(alpha * max(x1 - x0, y1 - y0)), 2)
    room = min(
        centre_x - side, centre_y - side, width - (centre_x + side), height - (centre_y + side)
    )
    margin = max(0, int(np.ceil(-room)))
    if margin:
        x = np.pad(x, [(margin, margin)] * 2 + [(0, 0)] * (x.ndim - 2), "reflect")
    left, top = (int(centre + margin - side / 2) for centre in (centre_x, centre_y))
    return np.array(x[top : top + side, left : left + side])


def custom_collate(batch: Sequence[Any]) -> Any:
    """Published samples -> a batch as PyTorch's own; lists of `Annotation` stay lists."""
    first = batch[0]
    if isinstance(first, Mapping):
        return {key: custom_collate([sample[key] for sample in batch]) for key in first}
    if isinstance(first, list | tuple) and not hasattr(first, "_fields"):
        if any(isinstance(entry, Annotation) for sample in batch for entry in sample):
            return batch
        if len({len(sample) for sample in batch}) > 1:
            raise RuntimeError("lists of different lengths in one batch; they must be equal")
        return [custom_collate(entries) for entries in zip(*batch, strict=True)]
    return default_collate(list(batch))
