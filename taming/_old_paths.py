"""Where the modules and names of CompVis taming-transformers live now.

`OLD_PATHS` is the one table: old module -> old name -> new home. From it come modules that exist
in no folder: `from taming.models.vqgan import VQModel`, `import *`, `importlib.import_module` and
pickled references to classes all yield the object of the new path itself. Targets in YAML are
translated by the same table (`new_target`). Modules whose path has not changed, such as
`taming.data.imagenet`, are not listed. Knows no class: a home is imported when its name is used.

`main` was a script beside the package that other projects import too, and a frequent name. Ours is
found only where Python finds no other; a target `main.Name` in YAML always means ours.
"""

import importlib
import os
import sys
import types
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from typing import Any

WARN_VARIABLE = "TAMING_WARN_OLD_PATHS"
MAIN = "main"


def _in(home: str, *names: str, **renamed: str) -> dict[str, str]:
    """Entries of names that live in `home`; `old=new` where the name has changed as well."""
    return {old: f"{home}:{new}" for old, new in {**{n: n for n in names}, **renamed}.items()}


_TORCH = {"torch": "torch", "nn": "torch.nn", "F": "torch.nn.functional"}  # what `import *` gave
_QUANTIZERS = {
    **_in("taming.first_stage.quantize", "VectorQuantizer2", "EmbeddingEMA"),
    **_in(
        "taming.first_stage.quantize_published",
        "VectorQuantizer",
        "GumbelQuantize",
        "EMAVectorQuantizer",
    ),
}
_DISCRIMINATOR = _in("taming.first_stage.discriminator", "NLayerDiscriminator", "weights_init")
_OBJECTS = _in(
    "taming.data.objects",
    "Annotation",
    "BoundingBox",
    "Category",
    "CropMethodType",
    "Image",
    "ImageDescription",
    "SplitType",
)
# Programs called them with configs of their own, which name their own packages.
_TRUSTED = _in(
    "taming.config",
    get_obj_from_str="get_trusted",
    instantiate_from_config="instantiate_trusted",
)
_MAIN = {
    **_TRUSTED,
    **_in("taming.training.published_data", "DataModuleFromConfig", "WrappedDataset"),
    **_in("taming.training.published_callbacks", "ImageLogger", "SetupCallback"),
}

OLD_PATHS: dict[str, dict[str, str]] = {
    MAIN: _MAIN,
    "taming.main": _MAIN,
    "taming.util": {
        **_in("taming.data.download", "download", "retrieve", "get_ckpt_path", "md5_hash"),
        **_in("taming.data.download", "URL_MAP", "CKPT_MAP", "MD5_MAP", "KeyNotFoundError"),
        **_TRUSTED,
    },
    "taming.lr_scheduler": _in("taming.training.schedules", "LambdaWarmUpCosineScheduler"),
    "taming.models": {},
    "taming.models.vqgan": {
        **_in("taming.first_stage.vqgan", "VQModel", "GumbelVQ", "EMAVQ", "VQNoDiscModel"),
        **_in("taming.first_stage.segmentation", "VQSegmentationModel"),
        **_in("taming.first_stage.autoencoder", "Encoder", "Decoder"),
        **_in("taming.first_stage.quantize", VectorQuantizer="VectorQuantizer2"),
        **_in("taming.first_stage.quantize_published", "GumbelQuantize", "EMAVectorQuantizer"),
        **_in("taming.config", instantiate_from_config="instantiate_trusted"),
    },
    "taming.models.cond_transformer": {
        **_in("taming.transformer.net2net", "Net2NetTransformer"),
        **_in("taming.cond_stage.prefix_tokens", "SOSProvider"),
        **_in("taming.config", instantiate_from_config="instantiate_trusted"),
    },
    "taming.models.dummy_cond_stage": _in("taming.cond_stage.boxes", "DummyCondStage"),
    "taming.modules": {},
    "taming.modules.util": {
        **_in("taming.first_stage.discriminator", "ActNorm"),
        **_in("taming.cond_stage.prefix_tokens", "Labelator", "SOSProvider"),
    },
    "taming.modules.diffusionmodules": {},
    "taming.modules.diffusionmodules.model": _in(
        "taming.first_stage.autoencoder",
        "Encoder",
        "Decoder",
        "ResnetBlock",
        "AttnBlock",
        "Upsample",
        "Downsample",
        "Normalize",
        "nonlinearity",
    ),
    "taming.modules.discriminator": {},
    "taming.modules.discriminator.model": {
        **_DISCRIMINATOR,
        **_in("taming.first_stage.discriminator", "ActNorm"),
    },
    "taming.modules.losses": _in("taming.first_stage.losses", "DummyLoss"),
    "taming.modules.losses.lpips": {
        **_in("taming.first_stage.perceptual", "LPIPS", "ScalingLayer", "NetLinLayer"),
        **_in("taming.first_stage.perceptual", "normalize_tensor", "spatial_average"),
        **_in("taming.first_stage.perceptual", vgg16="VGG16"),
        **_in("taming.data.download", "get_ckpt_path"),
    },
    "taming.modules.losses.segmentation": _in(
        "taming.first_stage.segmentation", "BCELoss", "BCELossWithQuant"
    ),
    "taming.modules.losses.vqperceptual": {
        **_TORCH,
        **_in("taming.first_stage.perceptual", "LPIPS"),
        **_DISCRIMINATOR,
        **_in("taming.first_stage.losses", "DummyLoss", "VQLPIPSWithDiscriminator"),
        **_in("taming.first_stage.losses", "adopt_weight", "hinge_d_loss", "vanilla_d_loss"),
    },
    "taming.modules.misc": {},
    "taming.modules.misc.coord": _in("taming.cond_stage.coord", "CoordStage"),
    "taming.modules.transformer": {},
    "taming.modules.transformer.mingpt": {
        **_in("taming.transformer.gpt", "GPT", "GPTConfig", "Block", "CausalSelfAttention"),
        **_in("taming.transformer.gpt_decoder", "sample", "sample_with_past"),
    },
    "taming.modules.transformer.permuter": _in(
        "taming.transformer.permuter",
        "AbstractPermuter",
        "Identity",
        "Subsample",
        "ZCurve",
        "SpiralOut",
        "SpiralIn",
        "Random",
        "AlternateParsing",
    ),
    "taming.modules.vqvae": {},
    "taming.modules.vqvae.quantize": _QUANTIZERS,
    "taming.data.utils": {
        **_in("taming.data.unpacking", "is_prepared", "mark_prepared", "custom_collate", "unpack"),
        **_in("taming.data.unpacking", "get_root", "download_url", "download_urls"),
        **_in("taming.data.unpacking", "quadratic_crop"),
    },
    "taming.data.helper_types": _OBJECTS,
    "taming.data.conditional_builder": {},
    "taming.data.conditional_builder.objects_bbox": _in(
        "taming.cond_stage.boxes", "ObjectsBoundingBoxConditionalBuilder"
    ),
    "taming.data.conditional_builder.objects_center_points": _in(
        "taming.cond_stage.boxes", "ObjectsCenterPointsConditionalBuilder"
    ),
    "taming.data.conditional_builder.utils": {
        **_in("taming.data.objects", "FULL_CROP", "BoundingBox", "Annotation", "pad_list"),
        **_in("taming.data.objects", "intersection_area", "horizontally_flip_bbox"),
        **_in("taming.data.objects", "absolute_bbox", "rescale_annotations", "filter_annotations"),
        **_in("taming.data.object_codes", "COLOR_PALETTE", "BLACK", "WHITE"),
        **_in("taming.data.object_codes", "GRAY_25", "GRAY_50", "GRAY_75"),
        **_in("taming.data.object_codes", "additional_parameters_string"),
        **_in("taming.data.object_codes", "get_plot_font_size", "get_circle_size"),
        **_in("taming.data.annotated_objects_dataset", "load_object_from_string"),
    },
    "taming.data.image_transforms": _in(
        "taming.data.object_crops",
        "CenterCropReturnCoordinates",
        "Random2dCropReturnCoordinates",
        "RandomCrop1dReturnCoordinates",
        "RandomHorizontalFlipReturn",
        "convert_pil_to_tensor",
    ),
    "taming.data.open_images_helper": _in(
        "taming.data.open_images",
        "open_images_unify_categories_for_coco",
        "top_300_classes_plus_coco_compatibility",
    ),
}


