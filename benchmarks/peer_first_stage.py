"""What is timed of the original's first stage, in its own process: see `peer_timing`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from published_sizes import F16  # pyright: ignore[reportMissingImports]
from torch import Tensor

LOSSES = "taming.modules.losses"


def build(side: Any, weights: Mapping[str, Tensor], loss: dict[str, Any]) -> Any:
    config = {"target": "taming.models.vqgan.VQModel", "params": {**F16, "lossconfig": loss}}
    model = side.build(config)
    model.load_state_dict(weights)
    return model


def weights_among(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if "." in name}


def decode(side: Any, tensors: Mapping[str, Tensor]) -> Callable[[], object]:
    model = build(side, weights_among(tensors), {"target": f"{LOSSES}.DummyLoss"}).eval()
    return torch.no_grad()(lambda: {"picture": model.decode(tensors["z_q"])})


def encode(side: Any, tensors: Mapping[str, Tensor]) -> Callable[[], object]:
    model = build(side, weights_among(tensors), {"target": f"{LOSSES}.DummyLoss"}).eval()
    return torch.no_grad()(lambda: {"codes": model.encode(tensors["images"])[2][2]})


def train(side: Any, tensors: Mapping[str, Tensor], loss: dict[str, Any]) -> Callable[[], object]:
    """Steps of both players as the original's trainer made them: a forward pass for each.

    The first one is made with `smaller` images, where they are given, all others with `images`.
    """
    section = {"target": f"{LOSSES}.vqperceptual.VQLPIPSWithDiscriminator", "params": loss}
    model = build(side, weights_among(tensors), section).train()
    judge = list(model.loss.discriminator.parameters())
    own = {id(weight) for weight in model.loss.parameters()}
    autoencoder = [weight for weight in model.parameters() if id(weight) not in own]
    players = (autoencoder, judge)
    optimizers = [torch.optim.Adam(weights, lr=4.5e-6, betas=(0.5, 0.9)) for weights in players]

    def step(images: Tensor) -> None:
        for number, optimizer in enumerate(optimizers):
            # Its trainer let no gradients flow to who is not trained.
            for player, weights in enumerate(players):
                for weight in weights:
                    weight.requires_grad_(player == number)
            reconstructions, codebook_loss = model(images)
            value, _ = model.loss(
                codebook_loss,
                images,
                reconstructions,
                number,
                0,
                last_layer=model.get_last_layer(),
                split="train",
            )
            value.backward()
            optimizer.step()
            optimizer.zero_grad()

    # Not the tensors, among which the weights are: memory is measured while this lives.
    first, images = iter([tensors["smaller"]] if "smaller" in tensors else []), tensors["images"]
    return lambda: step(next(first, images))
