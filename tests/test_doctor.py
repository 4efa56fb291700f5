"""`taming doctor` names what is missing, what is broken and who else owns files of ours."""

import base64
import hashlib
import io
import json
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from taming import cli, doctor
from taming.doctor import Finding
from taming.training import settings

ROOT = Path(__file__).parents[1]


def install(
    site: Path,
    name: str,
    files: dict[str, str] | None = None,
    requires: tuple[str, ...] = (),
) -> metadata.Distribution:
    """Lays files and metadata into `site` as pip does."""
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"]
    lines += [f"Requires-Dist: {each}\n" for each in requires]
    (info / "METADATA").write_text("".join(lines), encoding="utf-8")
    records = []
    for path, content in (files or {}).items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content, encoding="utf-8")
        digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).decode()
        records.append(f"{path},sha256={digest.rstrip('=')},{len(content)}\n")
    (info / "RECORD").write_text("".join(records), encoding="utf-8")
    return metadata.Distribution.at(info)


def test_a_second_owner_is_a_problem_and_the_remedy_names_it(tmp_path: Path) -> None:
    install(tmp_path, "taming", {"taming/__init__.py": ""})
    install(tmp_path, "taming-transformers-rom1504", {"taming/util.py": "", "other/a.py": ""})
    (found,) = doctor.owners(metadata.distributions(path=[str(tmp_path)]))
    assert found.is_problem
    assert found.subject == "taming-transformers-rom1504"
    assert "1 files" in found.note
    assert "pip uninstall taming-transformers-rom1504" in found.note
    assert found.note.endswith("--no-deps -e . (in the checkout of taming)")


@pytest.mark.parametrize("is_editable", [True, False])
def test_what_is_installed_anew_comes_from_where_it_came(tmp_path: Path, is_editable: bool) -> None:
    """The name alone fetches whatever an index calls so."""
    own = install(tmp_path, "taming", {"taming/a.py": "ours"})
    checkout = tmp_path / "my checkout"
    origin = {"url": checkout.as_uri(), "dir_info": {"editable": is_editable}}
    (tmp_path / "taming-1.0.dist-info" / "direct_url.json").write_text(json.dumps(origin))
    (tmp_path / "taming/a.py").unlink()
    (found,) = doctor.changed_files(own)
    assert found.note.endswith(f'--no-deps {"-e " * is_editable}"{checkout}"')


def test_the_own_distribution_and_strangers_are_no_problem(tmp_path: Path) -> None:
    install(tmp_path, "Taming", {"taming/__init__.py": ""})
    install(tmp_path, "taming-of-the-shrew", {"tamingly/a.py": "", "shrew/taming/b.py": ""})
    (found,) = doctor.owners(metadata.distributions(path=[str(tmp_path)]))
    assert not found.is_problem


def test_a_file_written_over_is_a_problem(tmp_path: Path) -> None:
    own = install(tmp_path, "taming", {"taming/a.py": "ours", "taming/b.py": "", "c.py": ""})
    assert doctor.changed_files(own) == []
    (tmp_path / "taming/a.py").write_text("theirs", encoding="utf-8")
    (tmp_path / "c.py").unlink()  # not in the package
    (found,) = doctor.changed_files(own)
    assert found.is_problem
    assert found.value == "1 files"
    assert "taming/a.py" in found.note


def test_a_file_removed_is_a_problem(tmp_path: Path) -> None:
    own = install(tmp_path, "taming", {"taming/a.py": "ours"})
    (tmp_path / "taming/a.py").unlink()
    assert [finding.is_problem for finding in doctor.changed_files(own)] == [True]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    versions: dict[str, str] = {}
    monkeypatch.setattr(doctor, "_version", versions.get)
    return versions