def new_target(path: str) -> str | None:
    """The dotted path that an old `package.module.Name` has now; None if its module is not old.

    A name that the old module never had is a KeyError.
    """
    module, _, name = path.rpartition(".")
    if module not in OLD_PATHS:
        return None
    home = OLD_PATHS[module][name]
    _warn(module, name, home, stacklevel=4)
    return home.replace(":", ".")


def submodules(package: str) -> list[str]:
    """Last words of the old modules directly inside `package`."""
    inside = (name.rpartition(".") for name in OLD_PATHS)
    return [last for parent, dot, last in inside if dot and parent == package]


def install() -> None:
    """Makes the old modules importable, once."""
    if any(isinstance(finder, OldPathFinder) for finder in sys.meta_path):
        return
    # In front: a second distribution that leaves `taming/models/` here must not bring in classes
    # that look like ours. `main` comes last, after everything else that has this name.
    sys.meta_path.insert(0, OldPathFinder([name for name in OLD_PATHS if name != MAIN]))
    sys.meta_path.append(OldPathFinder([MAIN]))


class OldPathFinder:
    """Finds the old modules of these names, on no disk."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: types.ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname not in self.names:
            return None
        # Not derived from importlib.abc.Loader, whose import takes longer than all of this.
        loader: Any = OldModuleLoader()
        is_package = bool(submodules(fullname))
        return ModuleSpec(fullname, loader, origin="old path", is_package=is_package)


class OldModuleLoader:
    """Fills a module whose names resolve when they are asked for, and then stay."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's own kind of module."""

    def exec_module(self, module: types.ModuleType) -> None:
        old = module.__name__
        homes, inside = OLD_PATHS[old], submodules(old)

        def get(name: str) -> Any:
            if name in inside:
                return importlib.import_module(f"{old}.{name}")
            if name not in homes:
                raise AttributeError(f"module '{old}' has no attribute '{name}'")
            _warn(old, name, homes[name], stacklevel=3)
            found = resolve(homes[name])
            setattr(module, name, found)
            return found

        def names() -> list[str]:
            return sorted({*vars(module), *homes, *inside})

        module.__doc__ = "Names of this old path, at home elsewhere; see taming._old_paths."
        vars(module).update(__all__=sorted(homes), __getattr__=get, __dir__=names)


def resolve(home: str) -> Any:
    """'module:Name' -> the object; 'module' -> the module."""
    module, _, name = home.partition(":")
    found = importlib.import_module(module)
    return getattr(found, name) if name else found


def _warn(module: str, name: str, home: str, stacklevel: int) -> None:
    if ":" in home and os.environ.get(WARN_VARIABLE, "0") not in ("", "0"):
        message = f"{module}.{name} is an old path; the new one is {home.replace(':', '.')}"
        warnings.warn(message, FutureWarning, stacklevel=stacklevel)
