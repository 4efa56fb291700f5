"""Training: the loops of both stages, run directories, caches of codes.

`train` does what a config says; `wrap` is for those who bring their own trainer. Importing this
package does not import Lightning: that waits for the first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taming.training.run import encode, train, wrap
    from taming.training.run_directory import is_first_process
    from taming.training.settings import TrainingSettings

__all__ = ["TrainingSettings", "encode", "is_first_process", "train", "wrap"]

_HOMES = {
    "TrainingSettings": "taming.training.settings",
    "encode": "taming.training.run",
    "is_first_process": "taming.training.run_directory",
    "train": "taming.training.run",
    "wrap": "taming.training.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'taming.training' has no attribute '{name}'")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except RuntimeError as error:  # of a torchvision for another PyTorch, which Lightning imports
        raise ImportError(
            f"Lightning cannot be imported ({error}); taming doctor says what stands in the way"
        ) from error
