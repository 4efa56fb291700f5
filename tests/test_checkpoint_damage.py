"""Laws of torch files that are damaged or contradict themselves: one clear error, at once."""

import contextlib
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from taming.checkpoint import CheckpointError, read_state_dict


def state() -> dict[str, Any]:
    return {"state_dict": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4).half()}}


class Place:
    """Pickled as a reference to a storage."""

    def __init__(self, key: str = "0", length: object = 4, kind: type = torch.FloatStorage) -> None:
        self.reference = ("storage", kind, key, "cpu", length)


class Tensor:
    """Pickled as a call that makes a tensor with these arguments."""

    def __init__(self, place: object, offset: object, shape: object, stride: object) -> None:
        self.arguments = (place, offset, shape, stride, False, {})

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, obj: object) -> object:
        return obj.reference if isinstance(obj, Place) else None


def archive(path: Path, content: object, compression: int = zipfile.ZIP_STORED) -> Path:
    """A zip with one storage, "0", of four float32."""
    program = io.BytesIO()
    Pickler(program, protocol=2).dump(content)
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", program.getvalue())
        file.writestr("archive/data/0", np.arange(4, dtype=np.float32).tobytes())
    return path


def test_the_archives_of_these_tests_are_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.ckpt", {"w": Tensor(Place(), 1, (3,), (1,))})
    assert read_state_dict(path)["w"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("tensor", "told"),
    [
        (Tensor(Place(), 0, (5,), (1,)), "beyond its storage"),
        (Tensor(Place(), 4, (1,), (1,)), "beyond its storage"),
        (Tensor(Place(), 0, (2, 2), (3, 1)), "beyond its storage"),
        (Tensor(Place(), 0, (2,), (1 << 62,)), "beyond its storage"),
        (Tensor(Place(), 0, (1 << 40,), (0,)), "beyond its storage"),
        (Tensor(Place(), 1 << 70, (1,), (1,)), "beyond its storage"),
        (Tensor(Place(), -1, (1,), (1,)), "impossible shape"),
        (Tensor(Place(), 0, (-1,), (1,)), "impossible shape"),
        (Tensor(Place(), 0, (2,), (-1,)), "impossible shape"),
        (Tensor(Place(), 0, (2,), (1, 1)), "impossible shape"),
        (Tensor(Place(), 0.0, (2,), (1,)), "impossible shape"),
        (Tensor(Place(), 0, ("2",), (1,)), "impossible shape"),
        (Tensor("storage", 0, (1,), (1,)), "without a storage"),
        (Tensor(Place(length=1 << 50), 0, (1,), (1,)), "a storage is missing"),
        (Tensor(Place(key="../../../etc/passwd"), 0, (1,), (1,)), "a storage is missing"),
        (Tensor(Place(length=-1), 0, (0,), (1,)), "unknown kind"),
        (Tensor(Place(length="4"), 0, (0,), (1,)), "unknown kind"),
        (Tensor(Place(kind=int), 0, (1,), (1,)), "unknown kind"),
    ],
)
def test_tensors_stay_inside_the_file(tmp_path: Path, tensor: Tensor, told: str) -> None:
    with pytest.raises(CheckpointError, match=rf"a\.ckpt cannot be read: .*{told}"):
        read_state_dict(archive(tmp_path / "a.ckpt", {"w": tensor}))


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    content = {"w": Tensor(Place(), 0, (1,), (1,))}
    path = archive(tmp_path / "a.ckpt", content, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="is compressed"):
        read_state_dict(path)


def test_keys_that_take_for_ever_to_hash_are_not_hashed(tmp_path: Path) -> None:
    laughs = b"(" + b"Nt" + b"2\x86" * 200 + b"Nt"  # a tuple of two of a tuple of two of ...
    program = b"\x80\x02}" + laughs[: -len(b"Nt")] + b"Ns."
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as file:
        file.writestr("archive/data.pkl", program)
    with pytest.raises(CheckpointError, match=r"no tensors by name; found <tuple, not read>"):
        read_state_dict(tmp_path / "a.ckpt")


@pytest.mark.parametrize("new", [True, False])
def test_a_file_cut_anywhere_is_one_clear_error(tmp_path: Path, new: bool) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(state(), path, _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 150)):
        path.write_bytes(whole[:length])
        with pytest.raises(
            CheckpointError, match=r"last\.ckpt.*(damaged|not a checkpoint)"
        ) as seen:
            read_state_dict(path)
        assert "\n" not in str(seen.value)


@pytest.mark.parametrize("new", [True, False])
def test_a_file_with_wrong_bytes_is_read_or_refused(tmp_path: Path, new: bool) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(state(), path, _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            read_state_dict(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x80\x04\x95", "damaged"),
        (pickle.dumps({"a": 1}), "not written by torch.save"),
        (b"\x1f\x8b\x08", "not a checkpoint"),
        (b"PK\x05\x06" + bytes(18), "zip archive without data.pkl"),
    ],
)
def test_other_files_say_what_they_are(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "a.ckpt").write_bytes(content)
    with pytest.raises(CheckpointError, match=told):
        read_state_dict(tmp_path / "a.ckpt")


def test_a_whole_module_says_what_it_is(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "a.pt")
    with pytest.raises(
        CheckpointError, match=r"found <torch\.nn\.modules\.linear\.Linear, not read>"
    ):
        read_state_dict(tmp_path / "a.pt")
