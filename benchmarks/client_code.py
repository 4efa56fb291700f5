"""What people's code does with the published classes: the same lines run on both sides.

Each job takes a side, tensors and plain arguments, and returns tensors by name. A side finds a
published object by its published path, builds a model from a published config, and loads a file of
weights; whether it is the original or ours, the code here cannot tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tensors = dict[str, Tensor]


class Side(Protocol):
    def find(self, path: str) -> Any: ...
    def build(self, config: Mapping[str, Any]) -> Any: ...
    def load(self, model: nn.Module, path: str) -> None: ...


def gradients(module: nn.Module, prefix: str = "gradient of ") -> Tensors:
    """Of every parameter that has one."""
    grads = {f"{prefix}{name}": p.grad for name, p in module.named_parameters()}
    return {name: grad.clone() for name, grad in grads.items() if grad is not None}


ADVERSARIAL = ("train/d_weight", "train/g_loss")  # logged where the discriminator counts


@contextmanager
def noise(kind: str) -> Iterator[None]:
    """ "off": Gumbel noise is 0 everywhere; "seeded": the same draws on both sides."""
    if kind == "off":
        with mock.patch.object(torch.Tensor, "exponential_", lambda self, **_: self.fill_(1.0)):
            yield
    else:
        torch.manual_seed(0)
        yield


# --- first stage ---------------------------------------------------------------------------------


def first_stage(
    side: Side,
    tensors: Tensors,
    config: Mapping[str, Any],
    training: bool = False,
    noise_kind: str = "off",
    with_gradients: bool = True,
    with_lookup: bool = True,
) -> Tensors:
    """A model from its checkpoint; a picture to codes and back; gradients of all parameters."""
    model = side.build(config).train(training)
    with torch.set_grad_enabled(with_gradients), noise(noise_kind):
        z_q, loss, [_, _, indices] = model.encode(tensors["images"])
        decoded = model.decode(z_q)
    # Looking up changes its argument in the original.
    result = {"z_q": z_q, "loss": loss, "indices": indices.flatten().clone(), "decoded": decoded}
    if with_gradients:
        (decoded.square().mean() + loss).backward()
        result |= gradients(model)
    if with_lookup:
        b, c, h, w = z_q.shape
        result["entries"] = model.quantize.get_codebook_entry(indices.flatten(), shape=(b, h, w, c))
    if training:
        result |= {f"after: {name}": buffer for name, buffer in model.quantize.state_dict().items()}
    return result


def index_shape(side: Side, tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    with noise("off"):
        _, _, [_, _, indices] = side.build(config).eval().encode(tensors["images"])
    return {"indices": indices}


def quantizer(
    side: Side,
    tensors: Tensors,
    path: str,
    arguments: Sequence[Any],
    options: Mapping[str, Any],
) -> Tensors:
    """A quantizer, called positionally; both terms of its loss by their gradients."""
    module = side.find(path)(*arguments, **options)
    with torch.no_grad():
        module.embedding.weight.copy_(tensors["codes"])
    z = tensors["z"].clone().requires_grad_(True)
    z_q, loss, (_, _, indices) = module(z)
    result = {"z_q": z_q, "loss": loss, "indices": indices.flatten().clone()}
    (result["gradient of loss to z"],) = torch.autograd.grad(loss, z, retain_graph=True)
    (result["gradient of loss to codes"],) = torch.autograd.grad(
        loss, module.embedding.weight, retain_graph=True
    )
    (result["gradient of z_q to z"],) = torch.autograd.grad((z_q * tensors["probe"]).sum(), z)
    b, c, h, w = z_q.shape
    result["entries"] = module.get_codebook_entry(indices.flatten(), (b, h, w, c))
    return result


def players(side: Side, tensors: Tensors, config: Mapping[str, Any], step: int) -> Tensors:
    """Both losses of a training step, everything they log, and their gradients."""
    model = side.build(config).train()
    # In training the original drops half of the channels of its metric, unmeant; ours does not.
    model.loss.perceptual_loss.eval()
    images, cond = tensors["images"], tensors.get("cond")
    result: Tensors = {}
    reconstructions, codebook_loss = model(images)
    for number, name in ((0, "generator"), (1, "discriminator")):
        loss, logs = model.loss(
            codebook_loss,
            images,
            reconstructions,
            number,
            step,
            last_layer=model.get_last_layer(),
            cond=cond,
            split="train",
        )
        result[f"{name} loss"] = loss
        if number == 1 and float(loss.detach()) == 0:
            break  # before disc_start ours does not run the discriminator; theirs gets zeros
        loss.backward()
        if number == 0 and float(logs["train/disc_factor"]) == 0:
            logs = {key: logs[key] for key in logs if key not in ADVERSARIAL}
        trained = model.loss.discriminator if number == 1 else model
        result |= {**logs, **gradients(trained, f"{name}'s gradient of ")}
        model.zero_grad()
    # The generator's loss fills the discriminator's, too; no optimiser ever reads those.
    return {name: value for name, value in result.items() if "gradient of loss." not in name}


def validation(side: Side, tensors: Tensors, config: Mapping[str, Any], step: int) -> Tensors:
    model = side.build(config).eval()
    with torch.no_grad():
        reconstructions, codebook_loss = model(tensors["images"])
        _, logs = model.loss(
            codebook_loss,
            tensors["images"],
            reconstructions,
            0,
            step,
            last_layer=model.get_last_layer(),
            split="val",
        )
    return {"val/rec_loss": logs["val/rec_loss"], "val/total_loss": logs["val/total_loss"]}


def segmentation_loss(side: Side, tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """The published step of a label map's first stage."""
    model = side.build(config).train()
    # Once more: the original draws its colours anew after it has read those of the file.
    model.init_from_ckpt(config["params"]["ckpt_path"])
    labels = tensors["images"]
    predicted, codebook_loss = model(labels)
    loss, logs = model.loss(codebook_loss, labels, predicted, split="train")
    loss.backward()
    return {"loss": loss, "colours": model.to_rgb(labels), **logs, **gradients(model)}


