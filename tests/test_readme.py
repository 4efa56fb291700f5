"""What the documentation shows is what the program accepts: commands parse, names exist."""

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import taming
from taming import cli
from taming.cond_stage import CONDITIONS
from taming.config import from_mapping, get_obj_from_str
from taming.training.settings import TrainingSettings

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "UPGRADING.md",
    *sorted((ROOT / "data").glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^]]*\]\(([^)#\s]+)[^)]*\)")


def blocks(language: str) -> list[Any]:
    """One pytest parameter a code block of that language."""
    return [
        pytest.param(text, id=f"{page.relative_to(ROOT)}-{i}")
        for page in PAGES
        for i, (kind, text) in enumerate(BLOCK.findall(page.read_text("utf-8")))
        if kind == language
    ]


def commands(text: str) -> Iterator[list[str]]:
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def check_taming(words: list[str]) -> None:
    group = vars(typer.main.get_command(cli.app))["commands"]
    name, *rest = cli.modern_words(words).words
    assert name in group
    group[name].make_context(name, list(rest))
    for word in rest:
        assert not word.startswith("configs/") or (ROOT / word).is_file(), word


def check_make(words: list[str]) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert {word for word in words if "=" not in word} <= set(targets)


def check_pip(words: list[str]) -> None:
    setup = (ROOT / "setup.py").read_text("utf-8")
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(words)):
        for extra in extras.split(","):
            assert f'"{extra}": [' in setup, extra


def check_module(words: list[str]) -> None:
    flag, module = words[:2]
    assert flag == "-m"
    assert importlib.util.find_spec(module) is not None


CHECKS = {"taming": check_taming, "make": check_make, "pip": check_pip, "python": check_module}


@pytest.mark.parametrize("text", blocks("bash"))
def test_commands_parse(text: str) -> None:
    for program, *rest in commands(text):
        if program in CHECKS:
            CHECKS[program](rest)


@pytest.mark.parametrize("text", blocks("python"))
def test_python_compiles_and_its_names_exist(text: str) -> None:
    tree = ast.parse(text)
    pipelines = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [a.name for a in node.names if not hasattr(module, a.name)] == []
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "taming":
            assert hasattr(taming, node.attr), node.attr
        elif isinstance(node, ast.Assign) and "load(" in ast.unparse(node.value):
            pipelines |= {ast.unparse(target) for target in node.targets}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value) in pipelines
        ):
            check_call(node, node.func.attr)


def check_call(call: ast.Call, name: str) -> None:
    """The method of the pipeline exists and takes these arguments."""
    signature = inspect.signature(getattr(taming.Pipeline, name))
    keywords = [keyword.arg for keyword in call.keywords if keyword.arg is not None]
    signature.bind(None, *call.args, **dict.fromkeys(keywords))
    shared = inspect.signature(taming.Pipeline.paint).parameters  # what **options may hold
    known = set(signature.parameters) | set(shared) | set(CONDITIONS)
    assert set(keywords) <= known


def objects(section: Any) -> Iterator[dict[str, Any]]:
    """Every section with a target, however deep."""
    if isinstance(section, dict):
        if "target" in section:
            yield section
        section = list(section.values())
    if isinstance(section, list):
        for value in section:
            yield from objects(value)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_configs_name_what_exists(text: str) -> None:
    config = yaml.safe_load(text)
    from_mapping(TrainingSettings, config.get("training"), "training")
    for section in objects(config):
        build = get_obj_from_str(section["target"])
        params = inspect.signature(build).parameters
        if not any(p.kind is p.VAR_KEYWORD for p in params.values()):
            assert set(section.get("params") or {}) <= set(params), section["target"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = [link for link in LINK.findall(page.read_text("utf-8")) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
