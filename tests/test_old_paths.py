"""The contract with code for CompVis taming-transformers: its paths import, its targets build.

The tables below are what client repositories were seen to use; they only ever grow.
"""

import importlib
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from taming import _old_paths
from taming.config import ConfigError, get_obj_from_str

ROOT = Path(__file__).parents[1]

# Old module -> names, whose home is another module now.
MOVED = {
    "taming.data.conditional_builder.objects_bbox": ["ObjectsBoundingBoxConditionalBuilder"],
    "taming.data.conditional_builder.objects_center_points": [
        "ObjectsCenterPointsConditionalBuilder"
    ],
    "main": [
        "DataModuleFromConfig",
        "ImageLogger",
        "SetupCallback",
        "WrappedDataset",
        "get_obj_from_str",
        "instantiate_from_config",
    ],
    "taming.data.utils": ["custom_collate", "is_prepared", "mark_prepared", "unpack"],
    "taming.lr_scheduler": ["LambdaWarmUpCosineScheduler"],
    "taming.models.cond_transformer": ["Net2NetTransformer"],
    "taming.models.dummy_cond_stage": ["DummyCondStage"],
    "taming.models.vqgan": ["EMAVQ", "GumbelVQ", "VQModel", "VQNoDiscModel", "VQSegmentationModel"],
    "taming.modules.diffusionmodules.model": [
        "AttnBlock",
        "Decoder",
        "Downsample",
        "Encoder",
        "Normalize",
        "ResnetBlock",
        "Upsample",
        "nonlinearity",
    ],
    "taming.modules.discriminator.model": ["NLayerDiscriminator", "weights_init"],
    "taming.modules.losses": ["DummyLoss"],
    "taming.modules.losses.lpips": ["LPIPS", "normalize_tensor", "spatial_average"],
    "taming.modules.losses.segmentation": ["BCELoss", "BCELossWithQuant"],
    "taming.modules.losses.vqperceptual": [
        "DummyLoss",
        "LPIPS",
        "NLayerDiscriminator",
        "VQLPIPSWithDiscriminator",
        "adopt_weight",
        "hinge_d_loss",
        "vanilla_d_loss",
        "weights_init",
    ],
    "taming.modules.misc.coord": ["CoordStage"],
    "taming.modules.transformer.mingpt": ["GPT", "GPTConfig", "sample", "sample_with_past"],
    "taming.modules.transformer.permuter": [
        "AlternateParsing",
        "Identity",
        "Random",
        "SpiralIn",
        "SpiralOut",
        "Subsample",
        "ZCurve",
    ],
    "taming.modules.util": ["ActNorm", "Labelator", "SOSProvider"],
    "taming.modules.vqvae.quantize": [
        "EMAVectorQuantizer",
        "GumbelQuantize",
        "VectorQuantizer",
        "VectorQuantizer2",
    ],
    "taming.util": ["download", "get_ckpt_path", "instantiate_from_config", "retrieve"],
}

# Modules that are where they were.
STAYED = {
    "taming.data.annotated_objects_coco": ["AnnotatedObjectsCoco"],
    "taming.data.annotated_objects_open_images": ["AnnotatedObjectsOpenImages"],
    "taming.data.ade20k": ["ADE20kTrain", "ADE20kValidation", "Examples"],
    "taming.data.base": ["ConcatDatasetWithIndex", "ImagePaths", "NumpyPaths"],
    "taming.data.coco": [
        "CocoImagesAndCaptionsTrain",
        "CocoImagesAndCaptionsValidation",
        "Examples",
    ],
    "taming.data.custom": ["CustomTest", "CustomTrain"],
    "taming.data.faceshq": [
        "CelebAHQTrain",
        "CelebAHQValidation",
        "FFHQTrain",
        "FFHQValidation",
        "FacesHQTrain",
        "FacesHQValidation",
    ],
    "taming.data.imagenet": [
        "ImageNetTrain",
        "ImageNetValidation",
        "ImagePaths",
        "download",
        "give_synsets_from_indices",
        "retrieve",
        "str_to_indices",
    ],
    "taming.data.sflckr": ["Examples", "SegmentationBase"],
}

# What `from taming.modules.losses.vqperceptual import *` gave besides.
TORCH = ["F", "nn", "torch"]

MOVED_PAIRS = [(module, name) for module, names in MOVED.items() for name in names]
PAIRS = MOVED_PAIRS + [(module, name) for module, names in STAYED.items() for name in names]
ONE = "taming.models.vqgan"


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_every_published_name_imports(module: str, name: str) -> None:
    space: dict[str, Any] = {}
    exec(f"from {module} import {name}", space)
    assert callable(space[name])


@pytest.mark.parametrize(("module", "name"), MOVED_PAIRS)
def test_an_old_name_is_the_object_of_its_new_home(module: str, name: str) -> None:
    home, _, new = _old_paths.OLD_PATHS[module][name].partition(":")
    assert (
        getattr(importlib.import_module(module), name) is vars(importlib.import_module(home))[new]
    )


@pytest.mark.parametrize(("module", "name"), [pair for pair in PAIRS if pair[1][0].isupper()])
def test_every_published_class_is_a_target(module: str, name: str) -> None:
    assert get_obj_from_str(f"{module}.{name}") is getattr(importlib.import_module(module), name)


def test_every_entry_of_the_table_leads_somewhere() -> None:
    for names in _old_paths.OLD_PATHS.values():
        for home in names.values():
            _old_paths.resolve(home)


