"""Tensors to files and back: atomically, without running code from a file, and never silently.

Weights are safetensors beside a YAML file; `.ckpt`, `.pt` and `.pth` of any age are read too,
tensors only (checkpoint_pickle.py).
`load_weights` says what matched. New files must fit exactly; files published with the original
taming-transformers may carry a few entries that nothing needs any more.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from taming.checkpoint_pickle import Refused, StoredTensor, read_torch

logger = logging.getLogger(__name__)

DTYPES = {  # as safetensors names them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

# Entries that a file may hold and a model may lack, or the other way round, at any depth.
OPTIONAL_KEYS = re.compile(r"(^|\.)(attn\.mask|colorize|quantize\.used)$")
FIRST_STAGE = "first_stage_model."  # begins the names of a second stage's first
DECODING = ("decoder.", "post_quant_conv.")  # parts of a first stage that make no codes
LOSS_KEYS = re.compile(r"(^|\.)loss\.")
SHOWN = 12  # keys listed in an error message


class CheckpointError(ValueError):
    """A file that cannot be read or written, or weights that do not fit; says what to do."""


class LoadReport(NamedTuple):
    matched: list[str]
    missing: list[str]  # in the model, not in the file: kept as they were
    left_over: list[str]  # in the file, not in the model: not used
    other_shape: list[str]  # ignored by request


# --- writing -------------------------------------------------------------------------------------


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the same folder; it becomes `path` only if all goes well.

    On any failure the temporary file is removed and an older `path` stays as it was. A full disk
    is a CheckpointError, other errors pass unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as numpy choose their format by it.
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield partial
        _flush_to_disk(partial)
        os.replace(partial, path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, Exception) and _disk_is_full(error, path.parent):
            raise CheckpointError(
                f"no space left on the disk while writing {path}; nothing half-written was kept. "
                "Free some space or choose another folder, then run the same command again"
            ) from error
        raise


def _flush_to_disk(path: Path) -> None:
    """A rename survives a power cut only if the bytes went to disk before it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _disk_is_full(error: Exception, folder: Path) -> bool:
    # safetensors and torch.save wrap the system's error in their own, keeping at most its text.
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        return True
    if re.search(r"no space left|disk quota|os error 28", str(error), re.IGNORECASE):
        return True
    wrote = isinstance(error, RuntimeError | SafetensorError) and "writ" in str(error).lower()
    return wrote and shutil.disk_usage(folder).free < 1 << 20


