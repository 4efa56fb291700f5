"""Files of `torch.save` without running what they ask for: tensors and plain values, nothing else.

A pickle is a program: it names functions and has them called. Old checkpoints name many, since
Lightning 1.0 wrote classes as keys of dictionaries and objects of whatever a script kept with its
weights. Here a name stays a `Name`, a word that cannot be called; where the program calls one, a
few functions of this module stand for those of PyTorch, and everything else becomes an `Unread`.
Opcodes that are not listed here are refused, so that a later Python adds none.

Both layouts are read: the zip archive (since PyTorch 1.6) and the pickles in a row before it.
Tensors are `StoredTensor`s until they are asked for, views of a private map of the file then: the
optimiser's share of a file is never read. Knows nothing of models.

Layouts: torch/serialization.py (`_save`, `_legacy_save`). Opcodes: Lib/pickletools.py.
"""

import io
import mmap
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older layout
STORAGES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
    "UntypedStorage": torch.uint8,
}
# A view may repeat what is stored (stride 0), but a small file does not ask for all memory.
LARGEST_REPEAT = 1 << 28


class Refused(pickle.UnpicklingError):
    """The file asks for what no tensor needs, or contradicts itself."""


def read_torch(path: Path) -> Any:
    """What a file of `torch.save` holds, with a `StoredTensor` for every tensor.

    Objects of any other kind are `Unread`, classes and functions are `Name`s. A damaged file
    raises whatever its damage leads to.
    """
    with open(path, "rb") as file:
        # A private copy: writing to a tensor changes memory, never the file.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return _read_zip(path, mapped) if mapped[:2] == b"PK" else _read_row(mapped)


