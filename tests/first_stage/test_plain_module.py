"""Models are modules like any other, but for what a trainer is told that gets one."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from taming.first_stage import GumbelVQ, VQModel, VQSegmentationModel
from taming.first_stage.plain_module import PlainModule
from taming.transformer.net2net import Net2NetTransformer


class Model(PlainModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


@pytest.fixture
def trainer() -> Any:
    pl = pytest.importorskip("pytorch_lightning")
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


@pytest.mark.parametrize("call", ["fit", "validate", "test", "predict"])
def test_a_trainer_is_told_what_it_should_be_given(trainer: Any, call: str) -> None:
    with pytest.raises(
        TypeError, match=r"Model is a plain module.* taming\.training\.wrap\(model\)"
    ):
        getattr(trainer, call)(Model())


@pytest.mark.parametrize("model", [VQModel, VQSegmentationModel, GumbelVQ, Net2NetTransformer])
def test_models_that_once_were_lightning_modules_say_it(model: type[nn.Module]) -> None:
    assert issubclass(model, PlainModule)


def test_everyone_else_sees_its_class() -> None:
    model = Model()
    assert model.__class__ is Model
    assert isinstance(model, nn.Module)
    assert not isinstance(model, nn.Linear)


def test_its_device_is_that_of_its_weights() -> None:
    assert Model().device == torch.device("cpu")
    assert Model().to("meta").device == torch.device("meta")


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_and_pickles_are_of_its_class(again: Any) -> None:
    model = Model()
    other = again(model)
    assert type(other) is Model
    assert torch.equal(other.layer.weight, model.layer.weight)
