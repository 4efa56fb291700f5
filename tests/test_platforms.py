"""Nothing assumes Linux or CUDA: laws read from the source, and what spawned workers need."""

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from taming.data.datamodule import ImageData
from taming.training.published_data import collated

ROOT = Path(__file__).parents[1]
SOURCES = [*sorted((ROOT / "taming").rglob("*.py")), *sorted((ROOT / "benchmarks").rglob("*.py"))]
UNIX_MODULES = {"fcntl", "grp", "pwd", "resource", "termios"}
UNIX_NAMES = {  # of os and signal
    "fork", "forkpty", "getloadavg", "getpriority", "getuid", "killpg", "mkfifo", "nice",
    "sched_getaffinity", "setpriority", "setsid", "uname",
    "SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "alarm", "pause",
}  # fmt: skip
UNIX_PATHS = ("/dev/", "/etc/", "/proc/", "/sys/", "/tmp")
# What runs on the device of a model; MPS has no float64. Conditions are read on the processor.
ON_DEVICE = ("first_stage", "cond_stage", "transformer", "sampling", "painting.py", "pipeline.py")
ON_PROCESSOR = {
    "taming/cond_stage/labels.py",
    "taming/cond_stage/published.py",
    "taming/first_stage/strips.py",  # sums of a whole picture, a number for each channel
    "taming/transformer/prepared.py",  # scales of 8-bit weights, packed for processors alone
}
# Ask the system about itself where it answers, and do without where it does not.
ASKING = ("benchmarks/machine.py", "benchmarks/peak_memory.py")


def nodes(paths: list[Path], kind: type[ast.AST]) -> Iterator[tuple[str, Any]]:
    """(file:line, node) of every node of a kind."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, kind):
                line = getattr(node, "lineno", 0)
                yield f"{path.relative_to(ROOT).as_posix()}:{line}", node


def is_text_mode(call: ast.Call, default: str) -> bool:
    """Whether `open(path, mode)` opens text; a mode that is computed counts as text."""
    mode = next((k.value for k in call.keywords if k.arg == "mode"), None)
    mode = mode or (call.args[1] if len(call.args) > 1 else ast.Constant(default))
    value = mode.value if isinstance(mode, ast.Constant) else ""
    return "b" not in str(value) and (default != "rb" or "t" in str(value))


def lacks_encoding(call: ast.Call) -> bool:
    name, owner = ast.unparse(call.func).rpartition(".")[2], ast.unparse(call.func)
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    if name in ("read_text", "write_text"):
        return len(call.args) < (1 if name == "read_text" else 2)
    if owner in ("gzip.open", "bz2.open", "lzma.open"):
        return is_text_mode(call, default="rb")
    return owner == "open" and is_text_mode(call, default="r")


def test_every_text_file_names_its_encoding() -> None:
    """Windows would take its own code page, and break on the first name that is not English."""
    assert [place for place, call in nodes(SOURCES, ast.Call) if lacks_encoding(call)] == []


@pytest.mark.parametrize(
    "text", ["p.read_text()", "p.write_text(x)", "open(p)", "open(p, 'w')", "gzip.open(p, 'rt')"]
)
def test_a_missing_encoding_is_seen(text: str) -> None:
    (call,) = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    assert lacks_encoding(call)


@pytest.mark.parametrize(
    "text", ["open(p, 'rb')", "gzip.open(p)", "Image.open(p)", "d.read_text(n)"]
)
def test_bytes_need_no_encoding(text: str) -> None:
    (call,) = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    assert not lacks_encoding(call)


def test_no_name_that_only_unix_has() -> None:
    found = [
        f"{place} {node.attr}"
        for place, node in nodes(SOURCES, ast.Attribute)
        if node.attr in UNIX_NAMES and ast.unparse(node.value) in ("os", "signal")
    ]
    for place, node in nodes(SOURCES, ast.Import):
        found += [f"{place} {a.name}" for a in node.names if a.name in UNIX_MODULES]
    assert [each for each in found if not each.startswith(ASKING)] == []


def test_no_path_that_only_unix_has() -> None:
    found = [
        f"{place} {node.value}"
        for place, node in nodes(SOURCES, ast.Constant)
        if isinstance(node.value, str) and node.value.startswith(UNIX_PATHS)
    ]
    assert [each for each in found if not each.startswith(ASKING)] == []


def test_no_float64_on_the_device_of_a_model() -> None:
    paths = [path for path in SOURCES if path.relative_to(ROOT).parts[1] in ON_DEVICE]
    assert len(paths) > 30
    found = [
        (place, ast.unparse(node))
        for place, node in nodes(paths, ast.Attribute)
        if node.attr == "double" or ast.unparse(node) in ("torch.float64", "torch.double")
    ]
    assert [pair for pair in found if pair[0].split(":")[0] not in ON_PROCESSOR] == []


def test_no_tensor_is_put_on_cuda_by_name() -> None:
    """A device is given, or asked of a tensor; `device.type == "cuda"` only asks."""
    found = []
    for place, call in nodes(SOURCES, ast.Call):
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        names = [value.value for value in values if isinstance(value, ast.Constant)]
        named = any(isinstance(name, str) and name.startswith("cuda") for name in names)
        is_method = isinstance(call.func, ast.Attribute) and call.func.attr == "cuda"
        if (named and not place.startswith("taming/doctor.py")) or is_method:
            found.append(place)
    assert found == []


def test_what_a_loader_hands_to_spawned_workers_can_be_pickled(tmp_path: Path) -> None:
    """Windows and macOS start workers afresh, and send them the set, the collation, the setup."""
    for number in range(4):
        Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(tmp_path / f"{number}.png")
    data = ImageData(sets=[str(tmp_path)], size=16, batch_size=2, num_workers=0)
    data.setup("fit")
    loader: Any = data.train_dataloader()
    sent = (loader.dataset, loader.collate_fn, loader.worker_init_fn)
    received = pickle.loads(pickle.dumps(sent))
    assert len(received[0]) == len(loader.dataset) == 4


def test_published_batches_hold_no_float64() -> None:
    """Python's floats and NumPy's would otherwise arrive as such, and MPS refuses them."""
    sample = {"coord": np.zeros((2, 2, 1)), "score": 0.5, "image": np.zeros(3, np.float32), "n": 1}
    batch = collated([sample, sample])
    kinds = {key: value.dtype for key, value in batch.items()}
    assert kinds == {
        "coord": torch.float32,
        "score": torch.float32,
        "image": torch.float32,
        "n": torch.int64,
    }
