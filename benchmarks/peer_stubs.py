"""What the published packages import and this environment no longer has, as little as will do.

Importable for the peer's process alone. Almost all of it is never called by what is measured: such
modules consist of empty classes. Four things are called and do what they did: a LightningModule is
a torch module, VGG16 is a stack of layers (with random weights), `grouper`, and top-k filtering.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import zip_longest
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

ABSENT = {
    "albumentations",
    "huggingface_hub",
    "more_itertools",
    "pytorch_lightning",
    "requests",
    "torch._six",
    "torchvision",
    "transformers",
}


class Empty:
    """Stands for classes that are subclassed, and for decorators."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass


class StubModule(ModuleType):
    """Every name in it is an empty class of that name, which pickles as one of this module."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (Empty,), {"__module__": self.__name__})
        setattr(self, name, made)
        return made


class StubFinder(MetaPathFinder, Loader):
    """Finds modules of absent packages, and gives some of them what is called."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        parents = {fullname.rsplit(".", n)[0] for n in range(fullname.count(".") + 1)}
        return ModuleSpec(fullname, self, is_package=True) if parents & ABSENT else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StubModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        for name, real in REAL.get(module.__name__, {}).items():
            setattr(module, name, real)


def install_stubs() -> None:
    """The stubs go first: a package that is installed here may be newer than the peers bear."""
    sys.meta_path.insert(0, StubFinder())


# --- what is called ------------------------------------------------------------------------------


class LightningModule(nn.Module):
    pass


class RandomVGG16:
    """`torchvision.models.vgg16`: its feature layers, scaled so that features keep their size."""

    def __init__(self, pretrained: bool = False) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, *(512, 512, 512, 0) * 2):
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
            layers += [convolution, nn.ReLU(inplace=True)]
            channels = width
        self.features = nn.Sequential(*layers)


def grouper(entries: Iterable[Any], n: int) -> Iterable[tuple[Any, ...]]:
    return zip_longest(*[iter(entries)] * n)


def top_k_top_p_filtering(logits: Tensor, top_k: int = 0, top_p: float = 1.0) -> Tensor:
    assert top_p == 1.0, "only the first of the two filters is needed here"
    least = torch.topk(logits, top_k).values[..., -1:]
    return logits.masked_fill(logits < least, -float("inf"))


REAL: dict[str, dict[str, Any]] = {
    "pytorch_lightning": {"LightningModule": LightningModule},
    "torchvision": {"models": SimpleNamespace(vgg16=RandomVGG16)},
    "more_itertools.recipes": {"grouper": grouper},
    "transformers": {"top_k_top_p_filtering": top_k_top_p_filtering},
    "torch._six": {"string_classes": str},
}
