"""What is installed: extras that evaluation needs, and judges that come with the bundled model."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("config.yaml", "weights.safetensors")
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
    """Extras, and the data files of a build, of a tree with a judge beside the bundled model."""
    tree = tmp_path_factory.mktemp("tree")
    package = tree / "taming"
    for folder in (package, judge := package / "bundled" / "judges" / "worlds_depth"):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("setup.py", "README.md", "taming/__init__.py", "taming/py.typed"):
        shutil.copyfile(ROOT / name, tree / name)
    for name in FILES:
        (judge / name).touch()
        (package / "bundled" / name).touch()
    code = f"import setuptools\n{ASK}"  # which brings distutils where Python has none
    found = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, check=True)
    return json.loads(found.stdout.splitlines()[-1])


def test_judges_beside_the_bundled_model_are_built_with_it(built: dict[str, Any]) -> None:
    folders = ("taming/bundled", "taming/bundled/judges/worlds_depth")
    assert {f"{folder}/{name}" for folder in folders for name in FILES} <= set(built["files"])


def test_the_extra_of_evaluation_has_all_by_which_models_are_judged(built: dict[str, Any]) -> None:
    extras = {name: set(needed) for name, needed in built["extras"].items()}
    assert extras["people"] | extras["text"] <= extras["eval"]
    assert "torchmetrics" in extras["eval"]
