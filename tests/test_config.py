"""Laws of configuration: nothing misspelt passes, and the nearest word is named."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from taming.config import (
    ConfigError,
    from_mapping,
    get_obj_from_str,
    instantiate_from_config,
    instantiate_model,
    load_config,
    to_yaml,
)

LINEAR = {"target": "torch.nn.Linear", "params": {"in_features": 2, "out_features": 3}}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text("model:\n  width: 8\n  sizes: [1, 2]\nrate: 1e-4\n")
    return path


def test_later_files_win(base: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.yaml"
    later.write_text("model: {width: 16}\n")
    config = load_config([base, later])
    assert config.model.width == 16
    assert config.model.sizes == [1, 2]


def test_overrides_win_over_files_and_are_typed(base: Path) -> None:
    config = load_config(base, ["model.width=4", "rate=3e-5", "new.list=[1,a]", "model.sizes[0]=7"])
    assert config.model.width == 4
    assert config.rate == 3e-5
    assert config.new.list == [1, "a"]
    assert config.model.sizes == [7, 2]


def test_a_missing_file_names_the_nearest(base: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'base\.yaml'"):
        load_config(base.with_name("bse.yaml"))


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "a: 1\n b: 2\n"])
def test_what_is_no_mapping_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load_config(path)


@pytest.mark.parametrize("override", ["model.width", "=3"])
def test_an_override_needs_key_and_value(base: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config(base, [override])


# --- targets -------------------------------------------------------------------------------------


def test_target_and_params_build_an_object() -> None:
    layer = instantiate_from_config(OmegaConf.create(LINEAR), bias=False)
    assert isinstance(layer, torch.nn.Linear)
    assert layer.bias is None


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("torch.nn.Linaer", "did you mean 'Linear'"),
        ("torch.nn.modlues.Linear", "did you mean 'modules'"),
        ("torch.nnn.Linear", "outside the packages"),
        ("taming.confg.X", "did you mean 'config'"),
        ("Linear", r"package\.module\.Name"),
        ("os.system", "TAMING_TARGETS"),
        ("torchvision_like.Model", "outside the packages"),
    ],
)
def test_unknown_targets_name_the_nearest(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_obj_from_str(target)


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "torch.hub.load",
        "taming.config.Path",
        # Classes that act when they are made: one starts a process, others open or remove files.
        "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler.SubprocessHandler",
        "torch.nn.functional.relu",
        "torch.serialization._open_file",
        "torch.utils.data.datapipes.iter.fileopener.FileOpenerIterDataPipe",
        "pytorch_lightning.Trainer",
        "taming.evaluation.album.Album",
    ],
)
def test_configs_cannot_call_what_is_no_part_of_a_training(target: str) -> None:
    with pytest.raises(ConfigError, match=r"outside the packages|not a class that a configuration"):
        get_obj_from_str(target)


@pytest.mark.parametrize(
    "target",
    [
        "taming.data.imagenet.ImageNetTrain",
        "taming.training.callbacks.WriteHistory",
        "pytorch_lightning.loggers.CSVLogger",
    ],
)
def test_a_model_is_made_of_nothing_that_touches_files(target: str) -> None:
    assert get_obj_from_str(target).__name__ == target.rpartition(".")[2]
    with pytest.raises(ConfigError, match="not a class that a configuration may build here"):
        instantiate_model({"target": target})
    params: dict[str, Any] = {"n_embed": 4, "embed_dim": 4, "lossconfig": {"target": target}}
    params["ddconfig"] = {"z_channels": 4, "ch": 8, "ch_mult": [1], "num_res_blocks": 1}
    params["ddconfig"] |= {"norm_groups": 4, "mid_attention": False}
    with pytest.raises(ConfigError, match="not a class that a configuration may build here"):
        instantiate_model({"target": "taming.first_stage.vqgan.VQModel", "params": params})


def test_own_packages_are_trusted_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMING_TARGETS", "decimal.,")
    assert get_obj_from_str("decimal.Decimal").__name__ == "Decimal"


@pytest.mark.parametrize(
    "target", ["taming.data.download.retrieve", "taming.config.instantiate_trusted"]
)
def test_a_config_starts_no_function_of_ours(target: str) -> None:
    """They write files and download, and one of them follows a target anywhere."""
    inner = {"target": "subprocess.Popen", "params": {"args": ["true"]}}
    with pytest.raises(ConfigError, match=r"is a function|not a class"):
        instantiate_from_config({"target": target, "params": {"config": inner}})


def test_a_program_builds_its_own_classes_by_the_old_names() -> None:
    """A dependent project's configs name its own packages, and it has called this all along."""
    from taming.util import get_obj_from_str as find
    from taming.util import instantiate_from_config as build

    section = {"target": "collections.Counter", "params": {"a": 2}}
    assert build(section) == {"a": 2}
    assert find("collections.Counter", reload=False)(a=2) == build(section)
    with pytest.raises(ConfigError, match="TAMING_TARGETS"):
        instantiate_from_config(section)


