"""Reconstruction: decibels by hand, and a first stage judged from its directory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from taming.checkpoint import save_weights
from taming.config import instantiate_from_config, to_yaml
from taming.evaluation.reconstruction import evaluate, parse_set_size, parse_size, psnr_of


def test_psnr_by_hand() -> None:
    black = torch.full((2, 3, 4, 4), -1.0)
    grey = black.clone()
    grey[0] += 2 * 10 / 255  # ten of 255 levels everywhere
    grey[1, 0] += 2 * 10 / 255  # in one channel of three
    decibels = psnr_of(black, grey)
    assert decibels[0].item() == pytest.approx(28.13, abs=0.01)  # 20 log10(25.5)
    assert decibels[1].item() == pytest.approx(28.13 + 4.77, abs=0.01)  # + 10 log10(3)


def test_what_leaves_the_range_is_cut_before_it_is_measured() -> None:
    white = torch.ones(1, 3, 4, 4)
    assert psnr_of(white, white * 3).item() > 60


@pytest.fixture
def run(tmp_path: Path, blocks: Path, second_stage: Callable[..., dict[str, Any]]) -> Path:
    """The directory of a first-stage run on small crops at random scales, untrained."""
    model = second_stage()["params"]["first_stage_config"]
    params = {"sets": [{"path": str(blocks), "scale": [1.0, 2.0]}], "size": 16}
    data = {"target": "taming.data.datamodule.ImageData", "params": params}
    folder = tmp_path / "run"
    save_weights(folder / "weights.safetensors", instantiate_from_config(model).state_dict())
    (folder / "config.yaml").write_text(to_yaml({"model": model, "data": data}))
    return folder


def test_a_first_stage_is_measured_on_its_held_out_pictures(run: Path) -> None:
    report = evaluate(run)
    assert report["blocks"]["pictures"] == 8
    assert report["blocks"]["size"] == [16, 16]
    assert 0 < report["blocks"]["usage"] <= 1
    assert 1 <= report["blocks"]["perplexity"] <= 16
    assert report["all"]["PSNR"] == report["blocks"]["PSNR"]


def test_sizes_can_be_given_for_all_sets_and_for_one(run: Path) -> None:
    assert evaluate(run, size=(32, 32), count=2)["blocks"]["size"] == [32, 32]
    report = evaluate(run, size=(32, 32), set_sizes={"blocks": (24, 48)}, count=2)
    assert report["blocks"]["size"] == [24, 48]
    with pytest.raises(ValueError, match=r"no set 'streets'.*blocks"):
        evaluate(run, set_sizes={"streets": (8, 8)})


def test_sizes_are_written_as_one_number_or_two() -> None:
    assert parse_size("128") == (128, 128)
    assert parse_set_size("people=192x128") == ("people", (192, 128))
    for wrong in ("0", "1x2x3", "wide"):
        with pytest.raises(ValueError, match="HEIGHTxWIDTH"):
            parse_size(wrong)
    with pytest.raises(ValueError, match="SET=SIZE"):
        parse_set_size("192x128")
