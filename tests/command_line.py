"""What tests of the command line share: a pipeline that remembers, a command, what it says."""

from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from taming import cli


class FakePipeline:
    """Remembers each call and answers with one grey picture a seed."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def method(*values: Any, **settings: Any) -> Any:
            self.calls.append((name, values, settings))
            if name == "repaint":
                return Image.new("RGB", (4, 6))
            number = len(settings["seeds"]) if "seeds" in settings else len(values[0])
            return [Image.new("RGB", (4, 6), (40 * i, 0, 0)) for i in range(number)]

        return method


def run(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    return int(ended.value.code or 0)


def spoken(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 1
    return text