def test_a_program_trusts_sections_within_sections() -> None:
    from taming.util import instantiate_from_config as build

    params: dict[str, Any] = {"n_embed": 4, "embed_dim": 4}
    params["ddconfig"] = {"z_channels": 4, "ch": 8, "ch_mult": [1], "num_res_blocks": 1}
    params["ddconfig"] |= {"norm_groups": 4, "mid_attention": False}
    params["lossconfig"] = {"target": "collections.UserDict"}
    model = {"target": "taming.models.vqgan.VQModel", "params": params}
    assert type(build(model).loss).__name__ == "UserDict"
    with pytest.raises(ConfigError, match="TAMING_TARGETS"):
        instantiate_model(model)
    data = {"target": "main.DataModuleFromConfig", "params": {"batch_size": 1}}
    data["params"]["train"] = {"target": "collections.UserList", "params": {"initlist": [1, 2]}}
    module = build(data)
    module.setup()
    assert list(module.datasets["train"]) == [1, 2]
    with pytest.raises(ConfigError, match="TAMING_TARGETS"):
        instantiate_from_config(data).setup()


@pytest.mark.parametrize("rate", ["base_learning_rate", "learning_rate"])
def test_the_model_section_of_a_training_builds_as_it_is(rate: str) -> None:
    """Scripts hand over `config.model` of a published YAML, which was refused."""
    assert isinstance(instantiate_from_config({**LINEAR, rate: 4.5e-6}), torch.nn.Linear)


def test_what_stands_beside_params_by_mistake_is_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'bias' beside target"):
        instantiate_from_config({**LINEAR, "bias": False})


def test_unknown_params_name_the_nearest() -> None:
    wrong = {"target": "torch.nn.Linear", "params": {"in_featurs": 2, "out_features": 3}}
    with pytest.raises(ConfigError, match=r"'in_featurs'; did you mean 'in_features'"):
        instantiate_from_config(wrong)


def test_missing_params_are_named() -> None:
    with pytest.raises(ConfigError, match="missing 'out_features'"):
        instantiate_from_config({"target": "torch.nn.Linear", "params": {"in_features": 2}})


@pytest.mark.parametrize("section", [{}, {"params": {}}, 3, {**LINEAR, "in_features": 2}])
def test_a_section_is_target_and_params(section: object) -> None:
    with pytest.raises(ConfigError):
        instantiate_from_config(section)


# --- dataclasses ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclasses.dataclass(frozen=True)
class Options:
    size: tuple[int, int]
    inner: Inner = Inner()
    rate: float = 1.0
    many: tuple[Inner, ...] = ()
    maybe: Inner | None = None
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    on: bool = False


def test_sections_become_frozen_dataclasses() -> None:
    section = OmegaConf.create(
        {
            "size": [1, 2],
            "inner": {"depth": 3},
            "rate": 2,
            "many": [{"depth": 4}],
            "weights": {"a": 1},
        }
    )
    options = from_mapping(Options, section, "data")
    assert options == Options((1, 2), Inner(3), 2.0, (Inner(4),), None, {"a": 1.0})
    assert isinstance(options.rate, float)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"size": [1, 2], "ratte": 1}, r"data: unknown key 'ratte'; did you mean 'rate'"),
        ({"size": [1, 2], "inner": {"dpth": 1}}, r"data\.inner: unknown key 'dpth'"),
        ({"size": [1, 2, 3]}, r"data\.size: expected 2 values"),
        ({"size": [1, "x"]}, r"data\.size\[1\]: expected int, found 'x'"),
        ({"size": 3}, r"data\.size: expected a list"),
        ({"size": [1, 2], "on": 1}, r"data\.on: expected bool"),
        ({"size": [1, 2], "rate": True}, r"data\.rate: expected float"),
        ({}, r"data: missing 'size'"),
    ],
)
def test_wrong_sections_say_where_and_what(section: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(Options, section, "data")


def test_yaml_of_a_dataclass_reads_back(tmp_path: Path) -> None:
    options = Options((1, 2), many=(Inner(2),), rate=1e-5, maybe=Inner(7))
    path = tmp_path / "options.yaml"
    path.write_text(to_yaml(options))
    assert from_mapping(Options, load_config(path)) == options
