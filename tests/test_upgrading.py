"""UPGRADING.md tells the truth: paths exist, commands exist, and nothing old is left out."""

import importlib
import re
from pathlib import Path

import pytest
import typer

from taming import _old_paths, cli

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "UPGRADING.md").read_text("utf-8")
SPANS = re.findall(r"`([^`\n]+)`", PAGE)
PATHS = sorted({s for s in SPANS if re.fullmatch(r"taming(\.\w+)+", s)})
COMMANDS = sorted({m[1] for s in SPANS if (m := re.match(r"taming ([a-z]+)", s))})
SCRIPTS = [
    "extract_depth",
    "extract_segmentation",
    "extract_submodel",
    "main",
    "make_samples",
    "make_scene_samples",
    "sample_conditional",
    "sample_fast",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_a_module_or_a_name_in_one(path: str) -> None:
    parent, _, name = path.rpartition(".")
    try:
        importlib.import_module(path)
    except ModuleNotFoundError:
        assert hasattr(importlib.import_module(parent), name)


@pytest.mark.parametrize("module", sorted(m for m, names in _old_paths.OLD_PATHS.items() if names))
def test_every_old_module_has_its_row(module: str) -> None:
    assert re.search(rf"^\|[^|]*`{module}(\.\w+)?`", PAGE, re.MULTILINE)


@pytest.mark.parametrize(
    "row", re.findall(r"^\| `(taming\.[\w.]+)`: (.+?) \| `([\w.]+)` \|", PAGE, re.M)
)
def test_the_names_of_a_row_are_in_their_new_home(row: tuple[str, str, str]) -> None:
    old, names, new = row
    for name in re.findall(r"`(\w+)`", names):
        assert _old_paths.OLD_PATHS[old][name] == f"{new}:{name}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_exists(command: str) -> None:
    assert command in vars(typer.main.get_command(cli.app))["commands"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_old_script_has_its_row(script: str) -> None:
    assert re.search(rf"^\| `(scripts/)?{script}\.py` \| .*`taming \w+", PAGE, re.MULTILINE)


def test_every_variable_is_read_somewhere() -> None:
    sources = "".join(p.read_text("utf-8") for p in (ROOT / "taming").rglob("*.py"))
    for name in re.findall(r"TAMING_\w+", PAGE):
        assert f'"{name}"' in sources
