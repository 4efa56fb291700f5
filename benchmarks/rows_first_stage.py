"""The first stage beside the original, the published f16 model on both sides: decoding, encoding, a
training step with all of its losses, and the memory of training and of large pictures."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import fit
from benchmarks.harness import Context, Row, summarize
from benchmarks.published_sizes import F16
from taming.first_stage import prepared
from taming.first_stage.prepared import PreparedFirstStage
from taming.first_stage.vqgan import VQModel
from taming.training.settings import has_bf16_units

SIDE = 256  # pixels
LARGE = 2048  # pixels
PICTURES = 2  # where memory is measured
SMALLER = 64  # pixels of a first step, which makes the moments of the optimisers
F, V = 16, F16["n_embed"]
LOSS = {"disc_start": 0, "disc_weight": 0.8, "codebook_weight": 1.0}  # from the first step on
LOSS_CLASS = "taming.first_stage.losses.VQLPIPSWithDiscriminator"
# Operations of one picture of 256 px by these sizes: of its convolutions, 2 a multiplication;
# enlarging and convolving in one spares the decoder 27e9 more
DECODING, ENCODING = 226.0e9, 138.4e9
COLUMNS = {"rows": SIDE**2 // 4, "inner": 9 * 128, "columns": 128}  # of the widest convolutions


def rows(context: Context) -> Iterator[Row]:
    torch.manual_seed(0)
    model = VQModel(**F16).eval().requires_grad_(False)
    yield from decoding(context, model)
    yield encoding(context, model)
    del model
    yield training(context)
    yield training_memory(context)
    yield large(context)


# --- decoding and encoding -----------------------------------------------------------------------


def psnr(found: Tensor, expected: Tensor) -> float:
    """Of pictures in [-1, 1], in dB."""
    return float(10 * torch.log10(4 / (found.float() - expected).square().mean()))


def decoding(context: Context, model: VQModel) -> Iterator[Row]:
    context.report("published f16 decode")
    z_q = model.lookup(torch.randint(V, (1, SIDE // F, SIDE // F)))
    theirs = context.theirs("peer_first_stage:decode", {**model.state_dict(), "z_q": z_q})
    expected = None
    for precision, dtype, reach in (
        ("float32", torch.float32, 1.15),
        ("bf16", torch.bfloat16, 6.0),
    ):
        ours = PreparedFirstStage(copy.deepcopy(model).to(dtype))
        taken = context.paired(lambda ours=ours: ours.decode(z_q), theirs, repeats=3)
        expected = theirs.last["picture"] if expected is None else expected
        quality = psnr(ours.decode(z_q), expected)
        floor = context.floors.seconds_to_compute(DECODING, dtype, **COLUMNS)
        yield Row(
            name=f"published f16 decode at {SIDE} px, B=1, {precision}",
            **taken.columns(1e3),
            unit="ms",
            reach=reach,
            floor=floor * 1e3,
            note=f"PSNR to the original's float32 picture {quality:.1f} dB; "
            f"at the floor the ratio would be {taken.peer / floor:.1f}.",
        )
    theirs.close()


def encoding(context: Context, model: VQModel) -> Row:
    context.report("published f16 encode")
    images = torch.rand(1, 3, SIDE, SIDE) * 2 - 1
    theirs = context.theirs("peer_first_stage:encode", {**model.state_dict(), "images": images})
    ours = PreparedFirstStage(copy.deepcopy(model).bfloat16())
    half = images.bfloat16()
    taken = context.paired(lambda: ours.encode(half), theirs, repeats=3)
    equal = (ours.indices(half).flatten() == theirs.last["codes"].flatten()).float().mean()
    theirs.close()
    floor = context.floors.seconds_to_compute(ENCODING, torch.bfloat16, **COLUMNS)
    return Row(
        name=f"published f16 encode at {SIDE} px, B=1, bf16",
        **taken.columns(1e3),
        unit="ms",
        reach=5.0,
        floor=floor * 1e3,
        note=f"{equal:.1%} of the codes are those of the original in float32; "
        f"at the floor the ratio would be {taken.peer / floor:.1f}.",
    )


# --- training ------------------------------------------------------------------------------------


def trained_model() -> VQModel:
    torch.manual_seed(0)
    model = VQModel(**F16, lossconfig={"target": LOSS_CLASS, "params": LOSS})
    model.load_state_dict(model.state_dict())  # the metric counts as loaded: its weights are random
    return model


def noise(count: int = 1, side: int = SIDE) -> Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


def training(context: Context) -> Row:
    context.report("first-stage training step")
    model = trained_model()
    given = {**model.state_dict(), "images": noise(), "smaller": noise(side=SMALLER)}
    theirs = context.theirs("peer_first_stage:train", given, loss=LOSS)
    del given
    batches = [{"image": noise(side=side)} for side in (SMALLER, SIDE, SIDE)]
    taken = fit(model, batches, theirs)
    theirs.close()
    pairs = summarize(taken.ours[1:], taken.theirs[1:])  # the first pair makes the moments
    precision = "bf16" if has_bf16_units(torch.device("cpu")) else "float32"  # as `auto` takes it
    return Row(
        name=f"first-stage training step, {SIDE} px, B=1: generator, discriminator, perceptual",
        **pairs.columns(),
        unit="s",
        reach=3.0,
        note=f"Ours multiplies in {precision}, and keeps averaged weights beside, which the "
        f"original does not do.",
    )


def train_once(**settings: Any) -> None:
    """What `training_memory` measures, in a process of its own."""
    batches = [{"image": noise(PICTURES, side)} for side in (SMALLER, SIDE)]
    fit(trained_model(), batches, **settings)


def training_memory(context: Context) -> Row:
    """Of the second step, when the optimisers have their moments."""
    context.report("peak memory of first-stage training")
    pictures = {"images": noise(PICTURES), "smaller": noise(PICTURES, SMALLER)}
    given = {**trained_model().state_dict(), **pictures}
    work = "benchmarks.rows_first_stage:train_once"
    ours = context.peak_memory(work, checkpoint_activations=True)
    peer = context.peer_memory("peer_first_stage:train", given, calls=2, loss=LOSS)
    return Row(
        name=f"peak memory, first-stage training, {SIDE} px, B={PICTURES}",
        ours=ours,
        peer=peer,
        unit="MiB",
        reach=1.43,
        memory=ours,
        note="With checkpoint_activations.",
    )


# --- large pictures ------------------------------------------------------------------------------


def decode_large(side: int, strips: bool, path: str) -> None:
    """What `large` measures, in a process of its own; keeps every 8th pixel, to be compared."""
    torch.manual_seed(0)
    model = PreparedFirstStage(VQModel(**F16).eval().requires_grad_(False))
    codes = torch.randint(V, (1, side // F, side // F))
    prepared.WHOLE = 0 if strips else 2**60
    torch.save(model.decode_code(codes)[:, :, ::8, ::8].clone(), path)


def large(context: Context) -> Row:
    side = LARGE // 4 if context.quick else LARGE
    context.report(f"decoding {side} px")
    work = "benchmarks.rows_first_stage:decode_large"
    paths = [context.folder / f"{kind}.pt" for kind in ("whole", "strips")]
    peaks = [
        context.peak_memory(work, side=side, strips=strips, path=str(path))
        for path, strips in zip(paths, (False, True), strict=True)
    ]
    whole, strips = (torch.load(path) for path in paths)
    return Row(
        name=f"peak memory of decoding {side} px in strips, float32",
        ours=peaks[1],
        peer=peaks[0],
        against="the whole at once",
        unit="MiB",
        reach=3.0,
        note=f"PSNR to the whole {psnr(strips, whole):.1f} dB.",
    )