# --- what a file holds ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Name:
    """A class or function that the file names; nothing was imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Unread:
    """Stands for an object of a kind that is not read. What the file says of it is dropped."""

    def __init__(self, kind: object) -> None:
        self.kind = str(kind) if isinstance(kind, Name) else type(kind).__name__

    def __repr__(self) -> str:
        return f"<{self.kind}, not read>"


class Storage:
    """A run of `length` entries of one type in a file; `start` is set as soon as it is known."""

    def __init__(self, mapped: mmap.mmap, dtype: torch.dtype, length: int) -> None:
        self.mapped = mapped
        self.dtype = dtype
        self.length = length
        self.start: int | None = None
        self._bytes: Tensor | None = None  # shared by all tensors of this storage

    @property
    def size(self) -> int:
        """In bytes."""
        return self.length * self.dtype.itemsize

    def entries(self, dtype: torch.dtype) -> Tensor:
        """(length,), or as many entries of another type as the bytes hold."""
        if self._bytes is None:
            if self.start is None or self.start + self.size > len(self.mapped):
                raise Refused("a storage is missing or reaches beyond the end of the file")
            if self.size == 0:  # a buffer of nothing is refused
                self._bytes = torch.empty(0, dtype=torch.uint8)
            else:
                self._bytes = torch.frombuffer(
                    self.mapped, dtype=torch.uint8, count=self.size, offset=self.start
                )
            if self.start % self.dtype.itemsize:  # older files align nothing
                self._bytes = self._bytes.clone()
        return self._bytes.view(dtype)


class StoredTensor:
    """A tensor that is still in the file."""

    def __init__(
        self,
        storage: Storage,
        offset: int,
        shape: tuple[int, ...],
        stride: tuple[int, ...],
        dtype: torch.dtype | None = None,
    ) -> None:
        numbers = (offset, *shape, *stride)
        if not all(type(n) is int and n >= 0 for n in numbers) or len(shape) != len(stride):
            raise Refused("a tensor of impossible shape")
        self.storage, self.offset, self.shape, self.stride = storage, offset, shape, stride
        self.dtype = dtype or storage.dtype
        length = storage.size // self.dtype.itemsize
        last = offset + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        if (0 not in shape and last >= length) or prod(shape) > max(length, LARGEST_REPEAT):
            raise Refused("a tensor reaches beyond its storage")

    def load(self) -> Tensor:
        """The tensor, in memory that is shared with others as it was when it was saved."""
        return self.storage.entries(self.dtype).as_strided(self.shape, self.stride, self.offset)


# --- the machine ----------------------------------------------------------------------------------

# Opcodes that only move plain values about, or go through a method that stands below.
KEPT = (
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "NONE", "NEWTRUE", "NEWFALSE",
    "INT", "LONG", "LONG1", "LONG4", "BININT", "BININT1", "BININT2", "FLOAT", "BINFLOAT", "STRING",
    "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "TUPLE", "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "LIST", "EMPTY_LIST", "EMPTY_DICT", "PUT", "BINPUT", "LONG_BINPUT", "GET", "BINGET",
    "LONG_BINGET", "MEMOIZE", "GLOBAL", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4", "PERSID",
    "BINPERSID", "INST", "OBJ",
)  # fmt: skip
REPLACED = (
    "REDUCE", "NEWOBJ", "NEWOBJ_EX", "BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "DICT",
    "EMPTY_SET", "ADDITEMS", "FROZENSET",
)  # fmt: skip


class TensorUnpickler(pickle._Unpickler):
    """Python's own machine in Python, with the opcodes that act replaced by ones that do not.

    Nothing on its stack can be called: `find_class` gives words, and calls go by those words.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: Any, mapped: mmap.mmap) -> None:
        super().__init__(file, encoding="latin1")  # Python 2's bytes, whatever they say
        self.mapped = mapped
        self.storages: dict[str, Storage] = {}

    # --- words ---

    def find_class(self, module: str, name: str) -> Name:
        return Name(str(module), str(name))

    def get_extension(self, code: int) -> None:
        self.append(Name("copyreg", f"extension {code}"))

    def persistent_load(self, pid: Any) -> Any:
        """("storage", kind, key, device, length[, view]); whatever else is no tensor."""
        if not isinstance(pid, tuple) or pid[:1] != ("storage",):
            return Unread(pid)
        kind, key, _, length, *view = pid[1:]
        dtype = STORAGES.get(kind.name) if isinstance(kind, Name) else None
        if dtype is None or type(length) is not int or length < 0 or view not in ([], [None]):
            raise Refused(f"a storage of unknown kind ({kind})")
        return self.storages.setdefault(str(key), Storage(self.mapped, dtype, length))

    # --- calls ---

    def _call(self, function: object, arguments: object) -> Any:
        build = BUILDERS.get(function) if isinstance(function, Name) else None
        if build is None or not isinstance(arguments, tuple):
            return Unread(function)
        return build(*arguments)

    def _instantiate(self, kind: object, arguments: object) -> None:  # of INST and OBJ
        self.append(Unread(kind))

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], arguments)

    load_newobj = load_reduce

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_reduce()

    def load_build(self) -> None:
        self.stack.pop()  # the state of an object: attributes of dictionaries, or of what is Unread

    # --- collections: only those that this machine made ---

    def load_append(self) -> None:
        self._extend([self.stack.pop()])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    def _extend(self, values: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            self.stack[-1].extend(values)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._update([key, value])

    def load_setitems(self) -> None:
        self._update(self.pop_mark())

    def load_dict(self) -> None:
        pairs = self.pop_mark()
        self.append({})
        self._update(pairs)

    def _update(self, pairs: list[Any]) -> None:
        if isinstance(self.stack[-1], dict):
            pairs = list(zip(pairs[::2], pairs[1::2], strict=True))
            self.stack[-1].update(_dictionary(pairs))

    def load_empty_set(self) -> None:
        self.append(Unread(set()))

    def load_additems(self) -> None:
        self.pop_mark()

    def load_frozenset(self) -> None:
        self.pop_mark()
        self.load_empty_set()


def _code(opcode: str) -> int:
    return getattr(pickle, opcode)[0]


TensorUnpickler.dispatch = {
    **{_code(op): pickle._Unpickler.dispatch[_code(op)] for op in KEPT},
    **{_code(op): getattr(TensorUnpickler, f"load_{op.lower()}") for op in REPLACED},
}


def _dictionary(pairs: Iterable[Any] = ()) -> dict[Any, Any]:
    """Keys that hash at once; a tuple of tuples of tuples may take for ever."""
    plain = (str, bytes, int, float, type(None), Name, Unread, StoredTensor)
    return {key if isinstance(key, plain) else Unread(key): value for key, value in pairs}


def _tensor(storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    """Whether it wants gradients, and its hooks, are not read."""
    if not isinstance(storage, Storage):
        raise Refused("a tensor without a storage")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))


