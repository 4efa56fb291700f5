"""What every test shares: settings made before torch is imported, and where photographs are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

# Two test processes share the cores; threads of one that wait actively would starve the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that needs the network is a mistake

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def photographs() -> Callable[[str], Path]:
    """Where a set of real photographs lies, by its name; a test is skipped where it is absent."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("TAMING_DATA") or ROOT / "data") / name
        if not folder.is_dir():
            pytest.skip(f"{folder} is absent; data/README.md says what TAMING_DATA is")
        return folder

    return find
