"""Laws of finding a model: by run directory, by file of weights, by name."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

import taming
from taming.checkpoint import CheckpointError, save_weights
from taming.config import ConfigError, instantiate_from_config, load_config, plain, to_yaml
from taming.finding import BUNDLED, find, model_section
from taming.loading import expand_names, for_inference, trained_sizes
from taming.pipeline import Pipeline


def write(folder: Path, section: dict[str, Any], seed: int = 0) -> torch.nn.Module:
    """A run directory with these sections and random weights."""
    torch.manual_seed(seed)
    model = instantiate_from_config(section)
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml({"model": section}), encoding="utf-8")
    save_weights(folder / "weights.safetensors", model.state_dict())
    return model


@pytest.fixture
def folder(tmp_path: Path, second_stage) -> Path:
    write(tmp_path / "rooms", second_stage())
    return tmp_path / "rooms"


def same(pipeline: Pipeline, model: torch.nn.Module) -> bool:
    own, state = pipeline.model.state_dict(), model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[k], state[k]) for k in own)


def test_a_run_directory_is_a_model(folder: Path, second_stage) -> None:
    torch.manual_seed(0)
    expected = instantiate_from_config(second_stage())
    for what in (folder, str(folder), folder / "config.yaml", folder / "weights.safetensors"):
        pipeline = taming.load(what)
        assert same(pipeline, expected)
        assert pipeline.name == "rooms"
    assert not pipeline.model.training
    assert not any(p.requires_grad for p in pipeline.model.parameters())


def test_a_file_of_weights_is_the_one_that_is_read(folder: Path, second_stage) -> None:
    """Another file beside it once answered in its name."""
    torch.manual_seed(7)
    other = instantiate_from_config(second_stage())
    save_weights(folder / "early.safetensors", other.state_dict())
    assert same(taming.load(folder / "early.safetensors"), other)
    assert not same(taming.load(folder), other)


def test_a_checkpoint_of_a_run_is_a_model(folder: Path, second_stage) -> None:
    torch.manual_seed(7)
    other = instantiate_from_config(second_stage())
    torch.save({"state_dict": other.state_dict()}, folder / "checkpoints" / "last.ckpt")
    pipeline = taming.load(folder / "checkpoints" / "last.ckpt")
    assert same(pipeline, other)
    assert pipeline.name == "rooms"


def test_a_first_stage_is_a_model_too(tmp_path: Path, second_stage) -> None:
    section = second_stage()["params"]["first_stage_config"]
    model = write(tmp_path / "tokenizer", section)
    assert same(taming.load(tmp_path / "tokenizer"), model)


def test_loading_needs_neither_losses_nor_weights_to_start_from(tmp_path, second_stage) -> None:
    section = second_stage()
    write(tmp_path / "rooms", section)
    section["params"]["ckpt_path"] = "/nowhere.safetensors"
    section["params"]["first_stage_config"]["params"]["lossconfig"] = {"target": "nobody.knows"}
    config = {"model": {**section, "learning_rate": 1.0}, "data": {"target": "some.where"}}
    (tmp_path / "rooms/config.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert taming.load(tmp_path / "rooms").conditions


def test_sections_for_inference_leave_the_config_as_it_was(second_stage) -> None:
    section = second_stage()
    before = json.dumps(section)
    for_inference(section)
    assert json.dumps(section) == before


def test_bf16_halves_the_weights(folder: Path) -> None:
    pipeline = taming.load(folder, precision="bf16")
    kinds = {p.dtype for p in pipeline.model.parameters()}
    assert kinds == {torch.bfloat16}
    assert pipeline.paint(steps=1)[0].size == (24, 16)


def test_a_named_first_stage_is_written_out(tmp_path: Path, second_stage) -> None:
    inner = second_stage()["params"]["first_stage_config"]
    first = write(tmp_path / "tokenizer", inner, seed=5)
    section = second_stage()
    section["params"]["first_stage_config"] = str(tmp_path / "tokenizer")
    expanded = expand_names(section)
    model = instantiate_from_config(expanded)
    weight = model.first_stage_model.state_dict()
    assert all(torch.equal(weight[name], tensor) for name, tensor in first.state_dict().items())
    assert section["params"]["first_stage_config"] == str(tmp_path / "tokenizer")


def test_of_a_named_second_stage_the_first_within_is_taken(folder: Path, second_stage) -> None:
    section = second_stage()
    section["params"]["first_stage_config"] = str(folder)
    model = instantiate_from_config(expand_names(section))
    theirs = taming.load(folder).first_stage.state_dict()
    own = model.first_stage_model.state_dict()
    assert own.keys() == theirs.keys()
    assert all(torch.equal(own[name], tensor) for name, tensor in theirs.items())


def test_a_first_stage_begins_with_the_bundled_one() -> None:
    section = model_section(BUNDLED / "config.yaml")["params"]["first_stage_config"]
    section["params"]["ckpt_path"] = "bundled"
    model = instantiate_from_config(expand_names(section))
    theirs = taming.load("bundled").first_stage.state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("begun", ["folder", "file"])
def test_weights_to_begin_with_are_a_run_or_its_file(folder: Path, begun: str) -> None:
    weights = folder / "weights.safetensors"
    named = {"target": "taming.transformer.multi_task.MultiTaskTransformer",
             "params": {"ckpt_path": str(folder if begun == "folder" else weights)}}  # fmt: skip
    assert expand_names(named)["params"]["ckpt_path"] == str(weights)
    inner = {"target": "taming.first_stage.vqgan.VQModel", "params": named["params"]}
    within = {**named, "params": {"first_stage_config": inner}}
    found = expand_names(within)["params"]["first_stage_config"]["params"]
    assert found["ckpt_path"] == str(weights)


def test_weights_that_replace_a_named_first_stage_are_warned_of(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    params = {"first_stage_config": str(folder), "ckpt_path": "bundled"}
    section: dict[str, Any] = {"target": "any", "params": params}
    expand_names(section)
    assert "ignore_keys=[first_stage_model.]" in caplog.text
    caplog.clear()
    params["ignore_keys"] = ["first_stage_model."]
    expand_names(section)
    assert not caplog.text


def test_what_holds_no_first_stage_is_refused_as_one(folder: Path, second_stage) -> None:
    text = to_yaml({"model": {"target": "taming.cond_stage.depth.Depth", "params": {}}})
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    section = second_stage()
    section["params"]["first_stage_config"] = str(folder)
    with pytest.raises(ConfigError, match=r"rooms, which is a .*Depth; give the run of a first"):
        expand_names(section)


# --- what is no model ----------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["config.yaml", "weights.safetensors"])
def test_a_folder_without_its_files_says_which(folder: Path, lost: str) -> None:
    (folder / lost).unlink()
    with pytest.raises(CheckpointError, match=rf"rooms is no model: .*{lost} does not exist"):
        taming.load(folder)


def test_a_path_that_does_not_exist_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is no model"):
        taming.load(tmp_path / "nowhere")


def test_a_name_that_is_neither_here_nor_on_the_hub_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"someone/typo is neither a folder here nor"):
        find("someone/typo")


def test_weights_of_another_architecture_are_refused(folder: Path, tmp_path, second_stage) -> None:
    write(tmp_path / "wide", second_stage(width=64))
    shutil.copy(tmp_path / "wide/weights.safetensors", folder)
    with pytest.raises(CheckpointError, match=r"rooms/weights.safetensors does not fit"):
        taming.load(folder)


def test_truncated_weights_are_refused(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"weights.safetensors .*damaged"):
        taming.load(folder)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"name": "x"}, "no section `model`"),
        ({"model": {"params": {}}}, "no section `model`"),
        ({"model": {"target": "os.system", "params": {}}}, "outside the packages"),
        ({"model": {"target": "torch.nn.Linear",
                    "params": {"in_features": 1, "out_features": 1}}}, "Linear, which cannot"),
        ({"model": {"target": "taming.transformer.decoder.Branch",
                    "params": {"control": 1, "prefix": 2}}}, r"Branch"),
    ],
)  # fmt: skip
def test_configs_that_describe_no_model_are_refused(folder: Path, config, told) -> None:
    (folder / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    with pytest.raises(ConfigError, match=told):
        taming.load(folder)


def test_unknown_precisions_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match='"fp8"; give one of float32, bf16'):
        taming.load(folder, precision="fp8")


def test_written_configs_read_back(folder: Path, second_stage) -> None:
    assert plain(load_config(folder / "config.yaml"))["model"] == second_stage()


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    """It was an AssertionError without a word of what to do."""
    for device in ("abacus", "cuda:7"):
        with pytest.raises(ValueError, match=f"device '{device}' cannot be used here .*; try cpu"):
            taming.load(folder, device=device)


def test_a_pipeline_knows_the_precision_it_was_loaded_in(folder: Path) -> None:
    assert taming.load(folder).precision == "float32"
    assert taming.load(folder, precision="bf16").precision == "bf16"


@pytest.mark.parametrize(
    ("params", "sizes"),
    [
        ({"size": 64, "sets": ["a"]}, [(64, 64)]),
        (
            {"size": 64, "sets": [{"path": "a", "size": [96, 128]}, {"path": "b"}]},
            [(96, 128), (64, 64)],
        ),
        ({"sets": [{"path": "a", "size": 32}, {"path": "b", "size": 32}]}, [(32, 32)]),
        ({"train": {"target": "x"}}, []),
        ({"size": [3, 64, 64]}, []),
        ({"size": "64"}, []),
        ({"sets": [{"path": "${oc.env:NOT_SET_ANYWHERE}/a", "size": 32}]}, [(32, 32)]),
    ],
)
def test_sizes_trained_on_are_those_of_the_data(params: dict, sizes: list) -> None:
    config: Any = OmegaConf.create({"data": {"params": params}})
    assert trained_sizes(config) == sizes
    assert trained_sizes({}) == []
