"""Laws of first stages as files of the hub: what is saved is what is opened, everywhere."""

import copy
import inspect
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import taming
from taming.checkpoint import CheckpointError, read_metadata, read_state_dict, tensor_hash
from taming.config import ConfigError, instantiate_from_config, to_yaml
from taming.first_stage import GumbelVQ, VQModel
from taming.loading import load_model

DDCONFIG = {"z_channels": 4, "ch": 8, "ch_mult": [1, 1], "num_res_blocks": 1, "norm_groups": 2}
SIZES: dict[str, Any] = {"ddconfig": DDCONFIG, "n_embed": 16, "embed_dim": 4}
NORMALIZED = {
    "target": "taming.first_stage.quantize.VectorQuantizer",
    "params": {"normalize": True},
}
LOSS = {
    "target": "taming.first_stage.losses.VQLPIPSWithDiscriminator",
    "params": {"disc_start": 0, "disc_num_layers": 1, "perceptual_weight": 0.0},
}


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return tensor_hash(first.state_dict()) == tensor_hash(second.state_dict())


@pytest.mark.parametrize(
    "model",
    [
        VQModel(**SIZES),
        VQModel(DDCONFIG, None, 16, 4, quantizer=NORMALIZED),
        VQModel(**OmegaConf.create(SIZES)),  # type: ignore[arg-type]
        GumbelVQ(**SIZES, kl_weight=1e-3),
    ],
    ids=["published", "positional", "omegaconf", "gumbel"],
)
def test_a_saved_model_comes_back(model: VQModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    files = ["README.md", "config.json", "model.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == files
    back = VQModel.from_pretrained(tmp_path)
    assert type(back) is type(model)
    assert same(back, model)
    assert not back.training
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(back.indices(x), model.eval().indices(x))


def test_what_is_saved_is_what_taming_opens(tmp_path: Path) -> None:
    model = VQModel(**SIZES)
    model.save_pretrained(tmp_path / "f2")
    pipeline = taming.load(tmp_path / "f2")
    assert same(pipeline.first_stage, model)
    assert pipeline.name == "f2"


def test_what_taming_opens_is_opened(tmp_path: Path) -> None:
    model = VQModel(**SIZES)
    section = {"target": "taming.models.vqgan.VQModel", "params": {**SIZES, "lossconfig": LOSS}}
    (tmp_path / "f2.yaml").write_text(to_yaml({"model": section}), encoding="utf-8")
    torch.save({"state_dict": model.state_dict()}, tmp_path / "f2.ckpt")
    assert same(VQModel.from_pretrained(tmp_path / "f2.ckpt"), model)


def test_losses_are_not_saved_and_may_be_asked_for(tmp_path: Path) -> None:
    model = VQModel(**SIZES, lossconfig=LOSS)
    model.save_pretrained(tmp_path)
    assert "lossconfig" not in (tmp_path / "config.json").read_text("utf-8")
    names = read_state_dict(tmp_path / "model.safetensors")
    assert not [name for name in names if name.startswith("loss.")]
    assert VQModel.from_pretrained(tmp_path).loss is None
    assert VQModel.from_pretrained(tmp_path, lossconfig=LOSS).loss is not None


def test_the_config_stands_alone(tmp_path: Path) -> None:
    model = VQModel(**SIZES)
    model.save_pretrained(tmp_path / "a")
    torch.save(model.state_dict(), tmp_path / "start.ckpt")
    VQModel(**SIZES, ckpt_path=str(tmp_path / "start.ckpt")).save_pretrained(tmp_path / "b")
    configs = [json.loads((tmp_path / name / "config.json").read_text("utf-8")) for name in "ab"]
    assert configs[0] == configs[1]
    assert "ckpt_path" not in configs[0]["model"]["params"]
    assert read_metadata(tmp_path / "a/model.safetensors") == {"format": "pt"}


def test_a_config_changed_after_building_changes_nothing(tmp_path: Path) -> None:
    sizes = copy.deepcopy(SIZES)
    model = VQModel(**sizes)
    sizes["ddconfig"]["ch"] = 64
    assert model.section["params"]["ddconfig"]["ch"] == 8


def test_copies_remember_too(tmp_path: Path) -> None:
    copy.deepcopy(VQModel(**SIZES)).save_pretrained(tmp_path)
    assert load_model(tmp_path).codebook_size == 16  # type: ignore[union-attr]


def test_signatures_are_those_of_the_classes() -> None:
    """Configurations are checked against them."""
    assert list(inspect.signature(VQModel).parameters)[:4] == [
        "ddconfig", "lossconfig", "n_embed", "embed_dim",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"unknown key 'n_embeds'; did you mean 'n_embed'"):
        instantiate_from_config(
            {"target": "taming.first_stage.vqgan.VQModel", "params": {**SIZES, "n_embeds": 1}}
        )


def test_of_a_second_stage_the_first_stage_within_is_opened() -> None:
    model = VQModel.from_pretrained("bundled")
    assert model.codebook_size == 2048
    assert same(model, taming.load("bundled").first_stage)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    VQModel(**SIZES).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="VQModel, which is no GumbelVQ"):
        GumbelVQ.from_pretrained(tmp_path)


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is no model"):
        VQModel.from_pretrained(tmp_path)


# --- the hub itself -------------------------------------------------------------------------------


def test_hub_ids_are_downloaded_with_the_options_given(tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub

    model = VQModel(**SIZES)
    model.save_pretrained(tmp_path / "cached")
    asked: dict[str, Any] = {}

    def download(name: str, **options: Any) -> str:
        asked.update(options, name=name)
        return str(tmp_path / "cached")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    back = VQModel.from_pretrained("owner/name", revision="v2", token="secret")
    assert same(back, model)
    assert (asked["name"], asked["revision"], asked["token"]) == ("owner/name", "v2", "secret")
    assert {"config.json", "model.safetensors"} <= set(asked["allow_patterns"])


@pytest.mark.parametrize("by_saving", [True, False])
def test_what_is_pushed_is_what_is_saved(tmp_path: Path, monkeypatch, by_saving: bool) -> None:
    import huggingface_hub

    sent: dict[str, Any] = {}

    class Api:
        def __init__(self, token: str | None = None) -> None:
            sent["token"] = token

        def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> Any:
            return SimpleNamespace(repo_id=f"owner/{repo_id.rpartition('/')[2]}")

        def upload_folder(self, folder_path: str, **options: Any) -> str:
            sent.update(options, model=VQModel.from_pretrained(folder_path))
            sent["card"] = (Path(folder_path) / "README.md").read_text("utf-8")
            return "https://hub/commit"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    model = VQModel(**SIZES)
    if by_saving:
        address = model.save_pretrained(tmp_path / "f2", push_to_hub=True, token="secret")
    else:
        address = model.push_to_hub("f2", token="secret", branch="main")
    assert address == "https://hub/commit"
    assert (sent["repo_id"], sent["token"]) == ("owner/f2", "secret")
    assert same(sent["model"], model)
    assert 'VQModel.from_pretrained("owner/f2")' in sent["card"]


def test_models_do_not_import_the_hub() -> None:
    program = "import sys, taming.first_stage; assert 'huggingface_hub' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
