"""What is installed, what the machine offers, and what stands in the way: `taming doctor`.

Reads metadata of packages and asks PyTorch about devices; changes nothing and trains nothing. Two
things break silently. A second distribution with a folder `taming/`: several packages on the index
carry copies of CompVis taming-transformers under this name, pip lays their files over ours without
a word, and removing them removes ours; so nothing here relies on `taming/__init__.py` being ours.
And a torchvision built for another PyTorch, which fails when Lightning or transformers import it.
"""

import base64
import hashlib
import importlib
import json
import os
import platform
import re
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

import taming

if TYPE_CHECKING:
    from rich.console import Console

NAME = "taming"
HERE = Path(__file__)
EXTRAS = {  # what each is for, as setup.py says
    "train": "shards of codes, curves, further quantizers, networks for the perceptual loss",
    "text": "painting from words",
    "people": "people in rendered scenes, and their poses",
    "eval": "measures of quality and their figures",
    "dev": "tests and checks of the project itself",
}
VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "CUDA_VISIBLE_DEVICES")
AMX, AVX512_BF16 = "amx_tile", "avx512_bf16"


class Finding(NamedTuple):
    subject: str
    value: str
    note: str = ""  # what it is for; of a problem, the remedy
    is_problem: bool = False


def examine() -> dict[str, list[Finding]]:
    """Everything found, by heading."""
    try:
        own = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        own = None
    return {
        "Packages": [*versions(), *requirements(own), *companions()],
        "Extras": extras(own),
        "Processor": processor(),
        "Devices": devices(),
        "Files of taming": [*owners(metadata.distributions()), *changed_files(own)],
    }


def problems(found: dict[str, list[Finding]]) -> list[Finding]:
    return [finding for findings in found.values() for finding in findings if finding.is_problem]


# --- packages -------------------------------------------------------------------------------------


def versions() -> list[Finding]:
    folder = str(HERE.parent)
    return [
        Finding(NAME, getattr(taming, "__version__", "unknown"), folder),
        Finding("Python", platform.python_version(), platform.platform()),
    ]


def requirements(own: metadata.Distribution | None) -> list[Finding]:
    """The base packages; one that is missing or of another version is a problem."""
    if own is None:
        remedy = f"it runs from its folder; pip install -e {HERE.parents[1]}"
        return [Finding("installed", "no", remedy)]
    found = []
    for needed in _needed(own, extra=""):
        version = _version(needed.name)
        fits = version is not None and needed.specifier.contains(version, prereleases=True)
        remedy = "" if fits else f'needs {needed.specifier or "any"}; pip install "{needed}"'
        found.append(Finding(needed.name, version or "missing", remedy, not fits))
    return found


def companions() -> list[Finding]:
    """What other packages bring and import whole, if it is there: a problem where it fails."""
    version = _version("torchvision")
    if version is None:
        return []
    try:
        importlib.import_module("torchvision")
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        remedy = (
            f"fails on import ({reason}), and so do Lightning and transformers, which import it; "
            f"it is built for another PyTorch than {_version('torch')}, and nothing of {NAME} "
            "needs it: pip uninstall torchvision"
        )
        return [Finding("torchvision", version, remedy, is_problem=True)]
    return [Finding("torchvision", version)]


def extras(own: metadata.Distribution | None) -> list[Finding]:
    """What is optional: missing is no problem until it is used."""
    found = []
    for extra, purpose in EXTRAS.items():
        names = [needed.name for needed in _needed(own, extra)] if own is not None else []
        missing = [name for name in names if _version(name) is None]
        value = f"missing: {', '.join(missing)}" if missing else "installed" if names else "unknown"
        install = f'; pip install "{NAME}[{extra}]"' if missing else ""
        found.append(Finding(extra, value, purpose + install))
    return found


def _needed(own: metadata.Distribution, extra: str) -> list[Any]:
    """Requirements of the base ("") or of one extra, as `packaging` reads them."""
    from packaging.requirements import Requirement

    parsed = [Requirement(text) for text in own.requires or []]
    base = [each for each in parsed if each.marker is None or each.marker.evaluate({"extra": ""})]
    if not extra:
        return base
    return [e for e in parsed if e not in base and e.marker and e.marker.evaluate({"extra": extra})]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# --- the machine ----------------------------------------------------------------------------------


