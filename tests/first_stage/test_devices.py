"""Two processes train one discriminator: what it learns from a batch is that of both halves."""

import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from taming.first_stage.discriminator import ActNorm
from taming.first_stage.losses import VQLPIPSWithDiscriminator


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


def on_a_device(rank: int, port: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    half = slice(2 * rank, 2 * rank + 2)
    found = learned(pictures(0)[half], pictures(1)[half])
    dist.destroy_process_group()
    for mine, expected in zip(found, learned(pictures(0), pictures(1)), strict=True):
        torch.testing.assert_close(mine, expected)


def test_a_batch_in_halves_teaches_what_the_whole_one_does() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.start_processes(on_a_device, args=(port,), nprocs=2, start_method="spawn")