def save_weights(
    path: str | os.PathLike[str],
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,  # MB written, of how many
) -> None:
    """Writes safetensors, atomically, one tensor after the other.

    Never holds more than one tensor in memory beyond what it is given, so that files of several GB
    go from one format to another. Layout: github.com/huggingface/safetensors, README, "Format".
    """
    # Wide types first: then every tensor begins at a multiple of its own width.
    names = sorted(state, key=lambda name: (-state[name].element_size(), name))
    header: dict[str, Any] = {}
    if metadata:
        header["__metadata__"] = {key: str(value) for key, value in metadata.items()}
    end = 0
    for name in names:
        tensor = state[name]
        if tensor.dtype not in DTYPES:
            raise CheckpointError(f"{name} is of type {tensor.dtype}, which {path} cannot hold")
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as partial, open(partial, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            file.write(_little_endian(state[name]).data)
            if progress is not None:
                progress(header[name]["data_offsets"][1] >> 20, end >> 20)


def _little_endian(tensor: Tensor) -> np.ndarray:
    """The bytes of a tensor, as whole numbers of its width; numpy has no bfloat16."""
    width = tensor.element_size()
    flat = tensor.detach().cpu().contiguous().flatten()
    if tensor.is_complex():  # two numbers of half the width
        flat, width = torch.view_as_real(flat).flatten(), width // 2
    return flat.view(getattr(torch, f"int{8 * width}")).numpy().astype(f"<i{width}", copy=False)


# --- reading -------------------------------------------------------------------------------------


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.ckpt`, `.pt` or `.pth` file, on the CPU, by name."""
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path} does not exist")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in (".ckpt", ".pt", ".pth", ".bin"):
        raise CheckpointError(
            f"{path}: '{path.suffix}' is no known format; expected .safetensors, .ckpt, .pt or .pth"
        )
    entries, left = _named_tensors(path)
    if not entries:
        raise CheckpointError(
            f"{path} holds no tensors by name; found {_listed(left) or 'nothing'}"
        )
    if left:
        logger.info("%s: %d entries are not tensors: %s", path, len(left), _listed(left))
    return entries


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """What `save_weights` wrote beside the tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _unreadable(Path(path), error) from error


def read_shapes(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a `.safetensors` file on the meta device: nothing of it stays open or read."""
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise _unreadable(Path(path), error) from error
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error


def _named_tensors(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a file of `torch.save`, and the names of what else stands among them."""
    with open(path, "rb") as file:
        start = file.read(2)
    if start[:1] != b"\x80" and start != b"PK":
        raise CheckpointError(f"{path} is not a checkpoint (it begins with {start!r})")
    try:
        content = read_torch(path)
        entries = content.get("state_dict", content) if isinstance(content, dict) else content
        if not isinstance(entries, dict):
            return {}, [repr(entries)]
        tensors = {str(k): v.load() for k, v in entries.items() if isinstance(v, StoredTensor)}
        return tensors, [str(k) for k, v in entries.items() if not isinstance(v, StoredTensor)]
    except Refused as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}; save a model's state_dict alone and read that"
        ) from error
    except Exception as error:  # the bytes of a damaged file mean anything, and fail in any way
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CheckpointError:
    size = path.stat().st_size if path.exists() else 0
    reason = str(error).split(". ")[0].split("\n")[0] or type(error).__name__
    return CheckpointError(
        f"{path} ({size} bytes) is damaged or incomplete: {reason}; copy or download it again"
    )


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The entries below `prefix`, say FIRST_STAGE, by the names their own model uses."""
    return {
        name[len(prefix) :]: tensor for name, tensor in state.items() if name.startswith(prefix)
    }


def read_first_stage(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Tensors of a first stage; of a second stage's file, those of the first stage within."""
    state = read_state_dict(path)
    within = without_prefix(state, FIRST_STAGE)
    if within:
        logger.info("%s: %d of %d tensors are its first stage", path, len(within), len(state))
    return within or state


# --- fitting -------------------------------------------------------------------------------------


def load_weights(
    module: nn.Module,
    state: Mapping[str, Tensor],
    ignore: Iterable[str] | str = (),
    source: str = "",
    share: bool = False,  # use the tensors of `state` in place of the module's, where types agree
) -> LoadReport:
    """Copies `state` into `module`; CheckpointError, before anything is copied, if it does not fit.

    Keys that start with one of `ignore` are neither read nor asked for. `source` names the file in
    messages. A file without losses fits a model with them: training's part then starts afresh.
    """
    ignored = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    own = module.state_dict()
    given = {k: v for k, v in state.items() if not (ignored and k.startswith(ignored))}
    other_shape = [k for k, v in given.items() if k in own and own[k].shape != v.shape]
    missing = [k for k in own if k not in given and not (ignored and k.startswith(ignored))]
    left_over = [k for k in given if k not in own]

    knows_losses = any(LOSS_KEYS.search(k) for k in given)
    fatal_missing = [k for k in missing if not _may_be_missing(k, knows_losses)]
    fatal_left_over = [k for k in left_over if not (OPTIONAL_KEYS.search(k) or LOSS_KEYS.search(k))]
    if fatal_missing or other_shape or fatal_left_over:
        shapes = [f"{k} {_shape(given[k])} here {_shape(own[k])}" for k in other_shape]
        raise CheckpointError(
            _misfit(source, fatal_missing, shapes, fatal_left_over, len(own), type(module).__name__)
        )

    matched = [k for k in given if k in own]
    # Parameters on the meta device have no memory to copy into: they are replaced.
    assign = any(own[k].is_meta for k in matched)
    assign |= share and all(given[k].dtype == own[k].dtype for k in matched)
    module.load_state_dict({k: given[k] for k in matched}, strict=False, assign=assign)
    name = source or "state dict"
    logger.info("%s: %d tensors into %s", name, len(matched), type(module).__name__)
    if left_over:
        logger.info("%s: %d entries not needed: %s", name, len(left_over), _listed(left_over))
    if missing:
        logger.info("%s: %d entries start afresh: %s", name, len(missing), _listed(missing))
    asked_away = [k for k in state if k in own and ignored and k.startswith(ignored)]
    reshaped = [k for k in asked_away if own[k].shape != state[k].shape]
    return LoadReport(matched, missing, left_over, reshaped)


def _may_be_missing(key: str, knows_losses: bool) -> bool:
    return bool(OPTIONAL_KEYS.search(key)) or (not knows_losses and bool(LOSS_KEYS.search(key)))


def _misfit(
    source: str,
    missing: list[str],
    other_shape: list[str],
    left_over: list[str],
    expected: int,
    model: str,
) -> str:
    lines = [f"{source or 'state dict'} does not fit this {model} ({expected} tensors):"]
    for what, keys in (
        ("missing from the file", missing),
        ("of another shape", other_shape),
        ("not known to the model", left_over),
    ):
        if keys:
            lines.append(f"  {len(keys)} {what}: {_listed(keys)};")
    lines.append(
        "  check that the configuration belongs to the checkpoint, or name the keys (or their "
        "common beginning) in ignore_keys to leave them out"
    )
    return "\n".join(lines)


def _listed(keys: list[str]) -> str:
    more = f", ... ({len(keys) - SHOWN} more)" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + more


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def tensor_hash(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes; the order of the entries does not matter."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
