"""What annotators share: opening a network of `transformers`, and what a folder already has.

A network is a hub id or a folder with `config.json`; no code of it is run. Networks see one picture
at a time, at its full size, and answer at that size.
"""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from taming.checkpoint import atomic_write

Pixels = NDArray[np.uint8]  # (H, W, 3)


class Annotator(ABC):
    """Annotates the pictures of one set, `root/images`, with one network."""

    task: ClassVar[str]  # what errors call the network

    def __init__(self, root: Path, network: str, device: str) -> None:
        self.root, self.network, self.device = root, network, torch.device(device)

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether the picture has been annotated, by this network, before."""

    @abstractmethod
    def add(self, name: str, file: str, pixels: Pixels) -> None:
        """Annotate one picture: `file` below images/, `name` without its suffix."""

    @abstractmethod
    def save(self) -> None:
        """Write the table of all pictures annotated so far."""


def open_network(classes: Sequence[str], name: str, task: str, device: torch.device) -> Any:
    """A network of `transformers` for one of these automatic classes, and its image processor."""
    import transformers

    no_code = {"trust_remote_code": False}  # without it, a network with code asks whether to run it
    with quiet_loading():
        try:
            config = transformers.AutoConfig.from_pretrained(name, **no_code)
            known = [getattr(transformers, each) for each in classes if hasattr(transformers, each)]
            fitting = [auto for auto in known if type(config) in auto._model_mapping]
            if not fitting:
                raise ValueError(f"it is a {config.model_type}, which is for something else")
            model = fitting[0].from_pretrained(name, **no_code)
            processor = transformers.AutoImageProcessor.from_pretrained(name, **no_code)
        except (OSError, ValueError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or ["no reason given"])[0]
            raise ValueError(
                f"{name} is no network for {task}, neither a folder here nor a model of the "
                f"Hugging Face hub ({reason})"
            ) from error
    return model.to(device).eval(), processor


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """The set has a progress bar; weights need none of their own."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def write_json(path: Path, entries: Any) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(entries, indent=1, ensure_ascii=False), encoding="utf-8")


def write_map(path: Path, values: NDArray[np.uint8 | np.uint16]) -> None:
    """A grey PNG of 8 or 16 bits."""
    with atomic_write(path) as partial:
        Image.fromarray(values).save(partial, format="PNG")


def check_origin(path: Path, is_own: bool, network: str) -> None:
    """ValueError if an annotation that lies there was made otherwise."""
    if not is_own:
        raise ValueError(
            f"{path} was not made by {network}; move it and what belongs to it away, or annotate a "
            "copy of the set"
        )


def check_empty(folder: Path, network: str) -> None:
    """ValueError if maps lie there that no table tells the meaning of."""
    check_origin(folder, not folder.is_dir() or not any(folder.iterdir()), network)