def _tensor_of_type(
    storage: Any,
    offset: Any,
    shape: Any,
    stride: Any,
    _gradient: Any,
    _hooks: Any,
    kind: Any,
    *_: Any,
) -> Any:
    """Types that have no storage of their own name, such as float8."""
    dtype = getattr(torch, kind.name, None) if isinstance(kind, Name) else None
    if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
        raise Refused(f"a tensor of unknown type {kind}")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride), dtype)


def _of_subclass(function: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """A subclass of Tensor is read as a tensor."""
    build = BUILDERS.get(function)
    return Unread(function) if build is None else build(*arguments)


def _first(value: Any = (), *_: Any) -> Any:
    return value


# What may be called, by name, and what is called instead.
BUILDERS: dict[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): _dictionary,
    Name("torch", "Size"): _first,
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v3"): _tensor_of_type,
    Name("torch._utils", "_rebuild_parameter"): _first,
    Name("torch._utils", "_rebuild_parameter_with_state"): _first,
    Name("torch._tensor", "_rebuild_from_type_v2"): _of_subclass,
}


# --- the two layouts ------------------------------------------------------------------------------


def _read_zip(path: Path, mapped: mmap.mmap) -> Any:
    """archive/data.pkl is the program, archive/data/KEY the bytes of a storage."""
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    program = next((name for name in entries if PurePosixPath(name).name == "data.pkl"), None)
    if program is None:
        raise Refused(f"a zip archive without data.pkl (it holds {', '.join(list(entries)[:3])})")
    prefix = program.removesuffix("data.pkl")
    if order := entries.get(f"{prefix}byteorder"):
        start, size = _extent(mapped, order)
        _check_order(mapped[start : start + size] == b"little")
    start, size = _extent(mapped, entries[program])
    machine = TensorUnpickler(io.BytesIO(mapped[start : start + size]), mapped)
    content = machine.load()
    for key, storage in machine.storages.items():
        entry = entries.get(f"{prefix}data/{key}")
        if entry is not None:
            start, size = _extent(mapped, entry)
            storage.start = start if size >= storage.size else None
    return content


def _extent(mapped: mmap.mmap, entry: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of an entry begin, and how many they are."""
    if entry.compress_type != zipfile.ZIP_STORED:
        raise Refused(f"{entry.filename} is compressed, as PyTorch never does")
    header = mapped[entry.header_offset : entry.header_offset + 30]
    name, extra = struct.unpack("<HH", header[26:])
    return entry.header_offset + 30 + name + extra, entry.file_size


def _read_row(mapped: mmap.mmap) -> Any:
    """Pickles of a magic number, a version, the machine, the content, the keys; then storages."""
    mapped.seek(0)
    if TensorUnpickler(mapped, mapped).load() != MAGIC:
        raise Refused("a pickle that was not written by torch.save")
    TensorUnpickler(mapped, mapped).load()
    _check_order(TensorUnpickler(mapped, mapped).load()["little_endian"])
    machine = TensorUnpickler(mapped, mapped)
    content = machine.load()
    keys = TensorUnpickler(mapped, mapped).load()
    place = mapped.tell()
    for key in keys:
        storage = machine.storages[key]
        (length,) = struct.unpack("<q", mapped[place : place + 8])
        if length != storage.length:
            raise Refused(f"a storage of {storage.length} entries says it has {length}")
        storage.start = place + 8
        place = storage.start + storage.size
    if place > len(mapped):
        raise EOFError(f"{place - len(mapped)} bytes are missing at its end")
    return content


def _check_order(little: bool) -> None:
    if little != (sys.byteorder == "little"):
        raise Refused("numbers in the byte order of another kind of machine")
