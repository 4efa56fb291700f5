"""What is installed: the bundled model, and the extras that evaluation needs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = {"config.yaml", "weights.safetensors"}
ASK = """
import json
from distutils.core import run_setup
setup = run_setup("setup.py", stop_after="init")
build = setup.get_command_obj("build_py")
build.ensure_finalized()
files = sorted(f"{src}/{name}" for _, src, _, names in build.data_files for name in names)
print(json.dumps({"extras": setup.extras_require, "files": files}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Extras, and the data files of a build, of a tree with a bundled model."""
    tree = tmp_path_factory.mktemp("tree")
    bundled = tree / "taming" / "bundled"
    bundled.mkdir(parents=True)
    for name in ("setup.py", "README.md", "taming/__init__.py", "taming/py.typed"):
        shutil.copyfile(ROOT / name, tree / name)
    for name in FILES:
        (bundled / name).touch()
    code = f"import setuptools\n{ASK}"  # which brings distutils where Python has none
    found = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def test_the_bundled_model_is_built_with_the_package(built: dict[str, Any]) -> None:
    assert {f"taming/bundled/{name}" for name in FILES} <= set(built["files"])


def test_the_extra_of_evaluation_has_all_by_which_models_are_judged(built: dict[str, Any]) -> None:
    extras = {name: set(needed) for name, needed in built["extras"].items()}
    assert extras["people"] | extras["text"] <= extras["eval"]
    assert "torchmetrics" in extras["eval"]