def test_old_packages_have_no_folder() -> None:
    assert not {"models", "modules"} & {path.name for path in (ROOT / "taming").iterdir()}


def test_the_table_hides_no_module_on_disk() -> None:
    for name in _old_paths.OLD_PATHS:
        path = ROOT / name.replace(".", "/")
        assert not path.exists()
        assert not path.with_suffix(".py").exists()


# --- ways to import -------------------------------------------------------------------------------


def test_a_star_brings_what_it_brought() -> None:
    space: dict[str, Any] = {}
    exec("from taming.modules.losses.vqperceptual import *", space)
    assert {*MOVED["taming.modules.losses.vqperceptual"], *TORCH} <= set(space)
    assert space["F"] is importlib.import_module("torch.nn.functional")


def test_dir_lists_the_names() -> None:
    assert set(MOVED[ONE]) <= set(dir(importlib.import_module(ONE)))
    assert "losses" in dir(importlib.import_module("taming.modules"))


def test_pickled_references_by_old_path_load() -> None:
    reference = f"c{ONE}\nVQModel\n.".encode()
    assert pickle.loads(reference) is get_obj_from_str("taming.first_stage.vqgan.VQModel")


def test_a_module_can_be_reloaded() -> None:
    module = importlib.import_module(ONE)
    assert importlib.reload(module).VQModel is get_obj_from_str(f"{ONE}.VQModel")


@pytest.mark.parametrize("name", ["VQModl", "__path__"])
def test_a_name_that_never_was_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=name):
        getattr(importlib.import_module(ONE), name)


def test_modules_that_never_were_are_not_found() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("taming.modules.attention")


def python(program: str, folder: Path = ROOT, **variables: str) -> Any:
    """Runs a program in a fresh interpreter, in `folder`; its last line is read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_parents_know_their_submodules() -> None:
    program = "import json, taming; print(json.dumps(taming.modules.losses.lpips.__name__))"
    assert python(program) == "taming.modules.losses.lpips"


def test_an_old_module_imports_nothing_until_a_name_is_used() -> None:
    program = (
        "import json, sys, taming.modules.losses.vqperceptual, main;"
        "print(json.dumps(sorted({'torch', 'numpy', 'pytorch_lightning'} & set(sys.modules))))"
    )
    assert python(program) == []


def test_a_folder_that_another_distribution_left_is_not_what_is_imported(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models/vqgan.py").write_text("open('ran', 'w').close()\nVQModel = None\n")
    program = (
        f"import json, taming; taming.__path__.append({str(tmp_path)!r})\n"
        f"from {ONE} import VQModel; print(json.dumps(VQModel.__module__))"
    )
    assert python(program, tmp_path) == "taming.first_stage.vqgan"
    assert not (tmp_path / "ran").exists()


# --- main -----------------------------------------------------------------------------------------

WHOSE_MAIN = """
import json, sys
import taming
before = sys.modules["__main__"]
import main
assert sys.modules["__main__"] is before is not main
print(json.dumps(getattr(main, "whose", "ours")))
"""


def test_main_is_ours_where_there_is_no_other(tmp_path: Path) -> None:
    assert python(WHOSE_MAIN, tmp_path) == "ours"


def test_a_main_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("whose = 'theirs'\n")
    assert python(WHOSE_MAIN, tmp_path) == "theirs"


@pytest.mark.parametrize("name", ["DataModuleFromConfig", "nothing", "os.path"])
def test_a_target_in_main_never_imports_a_strangers_main(tmp_path: Path, name: str) -> None:
    (tmp_path / "main.py").write_text(
        "open('ran', 'w').close()\nDataModuleFromConfig = nothing = print\n"
    )
    program = (
        "import json\nfrom taming.config import get_obj_from_str\n"
        f"try: print(json.dumps(get_obj_from_str('main.{name}').__module__))\n"
        "except ValueError as error: print(json.dumps(type(error).__name__))"
    )
    is_ours = name == "DataModuleFromConfig"
    expected = "taming.training.published_data" if is_ours else "ConfigError"
    assert python(program, tmp_path) == expected
    assert not (tmp_path / "ran").exists()


# --- targets and warnings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (f"{ONE}.VQModl", "did you mean 'VQModel'"),
        ("taming.models.vqgn.VQModel", "did you mean 'vqgan'"),
        ("taming.modls.vqgan.VQModel", "did you mean 'models'"),
        ("main.DataModule", "did you mean 'DataModuleFromConfig'"),
    ],
)
def test_a_misspelt_old_target_names_the_nearest(target: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_obj_from_str(target)


@pytest.mark.parametrize("name", TORCH)
def test_an_old_target_builds_no_more_than_a_new_one(name: str) -> None:
    with pytest.raises(ConfigError, match="may"):
        get_obj_from_str(f"taming.modules.losses.vqperceptual.{name}")


def test_a_warning_names_the_new_path_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(_old_paths.WARN_VARIABLE, "1")
    expected = r"taming\.models\.vqgan\.VQModel .*taming\.first_stage\.vqgan\.VQModel"
    module = importlib.reload(importlib.import_module(ONE))
    vars(module).pop("VQModel", None)
    with pytest.warns(FutureWarning, match=expected) as caught:
        _ = module.VQModel
    assert caught[0].filename == __file__
    with pytest.warns(FutureWarning, match=expected):
        get_obj_from_str(f"{ONE}.VQModel")