def schedule(side: Side, tensors: Tensors, path: str, params: Mapping[str, Any]) -> Tensors:
    """A rate for every step."""
    rate = side.find(path)(**params)
    return {"rates": torch.tensor([rate(step) for step in tensors["steps"].tolist()])}


# --- second stage --------------------------------------------------------------------------------


def gpt(
    side: Side, tensors: Tensors, config: Mapping[str, Any], weights: str, prefix: int
) -> Tensors:
    """Logits, cross-entropy, gradients, and greedy samples with and without a cache."""
    model = side.build(config)
    side.load(model, weights)
    codes = tensors["codes"]
    logits, loss = model(codes[:, :-1], targets=codes[:, 1:].contiguous())
    loss.backward()
    result = {"logits": logits, "loss": loss, **gradients(model)}
    model.eval()
    start = codes[:, :prefix]
    steps = codes.shape[1] - prefix
    sample = side.find("taming.modules.transformer.mingpt.sample")
    sample_with_past = side.find("taming.modules.transformer.mingpt.sample_with_past")
    with torch.no_grad():
        embedded, _ = model(codes[:, 2:], embeddings=model.tok_emb(codes[:, :2]))
        filtered = sample_with_past(
            start, model, steps, temperature=0.7, sample_logits=True, top_k=1, top_p=1.0
        )
        result |= {
            "logits after embeddings": embedded,
            "sample": sample(model, start, steps),
            "sample_with_past": sample_with_past(start, model, steps, sample_logits=False),
            "sample_with_past, top_k 1": filtered,
        }
    return result


@noise("off")
def net2net(
    side: Side, tensors: Tensors, config: Mapping[str, Any], with_gradients: bool = True
) -> Tensors:
    """Picture and condition to codes, logits, loss, gradients, greedy samples, and a picture."""
    model = side.build(config).eval()
    x, c = tensors["images"], tensors["cond"]
    quant, codes = model.encode_to_z(x)
    _, prefix = model.encode_to_c(c)
    logits, target = model(x, c)
    loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), target.reshape(-1))
    if with_gradients:
        loss.backward()
    length = codes.shape[1]
    half, none = codes[:, : length // 2], codes[:, :0]
    # Trained on noise alone, a model is asked once; greedily the original then returns no codes.
    options = {"sample": True, "top_k": 1} if model.pkeep <= 0 else {}
    completed = model.sample(half, prefix, steps=length - length // 2, **options)
    sampled = model.sample(none, prefix, steps=length, temperature=0.9, **options)
    result = gradients(model.transformer)
    model.train()
    torch.manual_seed(0)  # the share of codes that training replaces
    trained, _ = model(x, c)
    return {
        **result,
        "logits in training": trained,
        "codes": codes,
        "prefix": prefix,
        "logits": logits,
        "target": target,
        "loss": loss,
        "completed": completed,
        "sampled": sampled,
        "picture": model.decode_to_img(codes, quant.shape),
    }


def batch(side: Side, tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    """Published batches are height x width x channels, as numpy made them."""
    model = side.build(config)
    x, c = model.get_xc({model.first_stage_key: tensors["x"], model.cond_stage_key: tensors["c"]})
    return {"x": x, "c": c}


def permuter(side: Side, tensors: Tensors, config: Mapping[str, Any]) -> Tensors:
    module = side.build(config)
    moved = module(tensors["codes"])
    return {
        "forward": moved,
        "there and back": module(moved, reverse=True),
        "backward": module(tensors["codes"], reverse=True),
        **module.state_dict(),
    }


# --- boxes ---------------------------------------------------------------------------------------


def boxes(
    side: Side,
    tensors: Tensors,
    path: str,
    builder: Mapping[str, Any],
    scenes: Sequence[Mapping[str, Any]],
) -> Tensors:
    """Tokens of annotations, cropped and flipped, and what the tokens tell."""
    build = side.find(path)(**builder)
    annotation = side.find("taming.data.helper_types.Annotation")
    result: Tensors = {}
    for number, scene in enumerate(scenes):
        crop = None if scene["crop"] is None else tuple(scene["crop"])
        objects = [annotation(**{**o, "bbox": tuple(o["bbox"])}) for o in scene["objects"]]
        # The original shuffles objects with Python's global random numbers; ours when asked to.
        with mock.patch("random.shuffle"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some scenes have more objects than fit
            tokens = build.build(objects, crop, scene["flip"])
        told, told_crop = build.inverse_build(tokens)
        result[f"tokens {number}"] = tokens
        result[f"classes {number}"] = torch.tensor([name for name, _ in told])
        result[f"places {number}"] = torch.tensor([place for _, place in told])
        if told_crop is not None:
            result[f"crop {number}"] = torch.tensor(told_crop)
    return result


JOBS: dict[str, Callable[..., Tensors]] = {
    job.__name__: job
    for job in (
        first_stage,
        index_shape,
        quantizer,
        players,
        validation,
        segmentation_loss,
        schedule,
        gpt,
        net2net,
        batch,
        permuter,
        boxes,
    )
}
