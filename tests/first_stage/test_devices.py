"""Two processes train one discriminator, one codebook: what is learned is that of both batches."""

import socket
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from taming.first_stage.discriminator import ActNorm
from taming.first_stage.losses import VQLPIPSWithDiscriminator
from taming.first_stage.quantize import VectorQuantizer


def pictures(seed: int) -> Tensor:
    """(4, 3, 8, 8), the second half brighter."""
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return images + torch.tensor([0.0, 0.0, 2.0, 2.0])[:, None, None, None]


def learned(images: Tensor, reconstructions: Tensor) -> list[Tensor]:
    """What stays of a batch: the norm's shift and scale, and the means of the logits."""
    torch.manual_seed(0)
    norm = ActNorm(3)
    norm(images)
    loss = VQLPIPSWithDiscriminator(
        0, perceptual_weight=0.0, disc_ndf=4, disc_num_layers=1, lecam_weight=1.0, use_actnorm=True
    )
    loss.discriminator_loss(images, reconstructions, 0)
    return [norm.loc.detach(), norm.scale.detach(), loss.lecam_real, loss.lecam_fake]


def restarted(features: Tensor, usage: Tensor | None = None) -> list[Tensor]:
    """Usage (V,) by these, and the codes (V, D) once those dead by it have moved onto them."""
    torch.manual_seed(0)
    quantizer = VectorQuantizer(64, 3, usage_decay=0.0)
    quantizer(features)
    if usage is not None:
        quantizer.usage.copy_(usage)
    counted = quantizer.usage.clone()
    quantizer.restart_dead(torch.Generator().manual_seed(0))
    return [counted, quantizer.embedding.weight.detach()]


def halves_of_a_batch(rank: int) -> list[Tensor]:
    half = slice(2 * rank, 2 * rank + 2)
    return learned(pictures(0)[half], pictures(1)[half])


def batches_of_unequal_size(rank: int) -> list[Tensor]:
    return restarted(pictures(0)[:3, :, :2] if rank == 0 else pictures(0)[3:, :, :2])


def on_a_device(
    rank: int, port: int, learn: Callable[[int], list[Tensor]], expected: list[Tensor]
) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    found = learn(rank)
    dist.destroy_process_group()
    for mine, each in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, each)


def on_two_devices(learn: Callable[[int], list[Tensor]], expected: list[Tensor]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(on_a_device, args=(port, learn, expected), nprocs=2, start_method="spawn")


def test_a_batch_in_halves_teaches_what_the_whole_one_does() -> None:
    on_two_devices(halves_of_a_batch, learned(pictures(0), pictures(1)))


def test_codes_restart_alike_from_batches_of_unequal_size() -> None:
    """Each device sent as many rows as it had, and waited for as many as that."""
    usage, _ = restarted(pictures(0)[:, :, :2])
    assert int((usage == 0).sum()) > 16  # more than the second device has features
    _, codes = restarted(pictures(0)[:3, :, :2], usage)
    on_two_devices(batches_of_unequal_size, [usage, codes])
