"""What is compared with the original, as data: jobs of `client_code`, tensors, and configs.

The configs are the published ones in layout and targets, and small: a few thousand weights show
the same mistakes as ninety million. Only the last case has the size of a published model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Config = dict[str, Any]

V, D = 32, 8  # codes and their dimensions
SIDE = 32  # pixels, but for pictures that only need codes
LOSSES = "taming.modules.losses."
PERMUTERS = (
    "Identity",
    "Subsample",
    "ZCurve",
    "SpiralOut",
    "SpiralIn",
    "Random",
    "AlternateParsing",
)


class Case(NamedTuple):
    what: str
    job: str
    tensors: dict[str, Tensor]
    arguments: dict[str, Any]  # with "config", the peer first writes a checkpoint of that model
    peer: str = "rom1504"
    form: str = "zip"  # of the checkpoint: "zip", "pickle" (torch before 1.6), or "run": a folder


def section(target: str, **params: Any) -> Config:
    return {"target": target, "params": params}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(batch: int = 2, side: int = SIDE, channels: int = 3) -> Tensor:
    return torch.rand(batch, channels, side, side, generator=generator()) * 2 - 1


def label_maps(classes: int, batch: int = 2, side: int = SIDE) -> Tensor:
    """One plane a class, as the published data sets give them."""
    labels = torch.randint(classes, (batch, side // 4, side // 4), generator=generator(1))
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    return torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


# --- first stage ---------------------------------------------------------------------------------

DUMMY = section(f"{LOSSES}DummyLoss")


def vqgan(
    name: str = "VQModel", loss: Config = DUMMY, channels: int = 3, f: int = 4, **params: Any
) -> Config:
    ddconfig = {
        "double_z": False,
        "z_channels": D,
        "resolution": SIDE,
        "in_channels": channels,
        "out_ch": channels,
        "ch": 32,
        "ch_mult": [1] * f.bit_length(),
        "num_res_blocks": 1,
        "attn_resolutions": [SIDE // 2],
        "dropout": 0.0,
    }
    params = {"ddconfig": ddconfig, "lossconfig": loss, "n_embed": V, "embed_dim": D, **params}
    return section(f"taming.models.vqgan.{name}", **params)


def adversarial(**params: Any) -> Config:
    return section(
        f"{LOSSES}vqperceptual.VQLPIPSWithDiscriminator",
        **{"disc_start": 0, "disc_ndf": 16, "disc_num_layers": 2, **params},
    )


def first_stages(folder: str) -> Iterator[Case]:
    every, some = f"{folder}/every.npy", f"{folder}/some.npy"
    order = torch.randperm(V, generator=generator(2)).numpy()
    np.save(every, order)
    np.save(some, order[: V // 2])
    images = {"images": pictures()}

    yield Case("VQModel", "first_stage", images, {"config": vqgan()})
    yield Case("VQModel, remap", "first_stage", images, {"config": vqgan(remap=every)})
    yield Case("VQModel, shape of indices", "index_shape", images, {"config": vqgan()})
    sane = vqgan(sane_index_shape=True)
    yield Case("VQModel, sane_index_shape", "index_shape", images, {"config": sane})
    no_disc = vqgan("VQNoDiscModel")
    yield Case("VQNoDiscModel", "first_stage", images, {"config": no_disc})
    ema = {"config": vqgan("EMAVQ"), "with_lookup": False}  # the original cannot look up
    yield Case("EMAVQ", "first_stage", images, ema, "hugf")
    yield Case("EMAVQ, a training step", "first_stage", images, {**ema, "training": True}, "hugf")
    yield Case("GumbelVQ, no noise", "first_stage", images, {"config": gumbel()})
    noisy = {"training": True, "noise_kind": "seeded"}
    yield Case("GumbelVQ, same noise", "first_stage", images, {"config": gumbel(), **noisy})
    yield Case("GumbelVQ, shape of indices", "index_shape", images, {"config": gumbel()})
    remapped = {"config": gumbel(remap=some), **noisy}
    yield Case("GumbelVQ, remap", "first_stage", images, remapped)
    yield Case("VQSegmentationModel", "first_stage", {"images": label_maps(6)},
               {"config": segmentation()})  # fmt: skip
    yield Case("VQSegmentationModel, loss", "segmentation_loss", {"images": label_maps(6)},
               {"config": segmentation()})  # fmt: skip
    yield Case("VQModel, file older than torch 1.6", "first_stage", images,
               {"config": vqgan()}, form="pickle")  # fmt: skip
    arguments = {"config": vqgan(), "with_gradients": False}
    yield Case("VQModel, run directory", "first_stage", images, arguments, form="run")
    steps = {"warm_up_steps": 5, "max_decay_steps": 30, "lr_start": 0.1, "lr_max": 1.0,
             "lr_min": 0.01}  # fmt: skip
    arguments = {"path": "taming.lr_scheduler.LambdaWarmUpCosineScheduler", "params": steps}
    yield Case("warm-up and cosine", "schedule", {"steps": torch.arange(40)}, arguments)
    yield from quantizers(some)
    yield from losses()


def gumbel(**params: Any) -> Config:
    temperature = section("taming.lr_scheduler.LambdaWarmUpCosineScheduler", warm_up_steps=0,
                          max_decay_steps=10, lr_start=1.0, lr_max=0.9, lr_min=0.1)  # fmt: skip
    params = {"temperature_scheduler_config": temperature, "kl_weight": 0.01, **params}
    return vqgan("GumbelVQ", **params)


def segmentation(**params: Any) -> Config:
    loss = section(f"{LOSSES}segmentation.BCELossWithQuant", codebook_weight=0.7)
    params = {"n_labels": 6, "image_key": "segmentation", **params}
    return vqgan("VQSegmentationModel", loss, 6, **params)


def quantizers(remap: str) -> Iterator[Case]:
    tensors = {
        "z": torch.randn(2, D, 4, 4, generator=generator(3)),
        "codes": torch.randn(V, D, generator=generator(4)),
        "probe": torch.randn(2, D, 4, 4, generator=generator(5)),
    }
    extra = {"remap": remap, "unknown_index": "extra"}
    for name, options in (
        ("VectorQuantizer", {}),
        ("VectorQuantizer2", {"legacy": True}),
        ("VectorQuantizer2", {"legacy": False}),
        ("VectorQuantizer2", extra),
        ("VectorQuantizer2", {**extra, "unknown_index": 3}),
    ):
        told = ", ".join(f"{k} {v}" for k, v in options.items() if k != "remap")
        path = f"taming.modules.vqvae.quantize.{name}"
        arguments = {"path": path, "arguments": [V, D, 0.25], "options": options}
        yield Case(f"{name} {told}".strip(), "quantizer", tensors, arguments)


def losses() -> Iterator[Case]:
    images = {"images": pictures()}
    conditional = {**images, "cond": pictures(channels=2)}
    for what, tensors, params, step in (
        ("losses, before disc_start", images, {"disc_start": 10}, 9),
        ("losses, hinge", images, {"disc_weight": 0.8, "codebook_weight": 0.5}, 0),
        ("losses, vanilla", images, {"disc_loss": "vanilla", "disc_factor": 0.7}, 0),
        ("losses, three layers", images, {"disc_num_layers": 3, "perceptual_weight": 0.5}, 0),
        ("losses, ActNorm", images, {"use_actnorm": True}, 0),
        ("losses, conditional", conditional, {"disc_conditional": True, "disc_in_channels": 5}, 0),
    ):
        arguments = {"config": vqgan(loss=adversarial(**params)), "step": step}
        yield Case(what, "players", tensors, arguments)
    arguments = {"config": vqgan(loss=adversarial()), "step": 1}
    yield Case("losses, validation", "validation", images, arguments)


# --- second stage --------------------------------------------------------------------------------


def transformer(block_size: int, **params: Any) -> Config:
    sizes = {"vocab_size": V, "block_size": block_size, "n_layer": 2, "n_head": 2, "n_embd": 32}
    return section("taming.modules.transformer.mingpt.GPT", **{**sizes, **params})


def net2net(cond_stage: Config | str, length: int, **params: Any) -> Config:
    return section(
        "taming.models.cond_transformer.Net2NetTransformer",
        transformer_config=transformer(length),
        first_stage_config=vqgan(),
        cond_stage_config=cond_stage,
        **params,
    )


def permuter(name: str) -> Config:
    path = "taming.modules.transformer.permuter"
    return section(f"{path}.{name}", **({} if name == "Identity" else {"H": 8, "W": 8}))


def second_stages() -> Iterator[Case]:
    codes = torch.randint(V, (2, 12), generator=generator(6))
    for what, params in (("GPT", {}), ("GPT, n_unmasked", {"n_unmasked": 5})):
        arguments = {"config": transformer(12, **params), "prefix": 5}
        yield Case(what, "gpt", {"codes": codes}, arguments)

    images = {"images": pictures()}  # 8 x 8 codes
    classes = {**images, "cond": torch.tensor([3, 11])}
    labelator = section("taming.modules.util.Labelator", n_classes=V)
    coordinates = section("taming.modules.misc.coord.CoordStage", n_embed=V - 1, down_factor=8)
    places = torch.rand(2, 1, SIDE, SIDE, generator=generator(7))
    depth = vqgan(channels=1, f=8, sane_index_shape=True)
    kinds: list[tuple[str, Tensor, Config | str, int, Config]] = [
        ("class", classes["cond"], labelator, 65, {"cond_stage_key": "class"}),
        ("start token", images["images"], "__is_unconditional__", 65, {"sos_token": 5}),
        ("unconditional: true", images["images"], labelator, 65, {"unconditional": True}),
        ("coordinates", places, coordinates, 80, {"cond_stage_key": "coord"}),
        ("depth VQ", pictures(channels=1), depth, 80, {}),
        ("depth VQ, scaled down", pictures(channels=1), depth, 80, {"downsample_cond_size": 16}),
        ("label map VQ", label_maps(6), segmentation(sane_index_shape=True), 128,
         {"cond_stage_key": "segmentation"}),
        ("pkeep 0.5", images["images"], "__is_unconditional__", 65, {"pkeep": 0.5}),
        ("pkeep 0", pictures(channels=1), vqgan(channels=1, sane_index_shape=True), 128,
         {"pkeep": 0.0}),
    ]  # fmt: skip
    for what, cond, stage, length, params in kinds:
        tensors = {**images, "cond": cond}
        config = net2net(stage, length, **params)
        yield Case(f"Net2Net, {what}", "net2net", tensors, {"config": config})
    config = net2net("__is_first_stage__", 128)
    config["params"]["first_stage_config"] = vqgan(sane_index_shape=True)
    tensors = {**images, "cond": pictures().flip(-1)}
    yield Case("Net2Net, first stage reads both", "net2net", tensors, {"config": config})
    arguments = {"config": net2net(labelator, 65), "with_gradients": False}
    yield Case("Net2Net, run directory", "net2net", classes, arguments, form="run")
    config = net2net(labelator, 65)
    config["params"]["first_stage_config"] = gumbel()
    yield Case("Net2Net, Gumbel codes", "net2net", classes, {"config": config})
    for name in PERMUTERS:
        order = torch.arange(64).expand(2, -1)
        yield Case(f"permuter {name}", "permuter", {"codes": order}, {"config": permuter(name)})
        config = net2net(labelator, 65, permuter_config=permuter(name))
        yield Case(f"Net2Net, {name}", "net2net", classes, {"config": config})
    yield from batches(labelator)
    config = net2net(section("taming.models.dummy_cond_stage.DummyCondStage",
                             conditional_key="objects_bbox"), 76)  # fmt: skip
    tensors = {**images, "cond": torch.randint(V, (2, 12), generator=generator(8))}
    yield Case("Net2Net, boxes", "net2net", tensors, {"config": config}, "hugf")


def batches(labelator: Config) -> Iterator[Case]:
    numbers = pictures().movedim(1, -1).contiguous()
    for what, cond, key in (
        ("class", torch.tensor([3, 11]), "class"),
        ("picture", numbers.flip(1), "depth"),
        ("plane", numbers[..., 0].double().contiguous(), "depth"),
    ):
        config = net2net(labelator, 65, cond_stage_key=key)
        tensors = {"x": numbers, "c": cond}
        yield Case(f"Net2Net, batch with a {what}", "batch", tensors, {"config": config})


# --- boxes, windows, and the published size ------------------------------------------------------


def boxes() -> Iterator[Case]:
    rng = np.random.default_rng(0)
    scenes = []
    for number in range(20):
        objects = []
        for _ in range(int(rng.integers(1, 8))):
            x, y = rng.uniform(0, 0.8, 2)
            marks = {f"is_{name}": bool(rng.integers(2))
                     for name in ("group_of", "occluded", "depiction", "inside")}  # fmt: skip
            size = [float(rng.uniform(0.05, 1 - x)), float(rng.uniform(0.05, 1 - y))]
            bbox = [float(x), float(y), *size]
            objects.append({"area": 1.0, "image_id": "0", "bbox": bbox, "category_id": "0",
                            "category_no": int(rng.integers(10)), **marks})  # fmt: skip
        crop = [0.1, 0.2, 0.7, 0.6] if number % 2 else None
        scenes.append({"objects": objects, "crop": crop, "flip": number % 3 == 0})
    for name in ("objects_bbox.ObjectsBoundingBox", "objects_center_points.ObjectsCenterPoints"):
        for crops in (True, False):
            builder = {"no_object_classes": 10, "no_max_objects": 6, "no_tokens": 256,
                       "encode_crop": crops, "use_group_parameter": True,
                       "use_additional_parameters": crops}  # fmt: skip
            path = f"taming.data.conditional_builder.{name}ConditionalBuilder"
            arguments = {"path": path, "builder": builder, "scenes": scenes}
            told = f"{name.split('.')[0]}{', crop' if crops else ''}"
            yield Case(f"boxes, {told}", "boxes", {}, arguments, "hugf")


def windows() -> Iterator[Case]:
    """A grid of 12 x 10 cells, painted through windows of 4 x 4 beside a map of the same size."""
    coordinates = section("taming.modules.misc.coord.CoordStage", n_embed=V - 1, down_factor=4)
    places = torch.rand(1, 1, 48, 40, generator=generator(9))
    known = torch.randint(V, (1, 12, 10), generator=generator(10))
    known[:, 3:] = -1
    config = net2net(coordinates, 32, cond_stage_key="coord")
    arguments = {"config": config, "window": 4}
    yield Case("16x16 window rule", "windows", {"cond": places, "known": known}, arguments)


def published_size() -> Iterator[Case]:
    config = vqgan()
    ddconfig = {"double_z": False, "z_channels": 256, "resolution": 256, "in_channels": 3,
                "out_ch": 3, "ch": 128, "ch_mult": [1, 1, 2, 2, 4], "num_res_blocks": 2,
                "attn_resolutions": [16], "dropout": 0.0}  # fmt: skip
    config["params"] |= {"ddconfig": ddconfig, "n_embed": 1024, "embed_dim": 256}
    arguments = {"config": config, "with_gradients": False}
    yield Case("VQGAN f16, 256 px", "first_stage", {"images": pictures(1, 256)}, arguments)


def cases(folder: str) -> list[Case]:
    """All of them; `folder` takes the files that configs name."""
    found = [first_stages(folder), second_stages(), boxes(), windows(), published_size()]
    return [case for some in found for case in some]
