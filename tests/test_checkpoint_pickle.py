"""Laws of old checkpoints: their tensors are read, and nothing that they ask for is done."""

import collections
import io
import os
import pickle
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from taming.checkpoint import read_state_dict
from taming.checkpoint_pickle import TensorUnpickler, Unread, read_torch

LAYOUTS = {"zip": True, "row": False}


@pytest.fixture(params=LAYOUTS)
def save(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Any], Path]:
    """`torch.save` in the layout of today and in that before PyTorch 1.6."""

    def write(content: Any) -> Path:
        path = tmp_path / "last.ckpt"
        new = LAYOUTS[request.param]
        torch.save(content, path, _use_new_zipfile_serialization=new)
        assert (path.read_bytes()[:2] == b"PK") == new
        return path

    return write


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {"a": torch.randn(3, 2), "b": torch.arange(5)}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[k].dtype == second[k].dtype and torch.equal(first[k], second[k]) for k in first
    )


# --- tensors --------------------------------------------------------------------------------------


TYPES = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"


@pytest.mark.parametrize("name", TYPES.split())
def test_types_survive(save, name: str) -> None:
    dtype = getattr(torch, name)
    # A byte in front leaves nothing aligned in the older layout.
    state = {"byte": torch.ones(1, dtype=torch.uint8), "t": torch.tensor([0, 1, 1]).to(dtype)}
    assert same(read_state_dict(save(state)), state)


def test_types_without_a_storage_of_their_own_survive(save) -> None:
    state = {"t": torch.tensor([0.5, -2.0]).to(torch.float8_e4m3fn), "u": torch.ones(2).char()}
    assert torch.equal(read_state_dict(save(state))["t"].float(), state["t"].float())


def test_shapes_and_strides_survive(save) -> None:
    base = torch.arange(24.0).reshape(2, 3, 4)
    state = {
        "turned": base.permute(2, 0, 1),
        "part": base[1, 1:, ::2],
        "repeated": torch.ones(1).expand(7),
        "scalar": torch.tensor(3.0),
        "empty": torch.empty(0, 4),
    }
    read = read_state_dict(save(state))
    assert same(read, state)
    assert {k: v.stride() for k, v in read.items()} == {k: v.stride() for k, v in state.items()}


def test_tensors_that_shared_memory_share_it_again(save) -> None:
    base = torch.zeros(4)
    read = read_state_dict(save({"whole": base, "tail": base[2:], "alias": base}))
    read["whole"].fill_(7)
    assert read["alias"].tolist() == [7] * 4
    assert read["tail"].tolist() == [7] * 2


def test_writing_to_a_tensor_leaves_the_file_alone(save) -> None:
    path = save(weights())
    before = path.read_bytes()
    read_state_dict(path)["a"].fill_(7)
    assert path.read_bytes() == before


def test_parameters_are_read_as_tensors(save) -> None:
    module = torch.nn.Linear(2, 3)
    read = read_state_dict(save(dict(module.named_parameters())))
    assert same(read, dict(module.state_dict()))
    assert not read["weight"].requires_grad


def test_a_tensor_that_nobody_asks_for_is_not_read(save) -> None:
    content = read_torch(save({"state_dict": weights(), "optimizer_states": [{0: torch.ones(9)}]}))
    assert content["optimizer_states"][0][0].storage._bytes is None
    assert content["state_dict"]["a"].load().shape == (3, 2)


# --- what Lightning 1.0 wrote ---------------------------------------------------------------------


