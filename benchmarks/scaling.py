"""Time against the size of a picture and the number of pictures, for the figure.

Decoding and encoding with the published f16 model, sampling with the published 305M GPT. The
original's sampler runs its whole network for every code, 256 times for a picture: one such pass at
the middle length is timed, and counted as often as there are codes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import Context, Curve
from benchmarks.published_sizes import F16, GPT, PREFIX
from taming.first_stage.prepared import PreparedFirstStage
from taming.first_stage.vqgan import VQModel
from taming.sampling.filters import Filters
from taming.transformer import gpt
from taming.transformer.gpt_decoder import GPTDecoder, PreparedGPT, continue_codes, pack_gpt

SIZES, BATCHES = (64, 128, 256, 512), (1, 2, 4, 8)  # pixels; pictures
F = 16  # pixels a code, one side
SMALL = 128  # pixels, of the panels against the number of pictures
BY_SIZE, BY_BATCH = "picture, px", "pictures"
ORIGINAL = "original, float32"
Make = Callable[[int, int], tuple[Callable[[], object], int]]  # (pixels, pictures) -> work, times


def curves(context: Context) -> list[Curve]:
    panels = [*first_stage(context), sampling(context)]
    found: list[Curve] = []
    for work, sides in panels:
        context.report(f"figure: {work}")
        # Every code needs the whole prefix, and a sequence ends with the codes of 256 px.
        sizes = [size for size in SIZES if work != SAMPLING or size <= 256]
        by_size = [(size, 1) for size in sizes]
        found += measured(context, work, BY_SIZE, sides, by_size, sizes)
    for work, sides in panels:
        context.report(f"figure: {work} of several pictures")
        by_batch = [(SMALL, batch) for batch in BATCHES]
        title = f"{work}, {SMALL} px"
        found += measured(context, title, BY_BATCH, sides, by_batch, list(BATCHES))
    return found


def measured(
    context: Context,
    work: str,
    against: str,
    sides: dict[str, Make],
    points: list[tuple[int, int]],  # (pixels, pictures)
    x: list[int],
) -> list[Curve]:
    """Sides in turn at every point: what the machine does besides meets all of them."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    for size, batch in points:
        # The large ones are long enough to be measured once.
        is_long = size * size * batch >= 2 * 256 * 256 or work.startswith(SAMPLING)
        for side, make in sides.items():
            call, times = make(size, batch)
            once = context.median(call, 1 if is_long else 2, warmup=not is_long)
            taken[side].append(times * once)
    return [Curve(work, against, side, x, times) for side, times in taken.items()]


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
        sides[f"ours, {name}"] = our_codes(PreparedGPT(model))
    return SAMPLING, sides


def condition(batch: int) -> Tensor:
    return torch.randint(GPT["vocab_size"], (batch, PREFIX))


def our_codes(model: PreparedGPT) -> Make:
    def make(size: int, batch: int) -> tuple[Callable[[], object], int]:
        prefix, filters = condition(batch), Filters(0.0)

        def work() -> Tensor:
            return continue_codes(GPTDecoder(model, prefix), prefix[:, :0], codes(size), filters)

        return work, 1

    return make


def their_passes(context: Context) -> Make:
    def make(size: int, batch: int) -> tuple[Callable[[], object], int]:
        middle = torch.randint(GPT["vocab_size"], (batch, PREFIX + codes(size) // 2))
        return context.theirs("peer_scaling:forward", {"codes": middle}), codes(size)

    return make


def codes(size: int) -> int:
    return (size // F) ** 2
