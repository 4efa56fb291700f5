"""Scripts that took a first stage for a LightningModule go on, call for call."""

from pathlib import Path
from typing import Any

import pytest
import torch

from taming.first_stage import VQModel, VQSegmentationModel

V, D = 12, 8


def params(channels: int = 3) -> dict[str, Any]:
    ddconfig = {"double_z": False, "z_channels": D, "resolution": 16, "in_channels": channels,
                "out_ch": channels, "ch": 32, "ch_mult": [1, 2], "num_res_blocks": 1,
                "attn_resolutions": [], "dropout": 0.0}  # fmt: skip
    return {"ddconfig": ddconfig, "n_embed": V, "embed_dim": D}


def batch(channels: int = 3) -> dict[str, torch.Tensor]:
    """As published data sets give it: channels last."""
    return {"image": torch.rand(2, 8, 12, channels) * 2 - 1}


def test_input_is_channels_first() -> None:
    given = batch()
    x = VQModel(**params()).get_input(given, "image")
    assert torch.equal(x, given["image"].permute(0, 3, 1, 2))
    assert x.is_contiguous()


@pytest.mark.parametrize("options", [{}, {"split": "val"}])
def test_pictures_are_the_input_and_its_reconstruction(options: dict[str, str]) -> None:
    model, given = VQModel(**params()).eval(), batch()
    log = model.log_images(given, **options)
    x = model.get_input(given, "image")
    assert torch.equal(log["inputs"], x)
    torch.testing.assert_close(log["reconstructions"], model(x)[0])
    assert not log["reconstructions"].requires_grad


def test_label_maps_are_shown_in_colours_of_what_was_decided() -> None:
    model = VQSegmentationModel(n_labels=5, image_key="segmentation", **params(5)).eval()
    x = torch.nn.functional.one_hot(torch.randint(5, (2, 8, 12)), 5).float()
    log = model.log_images({"segmentation": x})
    assert log["inputs"].shape == log["reconstructions"].shape == (2, 3, 8, 12)
    colours = log["reconstructions"].permute(1, 0, 2, 3).flatten(1).unique(dim=1)
    assert colours.shape[1] <= 5, "one colour a label, no mixtures"


def test_frozen_models_evaluate_and_do_not_learn() -> None:
    model = VQModel(**params())
    model.freeze()
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


def test_a_checkpoint_loads_by_the_name_that_lightning_gave_it(tmp_path: Path) -> None:
    model = VQModel(**params())
    torch.save({"state_dict": model.state_dict()}, tmp_path / "last.ckpt")
    loaded = VQModel.load_from_checkpoint(
        tmp_path / "last.ckpt", map_location="cpu", strict=False, **params()
    )
    assert torch.equal(loaded.decoder.conv_out.weight, model.decoder.conv_out.weight)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_file_with_classes_as_keys_passes_torch_load(tmp_path: Path, is_zip: bool) -> None:
    """`torch.load(path)["state_dict"]` stands in every script, and was refused."""
    callbacks = pytest.importorskip("pytorch_lightning.callbacks")
    state = VQModel(**params()).state_dict()
    kept = {kind: {"best": 0} for kind in (callbacks.ModelCheckpoint, callbacks.EarlyStopping)}
    content = {"state_dict": state, "callbacks": kept}
    torch.save(content, tmp_path / "last.ckpt", _use_new_zipfile_serialization=is_zip)
    read = torch.load(tmp_path / "last.ckpt", map_location="cpu", weights_only=True)
    assert read["state_dict"].keys() == state.keys()
