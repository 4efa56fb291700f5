"""Multi-task image synthesis with a VQGAN and an any-order transformer.

    import taming
    pipeline = taming.load("runs/streets")
    pipeline.paint(labels="street.png", seeds=range(4))

Importing this package costs next to nothing: PyTorch is imported when the first name is used.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

from taming import _old_paths

if TYPE_CHECKING:
    from taming.loading import load
    from taming.pipeline import Pipeline
    from taming.provenance import save_png

__version__ = "0.1.0"
__all__ = ["Pipeline", "__version__", "load", "save_png"]

# albumentations asks its package registry for a newer version at import; nobody here wants that.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

_HOMES = {
    "Pipeline": "taming.pipeline",
    "load": "taming.loading",
    "save_png": "taming.provenance",
}


_old_paths.install()


def __getattr__(name: str) -> Any:
    if f"taming.{name}" in _old_paths.OLD_PATHS:  # `import taming; taming.models.vqgan`
        return importlib.import_module(f"taming.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'taming' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
