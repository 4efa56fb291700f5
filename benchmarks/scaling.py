"""Time against the size of a picture and the number of pictures, for the figure.

Decoding and encoding with the published f16 model, sampling with the published 305M GPT: of both
sides one step at the middle length is timed, and counted as often as there are codes. A step of the
original's sampler runs its whole network over the whole sequence.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import Context, Curve, seconds
from benchmarks.published_sizes import F16, GPT, PREFIX
from benchmarks.rows_decode import step
from taming.first_stage.prepared import PreparedFirstStage
from taming.first_stage.vqgan import VQModel
from taming.transformer import gpt
from taming.transformer.gpt_decoder import PreparedGPT, pack_gpt

SIZES, BATCHES = (64, 128, 256, 512), (1, 2, 4)  # pixels; pictures
F = 16  # pixels a code, one side
SMALL = 128  # pixels, of the panels against the number of pictures
LONG = 0.5  # seconds
BY_SIZE, BY_BATCH = "picture, px", "pictures"
ORIGINAL = "original, float32"
Make = Callable[[int, int], tuple[Callable[[], object], int]]  # (pixels, pictures) -> work, times


def curves(context: Context) -> list[Curve]:
    found: tuple[list[Curve], list[Curve]] = ([], [])
    for work, sides in (*first_stage(context), sampling(context)):
        context.report(f"figure: {work}")
        # Every code needs the whole prefix, and a sequence ends with the codes of 256 px.
        sizes = [size for size in SIZES if work != SAMPLING or size <= 256]
        points = [(size, 1) for size in sizes] + [(SMALL, batch) for batch in BATCHES[1:]]
        taken = measured(context, sides, points)
        for side in sides:
            by_size = [taken[side, size, 1] for size in sizes]
            found[0].append(Curve(work, BY_SIZE, side, sizes, by_size))
            by_batch = [taken[side, SMALL, batch] for batch in BATCHES]
            found[1].append(Curve(f"{work}, {SMALL} px", BY_BATCH, side, [*BATCHES], by_batch))
    return found[0] + found[1]


def measured(
    context: Context,
    sides: dict[str, Make],
    points: list[tuple[int, int]],  # (pixels, pictures)
) -> dict[tuple[str, int, int], float]:
    """Seconds by (side, pixels, pictures); sides in turn at every point, so that what the machine
    does besides meets all of them."""
    taken: dict[tuple[str, int, int], float] = {}
    for size, batch in points:
        for side, make in sides.items():
            call, times = make(size, batch)
            once = seconds(call)
            if once < LONG:  # else it is long enough to be measured once
                once = context.median(call, 3, warmup=0)
            taken[side, size, batch] = times * once
    return taken


# --- first stage ---------------------------------------------------------------------------------


def first_stage(context: Context) -> list[tuple[str, dict[str, Make]]]:
    decoders: dict[str, Make] = {ORIGINAL: theirs(context, "decode", latents)}
    encoders: dict[str, Make] = {ORIGINAL: theirs(context, "encode", pictures)}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        model = PreparedFirstStage(VQModel(**F16).eval().to(dtype))
        decoders[f"ours, {name}"] = ours(model.decode, latents, dtype)
        encoders[f"ours, {name}"] = ours(model.indices, pictures, dtype)
    return [("decoding", decoders), ("encoding", encoders)]


def latents(size: int, batch: int) -> dict[str, Tensor]:
    return {"z_q": torch.randn(batch, F16["embed_dim"], size // F, size // F)}


def pictures(size: int, batch: int) -> dict[str, Tensor]:
    return {"images": torch.rand(batch, 3, size, size) * 2 - 1}


def ours(
    work: Callable[[Tensor], object],
    given: Callable[[int, int], dict[str, Tensor]],
    dtype: torch.dtype,
) -> Make:
    def make(size: int, batch: int) -> tuple[Callable[[], object], int]:
        (tensor,) = given(size, batch).values()
        tensor = tensor.to(dtype)
        return torch.inference_mode()(lambda: work(tensor)), 1

    return make


def theirs(context: Context, job: str, given: Callable[[int, int], dict[str, Tensor]]) -> Make:
    def make(size: int, batch: int) -> tuple[Callable[[], object], int]:
        return context.theirs(f"peer_scaling:{job}", given(size, batch)), 1

    return make


# --- second stage --------------------------------------------------------------------------------

SAMPLING = "sampling"


def sampling(context: Context) -> tuple[str, dict[str, Make]]:
    sides: dict[str, Make] = {ORIGINAL: their_passes(context)}
    for name in ("float32", "bf16", "int8"):
        model = gpt.GPT(**GPT).eval()
        if name != "float32":
            pack_gpt(model, name)
        sides[f"ours, {name}"] = our_steps(PreparedGPT(model))
    return SAMPLING, sides


def our_steps(model: PreparedGPT) -> Make:
    def make(size: int, batch: int) -> tuple[Callable[[], object], int]:
        return step(model, batch, PREFIX + codes(size) // 2), codes(size)

    return make


def their_passes(context: Context) -> Make:
    def make(size: int, batch: int) -> tuple[Callable[[], object], int]:
        middle = torch.randint(GPT["vocab_size"], (batch, PREFIX + codes(size) // 2))
        return context.theirs("peer_scaling:forward", {"codes": middle}), codes(size)

    return make


def codes(size: int) -> int:
    return (size // F) ** 2
