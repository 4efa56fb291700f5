"""What a config would train, without training it: the config resolved, the size of everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from torch import nn

from taming.config import ConfigError, instantiate_model, to_yaml
from taming.data.sampler import BatchSampler
from taming.finding import for_inference
from taming.training.published_data import DataModuleFromConfig


def report(config: Mapping[str, Any], data: Any, console: Console | None = None) -> None:
    """Print the resolved config, parameters by part, pictures by set, and what a step holds."""
    console = console or Console()
    console.print(Syntax(to_yaml(config), "yaml"))
    with torch.device("meta"):
        model = instantiate_model(for_inference(config["model"]))
    console.print(_parameters(model))
    console.print(_sets(data, getattr(model, "downsample_factor", 1)))


def _parameters(model: nn.Module) -> Table:
    table = Table("part", "parameters", "MB in float32", title="model", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    total = 0
    for name, part in model.named_children():
        count = sum(parameter.numel() for parameter in part.parameters())
        total += count
        table.add_row(name, f"{count:,}", f"{4 * count / 1e6:.1f}")
    table.add_row("total", f"{total:,}", f"{4 * total / 1e6:.1f}")
    return table


def _sets(data: Any, factor: int) -> Table:
    mix = getattr(data, "train", None)
    if mix is None:
        return _published_sets(data)
    table = Table("set", "pictures", "size", "codes", "share", title="data", title_justify="left")
    total = sum(mix.weights)
    for part, size, weight in zip(mix.sets, mix.sizes, mix.weights, strict=True):
        if size[0] % factor or size[1] % factor:
            raise ConfigError(
                f"the pictures of set '{part.name}' are {size[0]}x{size[1]}; a code stands for "
                f"{factor}x{factor} pixels, give sides that are multiples of {factor}"
            )
        grid = f"{size[0] // factor}x{size[1] // factor}"
        table.add_row(
            part.name, f"{len(part):,}", f"{size[0]}x{size[1]}", grid, f"{weight / total:.0%}"
        )
    batches = BatchSampler(
        mix.lengths, mix.sizes, mix.weights, data.batch_size, epoch_size=data.epoch_size
    )
    table.caption = (
        f"{len(batches):,} batches of {data.batch_size} an epoch; "
        f"{len(data.label_names)} labels, {len(data.class_names)} classes"
    )
    return table


def _published_sets(data: Any) -> Table:
    """Data sets of targets know their number of samples, data modules of others not even that."""
    table = Table("section", "data set", "samples", title="data", title_justify="left")
    if isinstance(data, DataModuleFromConfig):
        data.setup()
        for name, dataset in data.datasets.items():
            table.add_row(name, data.dataset_configs[name]["target"], f"{len(dataset):,}")
        table.caption = f"batches of {data.batch_size}"
    return table
