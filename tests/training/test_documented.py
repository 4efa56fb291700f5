"""docs/training.md names every key of a config, with the default that it has."""

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from taming.data.datamodule import ImageData, SetConfig
from taming.training.codes import Dropping, OrderShares
from taming.training.codes_data import CodesData, CodesSettings
from taming.training.settings import TrainingSettings

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
REQUIRED = "required"
SECTIONS = {
    "training": TrainingSettings,
    "sets": SetConfig,
    "codes": CodesSettings,
    "codes.orders": OrderShares,
    "codes.dropping": Dropping,
}


def documented(section: str) -> dict[str, Any]:
    """The defaults that the table of a section tells, by key."""
    found = re.search(rf"^### `{re.escape(section)}`\n(.*?)(?=^#|\Z)", PAGE, re.M | re.S)
    assert found is not None, f"no table of {section}"
    rows = re.findall(r"^\| `(\w+)` \| (?:`([^`]+)`|required) \| .+ \|$", found[1], re.MULTILINE)
    return {key: yaml.safe_load(default) if default else REQUIRED for key, default in rows}


def as_yaml(default: Any) -> Any:
    """A default as YAML has it; a section that takes all of its own defaults is empty."""
    if dataclasses.is_dataclass(default):
        return {}
    return list(default) if isinstance(default, tuple) else default


def fields(kind: Any) -> dict[str, Any]:
    """The defaults of a dataclass, by name."""
    missing = dataclasses.MISSING
    defaults = {}
    for field in dataclasses.fields(kind):
        made = field.default_factory
        default = field.default if made is missing else made()
        defaults[field.name] = REQUIRED if default is missing else as_yaml(default)
    return defaults


def arguments(build: Any) -> dict[str, Any]:
    """The defaults of a function's arguments, by name."""
    named = [p for p in inspect.signature(build).parameters.values() if p.kind is not p.VAR_KEYWORD]
    return {p.name: REQUIRED if p.default is p.empty else as_yaml(p.default) for p in named}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_of_a_section_has_its_row_and_default(section: str) -> None:
    assert documented(section) == fields(SECTIONS[section])


def test_every_argument_of_the_data_has_its_row_and_default() -> None:
    assert documented("data.params") == {**arguments(ImageData), **arguments(CodesData)}
