"""What is timed of the original's first stage, with a stand-in for the original."""

import gc
import importlib
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import peers


class Original:
    """Builds a model of one weight and of a discriminator of one."""

    def build(self, config: Any) -> nn.Module:
        model = nn.Sequential(nn.Linear(1, 1, bias=False))
        model.loss = nn.Module()
        model.loss.discriminator = nn.Linear(1, 1, bias=False)
        return model


def test_a_training_keeps_no_second_copy_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights that were handed in counted in the original's memory, beside those that learn."""
    monkeypatch.syspath_prepend(str(Path(peers.__file__).parent))
    train = importlib.import_module("peer_first_stage").train
    given = {
        "0.weight": torch.ones(1, 1),
        "loss.discriminator.weight": torch.ones(1, 1),
        "images": torch.zeros(1),
    }
    kept = {name: weakref.ref(tensor) for name, tensor in given.items()}
    step = train(Original(), given, loss={})
    del given
    gc.collect()
    assert callable(step)
    assert kept["images"]() is not None
    assert kept["0.weight"]() is kept["loss.discriminator.weight"]() is None
