"""Laws of the configs of the project: they say what they are, and every key is known."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from taming.config import (
    check_arguments,
    from_mapping,
    get_obj_from_str,
    instantiate_from_config,
    load_config,
    plain,
)
from taming.data.datamodule import SetConfig
from taming.loading import for_inference
from taming.training.sections import check_sections

FOLDER = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(path.name for path in FOLDER.glob("*.yaml"))
FIRST_STAGES = [name for name in CONFIGS if "lossconfig" in (FOLDER / name).read_text("utf-8")]


def sections(name: str) -> dict[str, Any]:
    return check_sections(plain(load_config(FOLDER / name)))


@pytest.mark.parametrize("name", CONFIGS)
def test_config_opens_with_what_it_is(name: str) -> None:
    """What it trains, on what, and what comes of it after how long."""
    text = (FOLDER / name).read_text("utf-8")
    opening = "\n".join(line for line in text.split("\nname:")[0].splitlines())
    assert all(line.startswith("#") for line in opening.splitlines())
    assert "Data:" in opening
    assert any(word in opening for word in ("minutes", "hours", "weeks"))


@pytest.mark.parametrize("name", CONFIGS)
def test_config_has_its_own_name(name: str) -> None:
    assert sections(name)["name"] == name.removesuffix(".yaml")


@pytest.mark.parametrize("name", CONFIGS)
def test_data_and_trainer_know_every_key(name: str) -> None:
    config = sections(name)
    params = config["data"]["params"]
    check_arguments(get_obj_from_str(config["data"]["target"]), params, "data")
    for entry in params.get("sets", []):
        from_mapping(SetConfig, {"path": entry} if isinstance(entry, str) else entry)
    for part in ("train", "validation"):  # of published data sections
        if part in params:
            target = params[part]["target"]
            check_arguments(get_obj_from_str(target), params[part].get("params", {}), target)
    check_arguments(pl.Trainer, config["trainer"], "trainer")


@pytest.mark.parametrize("name", FIRST_STAGES)
def test_first_stage_is_built(name: str) -> None:
    config = sections(name)["model"]
    with torch.device("meta"):
        model = instantiate_from_config(for_inference(config))
    assert model.downsample_factor in (8, 16)
    loss = config["params"]["lossconfig"]
    check_arguments(get_obj_from_str(loss["target"]), loss["params"], "lossconfig")


def test_published_first_stage_has_its_size() -> None:
    """398 tensors, 89.62 million parameters, losses included."""
    config = sections("imagenet_vqgan.yaml")["model"]
    section = {key: config[key] for key in ("target", "params")}
    with torch.device("meta"):
        model = instantiate_from_config(section)
    assert len(model.state_dict()) == 398
    total = sum(tensor.numel() for tensor in model.parameters())
    assert round(total / 1e6, 2) == 89.62