def test_a_base_package_must_be_there_in_a_version_that_fits(
    tmp_path: Path, installed: dict[str, str]
) -> None:
    own = install(
        tmp_path, "taming", requires=("torch>=2.5", "rich", "numpy<3", "h5py; extra == 'train'")
    )
    installed.update(torch="2.4.1", numpy="2.0")
    torch_, rich, numpy = doctor.requirements(own)
    assert (torch_.value, torch_.is_problem) == ("2.4.1", True)
    assert 'pip install "torch>=2.5"' in torch_.note
    assert (rich.value, rich.is_problem) == ("missing", True)
    assert (numpy.value, numpy.is_problem) == ("2.0", False)


def test_a_missing_extra_is_named_with_its_command_and_is_no_problem(
    tmp_path: Path, installed: dict[str, str]
) -> None:
    own = install(
        tmp_path, "taming", requires=("rich", "h5py; extra == 'train'", "litdata; extra == 'train'")
    )
    installed.update(h5py="3.0")
    train = doctor.extras(own)[0]
    assert train.value == "missing: litdata"
    assert 'pip install "taming[train]"' in train.note
    assert not train.is_problem


def test_every_extra_has_a_purpose() -> None:
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    block = text.split("EXTRAS = {")[1].split("\n}")[0]
    assert set(re.findall(r'^    "(\w+)": \[', block, re.MULTILINE)) == set(doctor.EXTRAS)


def test_a_pytorch_that_does_not_import_is_a_problem_not_a_crash(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert [f.subject for f in doctor.processor() if f.is_problem] == ["PyTorch"]
    assert doctor.devices() == []


def test_a_pytorch_that_does_not_know_an_instruction_set_counts_as_no(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not settings.has_bf16_units(torch.device("cpu"))


@pytest.mark.parametrize("instructions", [doctor.AMX, doctor.AVX512_BF16])
def test_either_instruction_set_makes_bf16_pay(
    instructions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "has_instructions", lambda name: name == instructions)
    assert settings.has_bf16_units(torch.device("cpu"))


def test_problems_are_repeated_below_the_tables_with_their_remedy() -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    bad = Finding("torch", "missing", 'pip install "torch[x]"', is_problem=True)
    doctor.show({"Packages": [bad]}, console)
    assert 'Problem: torch (missing): pip install "torch[x]"' in console.export_text()


@pytest.mark.parametrize(("is_problem", "code"), [(False, 0), (True, 1)])
def test_the_command_ends_with_one_if_there_is_a_problem(
    is_problem: bool, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"Packages": [Finding("torch", "2.0", "too old", is_problem)]}
    monkeypatch.setattr(doctor, "examine", lambda: found)
    done = CliRunner().invoke(cli.app, ["doctor"])
    assert done.exit_code == code
    assert ("Nothing stands in the way" in done.output) is not is_problem


def test_everything_is_examined_here() -> None:
    found = doctor.examine()
    assert list(found) == ["Packages", "Extras", "Processor", "Devices", "Files of taming"]
    assert all(found.values())


@pytest.mark.parametrize(
    "error", [RuntimeError("operator torchvision::nms does not exist"), OSError("no such library")]
)
def test_a_torchvision_for_another_pytorch_is_a_problem(
    error: Exception, installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It broke every training, and nothing stood in the way."""

    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(doctor.importlib, "import_module", fail)
    assert doctor.companions() == []
    installed.update(torchvision="0.28.0", torch="2.13.0+cpu")
    (found,) = doctor.companions()
    assert found.is_problem
    assert str(error) in found.note
    assert "pip uninstall torchvision" in found.note


def test_files_of_another_package_among_ours_are_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published package, installed over ours, empties `taming/__init__.py`."""
    monkeypatch.delattr(doctor.taming, "__version__")
    monkeypatch.delattr(doctor.taming, "__file__")
    monkeypatch.setitem(sys.modules, "taming.training.settings", None)
    found = doctor.examine()
    assert found["Packages"][0].value == "unknown"
    assert [f.subject for f in found["Processor"] if f.is_problem] == ["taming.training"]
