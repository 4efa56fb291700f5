"""Laws of conversion: any old file becomes a folder that stands alone, or nothing does."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import taming
from taming.checkpoint import (
    CheckpointError,
    read_state_dict,
    save_weights,
    tensor_hash,
    without_prefix,
)
from taming.cli import main
from taming.config import ConfigError, instantiate_from_config, load_config, plain, to_yaml
from taming.convert import convert
from taming.finding import find
from taming.loading import for_inference, load_model

MODULES = "taming.modules"


def section(target: str, **params: Any) -> dict[str, Any]:
    return {"target": target, "params": params}


def first_stage(channels: int = 3, **params: Any) -> dict[str, Any]:
    ddconfig = {"double_z": False, "z_channels": 4, "resolution": 8, "in_channels": channels}
    ddconfig |= {"out_ch": channels, "ch": 32, "ch_mult": [1, 1], "num_res_blocks": 1}
    ddconfig |= {"attn_resolutions": [], "dropout": 0.0}
    return section(
        "taming.models.vqgan.VQModel",
        **{"embed_dim": 4, "n_embed": 16, "ddconfig": ddconfig, **params},
    )


def loss() -> dict[str, Any]:
    return section(
        f"{MODULES}.losses.vqperceptual.VQLPIPSWithDiscriminator", disc_start=0, disc_num_layers=1
    )


def second_stage(cond: Any = None) -> dict[str, Any]:
    gpt = {"vocab_size": 16, "block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 8}
    return section(
        "taming.models.cond_transformer.Net2NetTransformer",
        cond_stage_key="depth",
        first_stage_config=first_stage(lossconfig=section(f"{MODULES}.losses.DummyLoss")),
        cond_stage_config=cond or first_stage(1, ckpt_path="/nowhere/depth.ckpt"),
        transformer_config=section(f"{MODULES}.transformer.mingpt.GPT", **gpt),
        permuter_config=section(f"{MODULES}.transformer.permuter.ZCurve", H=4, W=4),
        ckpt_path="/nowhere/last.ckpt",
    )


START = section(f"{MODULES}.util.SOSProvider", sos_token=0)


class ModelCheckpoint:
    """Lightning 1.0 wrote its class as a key."""


@pytest.fixture
def old_run(tmp_path: Path) -> Callable[..., Path]:
    """A run directory as the original left it, with random weights."""

    def write(model: dict[str, Any], **extra: torch.Tensor) -> Path:
        run = tmp_path / "logs" / "2020-11-20T12-54-32_tiny"
        for folder in ("configs", "checkpoints"):
            (run / folder).mkdir(parents=True)
        data = section("main.DataModuleFromConfig", batch_size=1)
        config = {"model": {"base_learning_rate": 4.5e-6, **model}, "data": data}
        (run / "configs/2020-project.yaml").write_text(to_yaml(config), encoding="utf-8")
        torch.manual_seed(0)
        state = {**build(model).state_dict(), **extra}
        content = {"state_dict": state, "epoch": 3, "callbacks": {ModelCheckpoint: {}}}
        torch.save(content, run / "checkpoints/last.ckpt", _use_new_zipfile_serialization=False)
        return run

    return write


def build(model: dict[str, Any]) -> torch.nn.Module:
    """Without the weights that its config starts from."""
    return instantiate_from_config(for_inference(model, keep_losses=True))


LEFT_OVER = {
    "transformer.blocks.0.attn.mask": torch.ones(1, 1, 32, 32),
    "first_stage_model.loss.discriminator.main.0.weight": torch.ones(1),
    "cond_stage_model.colorize": torch.ones(3, 1, 1, 1),
}


def test_an_old_run_paints_after_conversion_what_it_painted_before(old_run, tmp_path: Path) -> None:
    run = old_run(second_stage(), **LEFT_OVER)
    converted = convert(run, tmp_path / "converted")
    assert sorted(p.name for p in converted.iterdir()) == ["config.yaml", "weights.safetensors"]
    shutil.rmtree(run)
    torch.manual_seed(0)
    expected = build(second_stage()).state_dict()
    assert tensor_hash(load_model(converted).state_dict()) == tensor_hash(expected)
    assert read_state_dict(converted / "weights.safetensors").keys() == expected.keys()


def test_old_runs_open_without_conversion(old_run) -> None:
    pipeline = taming.load(old_run(second_stage(), **LEFT_OVER))
    assert pipeline.name == "2020-11-20T12-54-32_tiny"


def test_targets_are_written_as_they_are_called_today(old_run, tmp_path: Path) -> None:
    text = (convert(old_run(second_stage()), tmp_path / "new") / "config.yaml").read_text("utf-8")
    targets = {line.split(": ")[1] for line in text.splitlines() if "target:" in line}
    assert targets == {
        "taming.transformer.net2net.Net2NetTransformer",
        "taming.first_stage.vqgan.VQModel",
        "taming.transformer.gpt.GPT",
        "taming.transformer.permuter.ZCurve",
    }
    assert "nowhere" not in text


@pytest.mark.parametrize("part", ["first_stage", "cond_stage", "transformer"])
def test_parts_are_models_of_their_own(old_run, tmp_path: Path, part: str) -> None:
    run = old_run(second_stage(), **LEFT_OVER)
    folder = convert(run, tmp_path / part, part=part)
    torch.manual_seed(0)
    whole = build(second_stage())
    expected = whole.get_submodule({"transformer": part}.get(part, f"{part}_model")).state_dict()
    assert tensor_hash(read_state_dict(folder / "weights.safetensors")) == tensor_hash(expected)
    model = instantiate_from_config(plain(load_config(folder / "config.yaml"))["model"])
    assert model.state_dict().keys() == expected.keys()


def test_a_condition_that_is_a_picture_is_extracted_as_the_first_stage(old_run, tmp_path) -> None:
    run = old_run(second_stage("__is_first_stage__"))
    folder = convert(run, tmp_path / "cond", part="cond_stage")
    assert load_model(folder).state_dict().keys() == build(first_stage()).state_dict().keys()


@pytest.mark.parametrize(
    ("model", "part", "told"),
    [
        (second_stage(START), "cond_stage", "no weights"),
        (second_stage("__is_unconditional__"), "cond_stage", "is no model"),
        (first_stage(), "first_stage", "a first stage by itself"),
        (first_stage(), "decoder", "give one of first_stage, cond_stage, transformer"),
    ],
)  # fmt: skip
def test_parts_that_are_not_there_say_so(old_run, tmp_path: Path, model, part, told) -> None:
    with pytest.raises(ValueError, match=told):
        convert(old_run(model), tmp_path / "out", part=part)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [False, True])
def test_losses_are_kept_only_when_asked_for(old_run, tmp_path: Path, keep: bool) -> None:
    folder = convert(old_run(first_stage(lossconfig=loss())), tmp_path / "new", keep_losses=keep)
    state = read_state_dict(folder / "weights.safetensors")
    assert any(name.startswith("loss.discriminator.") for name in state) == keep
    params = plain(load_config(folder / "config.yaml"))["model"]["params"]
    assert ("lossconfig" in params) == keep
    assert taming.load(folder).first_stage.loss is None


def test_a_configuration_from_elsewhere_may_be_named(old_run, tmp_path: Path) -> None:
    run = old_run(first_stage())
    shutil.move(run / "checkpoints/last.ckpt", tmp_path / "downloaded.ckpt")
    config = run / "configs/2020-project.yaml"
    assert taming.load(convert(tmp_path / "downloaded.ckpt", tmp_path / "new", config=config))


def test_the_command_says_where_the_model_is(old_run, tmp_path: Path, capsys) -> None:
    run = old_run(second_stage())
    words = ["convert", str(run), str(tmp_path / "new"), "--part", "first_stage"]
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code in (0, None)
    assert capsys.readouterr().out.strip() == str(tmp_path / "new")
    assert (tmp_path / "new/weights.safetensors").is_file()


# --- nothing half-written -------------------------------------------------------------------------


def test_weights_of_another_model_leave_nothing(old_run, tmp_path: Path) -> None:
    run = old_run(first_stage())
    other = {"model": first_stage(n_embed=32)}
    (run / "configs/2020-project.yaml").write_text(to_yaml(other), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"quantize.embedding.weight 16x4 here 32x4"):
        convert(run, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["logs"]


def test_an_interrupted_conversion_leaves_nothing(old_run, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(old_run(first_stage()), tmp_path / "out", progress=stop)
    assert [p.name for p in tmp_path.iterdir()] == ["logs"]


def test_a_folder_with_something_in_it_is_left_alone(old_run, tmp_path: Path) -> None:
    run = old_run(first_stage())
    with pytest.raises(ValueError, match="exists already"):
        convert(run, run)
    (tmp_path / "empty").mkdir()
    assert (convert(run, tmp_path / "empty") / "config.yaml").is_file()


def test_a_config_without_a_model_is_refused(old_run, tmp_path: Path) -> None:
    run = old_run(first_stage())
    (run / "configs/2020-project.yaml").write_text("lightning: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no section `model`"):
        convert(run, tmp_path / "out")


def test_half_is_half_as_large_and_nearly_the_same(
    old_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = old_run(first_stage())
    whole, half = convert(run, tmp_path / "whole"), convert(run, tmp_path / "half", half=True)
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (whole, half)]
    assert 1.9 < sizes[0] / sizes[1] < 2.0  # of a file with a header
    exact, rounded = (taming.load(folder).first_stage.state_dict() for folder in (whole, half))
    for name, tensor in exact.items():
        assert rounded[name].dtype == tensor.dtype
        assert torch.allclose(rounded[name], tensor, rtol=2**-8, atol=0), name


@pytest.fixture
def sharper(tmp_path: Path) -> Callable[..., Path]:
    """The run of a first stage that began as the one within another run, with a refinement."""

    def write(run: Path, learned: str) -> Path:
        within = convert(run, tmp_path / "within", part="first_stage")
        model = plain(load_config(within / "config.yaml")["model"])
        model["params"]["ddconfig"]["refine"] = 2
        model["params"]["ckpt_path"] = str(within / "weights.safetensors")
        model["params"]["ignore_keys"] = ["decoder.refine."]
        built = instantiate_from_config(model)
        torch.nn.init.normal_(built.get_parameter(learned))
        folder = tmp_path / "sharper"
        save_weights(folder / "weights.safetensors", built.state_dict())
        (folder / "config.yaml").write_text(to_yaml({"model": model}), encoding="utf-8")
        return folder

    return write


def test_a_decoder_that_has_learned_on_takes_its_place(old_run, sharper, tmp_path: Path) -> None:
    run = old_run(second_stage())
    other = sharper(run, "decoder.refine.conv_out.weight")
    out = convert(run, tmp_path / "out", first_stage=other)
    codes = torch.arange(16).reshape(1, 4, 4)
    before, painted, alone = (
        taming.load(folder).first_stage.decode_code(codes) for folder in (run, out, other)
    )
    assert torch.equal(painted, alone)
    assert not torch.allclose(painted, before)
    transformers = (
        without_prefix(read_state_dict(find(folder).weights), "transformer.")
        for folder in (run, out)
    )
    assert len({tensor_hash(weights) for weights in transformers}) == 1


def test_a_first_stage_of_other_codes_does_not(old_run, sharper, tmp_path: Path) -> None:
    run = old_run(second_stage())
    other = sharper(run, "quantize.embedding.weight")
    with pytest.raises(CheckpointError, match=r"makes other codes.*quantize\.embedding\.weight"):
        convert(run, tmp_path / "out", first_stage=other)
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="holds no first stage that"):
        convert(other, tmp_path / "out", first_stage=other)