def processor() -> list[Finding]:
    """What decides how fast a processor trains."""
    found = [Finding("cores", str(os.cpu_count()), platform.processor() or platform.machine())]
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library of it that does not load
        reason = " ".join(str(error).split())
        return [*found, Finding("PyTorch", "cannot be imported", f"{reason}; reinstall it", True)]
    try:
        from taming.training.settings import has_bf16_units, has_instructions
    except (ImportError, AttributeError) as error:  # another package's files among ours
        reason = " ".join(str(error).split())
        return [*found, Finding(f"{NAME}.training", "cannot be imported", reason, True)]
    bf16 = has_bf16_units(torch.device("cpu"))
    found += [
        Finding("threads", str(torch.get_num_threads()), "used by PyTorch for one operation"),
        Finding("vectors", torch.backends.cpu.get_cpu_capability()),
        Finding("AMX", _yes(has_instructions(AMX)), "matrix units for bf16"),
        Finding("AVX512-BF16", _yes(has_instructions(AVX512_BF16)), "vector units for bf16"),
        Finding("precision: auto", "bf16" if bf16 else "float32", "in training, on the processor"),
    ]
    for name in VARIABLES:
        found.append(Finding(name, os.environ.get(name, "not set")))
    return found


def devices() -> list[Finding]:
    try:
        import torch

        from taming.training.settings import has_bf16_units
    except (ImportError, OSError, AttributeError):
        return []
    found = []
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        about = torch.cuda.get_device_properties(device)
        bf16 = "bf16" if has_bf16_units(device) else "float32"
        memory = f"{about.total_memory / 2**30:.1f} GiB"
        found.append(Finding(str(device), about.name, f"{memory}; precision: auto is {bf16}"))
    if torch.backends.mps.is_available():
        found.append(Finding("mps", "Apple GPU", "precision: auto is float32"))
    if not found:
        built = torch.version.cuda or torch.version.hip
        note = f"PyTorch is built for {built} but sees no GPU" if built else "PyTorch for the CPU"
        found.append(Finding("GPU", "none", note))
    return found


def _yes(value: bool) -> str:
    return "yes" if value else "no"


# --- files ----------------------------------------------------------------------------------------


def reinstalling(own: metadata.Distribution | None) -> str:
    """The command that lays our files down anew, from where they came.

    The name alone would fetch whatever an index calls so.
    """
    origin = json.loads((own.read_text("direct_url.json") if own is not None else None) or "{}")
    url = urlsplit(origin.get("url", ""))
    command = "pip install --force-reinstall --no-deps"
    if url.scheme != "file":
        return f"{command} -e . (in the checkout of {NAME})"
    editable = "-e " if (origin.get("dir_info") or {}).get("editable") else ""
    return f'{command} {editable}"{url2pathname(url.path)}"'


def owners(distributions: Iterable[metadata.Distribution]) -> list[Finding]:
    """Other distributions that own files of `taming/`."""
    found = {}
    named = [(str(each.metadata["Name"]), each) for each in distributions]
    own = next((each for name, each in named if _is_ours(name)), None)
    for name, distribution in named:
        if _is_ours(name):
            continue
        files = [str(f) for f in distribution.files or () if f.parts[:1] == (NAME,)]
        if files:
            remedy = (
                f"it owns {len(files)} files of {NAME}/, such as {min(files)}, and removing it "
                f"removes ours: pip uninstall {name}, then {reinstalling(own)}"
            )
            found[name] = Finding(name, distribution.version, remedy, is_problem=True)
    return list(found.values()) or [Finding("other owners", "none")]


def _is_ours(name: str) -> bool:
    return re.sub(r"[-_.]+", "-", name).lower() == NAME


def changed_files(own: metadata.Distribution | None) -> list[Finding]:
    """Installed modules that are not what was installed; of an editable install, none."""
    recorded = [file for file in (own.files if own is not None else None) or () if file.hash]
    changed = [str(f) for f in recorded if f.parts[:1] == (NAME,) and not _is_as_recorded(f)]
    if not changed:
        return []
    remedy = f"{', '.join(changed[:3])}; {reinstalling(own)}"
    return [Finding("changed or missing", f"{len(changed)} files", remedy, is_problem=True)]


def _is_as_recorded(file: metadata.PackagePath) -> bool:
    path = Path(str(file.locate()))
    if not path.is_file():
        return False
    assert file.hash is not None
    digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == file.hash.value


# --- output ---------------------------------------------------------------------------------------


def show(found: dict[str, list[Finding]], console: "Console | None" = None) -> None:
    """One table a heading, problems in red, and what to do about them."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    for heading, findings in found.items():
        table = Table(
            title=heading, title_justify="left", box=None, show_header=False, padding=(0, 1)
        )
        for finding in findings:
            style = "bold red" if finding.is_problem else None
            cells = (escape(finding.subject), escape(finding.value), escape(finding.note))
            table.add_row(*cells, style=style)
        console.print(table, "")
    wrong = problems(found)
    if not wrong:
        console.print("Nothing stands in the way.")
    for finding in wrong:
        text = f"Problem: {finding.subject} ({finding.value}): {finding.note}"
        console.print(escape(text), style="bold red")