def lightning(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A file's content with the objects of libraries that nobody has any more."""
    library = types.ModuleType("pytorch_lightning_of_old")
    for kind in (type("ModelCheckpoint", (), {}), type("AttributeDict", (dict,), {})):
        kind.__module__ = library.__name__
        setattr(library, kind.__name__, kind)
    monkeypatch.setitem(sys.modules, library.__name__, library)
    hyper = library.AttributeDict(lr=4.5e-6)
    hyper.seed = 3
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return {
        "epoch": 7,
        "global_step": 4001,
        "pytorch-lightning_version": "1.0.8",
        "callbacks": {library.ModelCheckpoint: {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "state_dict": module.state_dict(),  # an OrderedDict with an attribute
        "hparams_type": library.AttributeDict,
        "hyper_parameters": hyper,
        "arguments": types.SimpleNamespace(gpus="0,", path=Path("logs"), kinds={1, 2}),
        "scores": collections.defaultdict(list, loss=[0.1]),
    }


def test_files_of_old_lightning_load_without_it(save, monkeypatch: pytest.MonkeyPatch) -> None:
    content = lightning(monkeypatch)
    path = save(content)
    monkeypatch.delitem(sys.modules, "pytorch_lightning_of_old")
    assert same(read_state_dict(path), dict(content["state_dict"]))
    read = read_torch(path)
    assert (read["epoch"], read["global_step"]) == (7, 4001)
    (key,) = read["callbacks"]
    assert str(key) == "pytorch_lightning_of_old.ModelCheckpoint"
    assert repr(read["arguments"]) == "<types.SimpleNamespace, not read>"


def test_nothing_that_a_file_names_is_imported(
    save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "module_beside_the_file"
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    kind = type("Kind", (), {"__module__": name})
    monkeypatch.setattr(sys.modules[name], "Kind", kind, raising=False)
    path = save({"w": torch.ones(1), kind: 1})
    (tmp_path / f"{name}.py").write_text("class Kind: pass", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, name)
    assert list(read_state_dict(path)) == ["w"]
    assert name not in sys.modules


# --- what an attacker writes ----------------------------------------------------------------------


def reducing(*reduced: Any) -> Any:
    """An object whose pickle asks for this call."""

    class Attack:
        def __reduce__(self) -> Any:
            return reduced

        def __call__(self) -> None:
            """Only what can be called may stand in front of arguments."""

    return Attack()


def attacks(target: Path) -> dict[str, Any]:
    """Objects whose loading by `pickle` would create `target`."""
    command = f"open({str(target)!r}, 'w')"
    module = reducing(__import__, ("os",))
    return {
        "eval": reducing(eval, (command,)),
        "exec": reducing(exec, (command,)),
        "open": reducing(open, (str(target), "w")),
        "os.system": reducing(os.system, (f"touch {target}",)),
        "subprocess": reducing(subprocess.Popen, (["touch", str(target)],)),
        "getattr chain": reducing(reducing(getattr, (module, "system")), (f"touch {target}",)),
        "torch.load": reducing(torch.load, (str(target),)),
        "state": reducing(collections.OrderedDict, (), {"__class__": reducing(eval, (command,))}),
        "items": reducing(list, (), None, iter([reducing(eval, (command,))])),
        "pairs": reducing(dict, (), None, None, iter([(1, reducing(eval, (command,)))])),
        "hooks": reducing(
            torch._utils._rebuild_tensor_v2,
            (
                torch.zeros(1).untyped_storage(),
                0,
                (1,),
                (1,),
                False,
                reducing(eval, (command,)),
            ),
        ),
        "subclass": reducing(
            torch._tensor._rebuild_from_type_v2, (eval, torch.Tensor, (command,), {})
        ),
    }


NAMES = sorted(attacks(Path("x")))


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_is_not_carried_out(save, tmp_path: Path, name: str) -> None:
    target = tmp_path / "sprung"
    path = save({"state_dict": weights(), "extra": attacks(target)[name]})
    assert same(read_state_dict(path), weights())
    assert not target.exists()


@pytest.mark.parametrize("name", ["eval", "state", "items", "pairs", "hooks", "getattr chain"])
def test_the_attacks_are_real(tmp_path: Path, name: str) -> None:
    target = tmp_path / "sprung"
    path = tmp_path / "last.ckpt"
    torch.save({"extra": attacks(target)[name]}, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.load(path, weights_only=False)
    assert target.exists()


def program(*parts: bytes) -> Any:
    """What a hand-written pickle leaves; its last word is STOP."""
    return TensorUnpickler(io.BytesIO(b"".join(parts) + b"."), None).load()  # type: ignore[arg-type]


EVAL = b"cbuiltins\neval\n"
COMMAND = b"Vopen('sprung', 'w')\n"


@pytest.mark.parametrize(
    "parts",
    [
        (EVAL, b"(", COMMAND, b"tR"),  # REDUCE
        (b"(", COMMAND, b"ibuiltins\neval\n"),  # INST
        (b"(", EVAL, COMMAND, b"o"),  # OBJ
        (EVAL, b"(", COMMAND, b"t\x81"),  # NEWOBJ
        (EVAL, b"(", COMMAND, b"t}\x92"),  # NEWOBJ_EX
        (b"\x8c\x08builtins\x8c\x04eval\x93(", COMMAND, b"tR"),  # STACK_GLOBAL
        (b"\x82\x01(", COMMAND, b"tR"),  # EXT1
        (EVAL, COMMAND, b"b"),  # BUILD of a function
        (EVAL, COMMAND, b"a"),  # APPEND to a function
        (EVAL, COMMAND, COMMAND, b"s"),  # SETITEM of a function
        (EVAL, b"(", COMMAND, b"\x90"),  # ADDITEMS to a function
        (b"Vsprung\nQ",),  # BINPERSID
        (b"Psprung\n",),  # PERSID
    ],
)  # fmt: skip
def test_no_opcode_runs_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parts) -> None:
    monkeypatch.chdir(tmp_path)
    pickle._inverted_registry[1] = ("builtins", "eval")  # type: ignore[attr-defined]
    try:
        left = program(*parts)
    finally:
        del pickle._inverted_registry[1]  # type: ignore[attr-defined]
    assert isinstance(left, Unread) or not callable(left)
    assert not (tmp_path / "sprung").exists()


def test_every_opcode_is_either_listed_or_refused() -> None:
    """A new opcode of a later Python is none of ours before somebody has looked at it."""
    refused = set(pickle._Unpickler.dispatch) - set(TensorUnpickler.dispatch)  # type: ignore[attr-defined]
    known = {pickle.BYTEARRAY8[0], pickle.NEXT_BUFFER[0], pickle.READONLY_BUFFER[0]}
    assert refused == known
