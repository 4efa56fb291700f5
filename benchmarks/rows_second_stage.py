"""The second stage: a training step beside the original's, what a step waits for its data, painting
in few steps, and large pictures in windows.

The original's step reads pictures and encodes both them and their condition; ours reads codes that
were made once. The model of several conditions is that of `configs/worlds.yaml` with fresh weights,
on which nothing that is timed depends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.fitting import Watch, fit, run
from benchmarks.harness import Context, Row, summarize
from benchmarks.published_sizes import GPT
from benchmarks.rows_decode import GPT_SECTION, PUBLISHED_FIRST_STAGE
from taming.config import load_config, plain
from taming.pipeline import Pipeline
from taming.sampling import UNKNOWN, Window, sample_windows
from taming.training.codes_data import CodesData
from taming.training.sequences import SequenceBatch
from taming.transformer.decoder import Branch, Decoder, Guides
from taming.transformer.multi_task import MultiTaskTransformer
from taming.transformer.net2net import Net2NetTransformer
from taming.worlds import render_set

CONFIGS = Path(__file__).parents[1] / "configs"
SIDE, F = 256, 16  # pixels; pixels a code, one side
SCENES, SCENE_SIDE, STEPS = 24, 144, 5  # of the training whose waiting is measured
WAITING = 2.0  # per cent of a step
FEW = (20, 32)  # steps
GUIDANCE = 2.0
LARGE, WINDOW_STEPS = 1024, 24  # pixels; steps of a window


def rows(context: Context) -> Iterator[Row]:
    yield training(context)
    yield waiting(context)
    torch.manual_seed(0)
    yield from few_steps(context)
    yield windows(context)


# --- training ------------------------------------------------------------------------------------


def training(context: Context) -> Row:
    """The published 24-layer model, conditioned by a picture; the same weights on both sides."""
    context.report("305M training step")
    torch.manual_seed(0)
    model = Net2NetTransformer(GPT_SECTION, PUBLISHED_FIRST_STAGE, "__is_first_stage__")
    path = context.folder / "net2net.pt"
    torch.save(model.state_dict(), path)
    images, maps = (torch.rand(1, 3, SIDE, SIDE) * 2 - 1 for _ in range(2))
    theirs = context.theirs(
        "peer_second_stage:train",
        {"images": images, "maps": maps},
        weights=str(path),
        first_stage=PUBLISHED_FIRST_STAGE,
    )
    with torch.no_grad():
        encoded = [model.first_stage_model.indices(each).flatten(1) for each in (images, maps)]
        exact = float(model.loss_of_codes(*encoded))
        with torch.autocast("cpu", torch.bfloat16):
            mixed = float(model.loss_of_codes(*encoded))
    batches = [SequenceBatch(*encoded)] * (2 if context.quick else 3)
    taken = fit(model, batches, theirs, ema_decay=0.0, precision="bf16")
    original = float(theirs.last["first"])
    theirs.close()
    path.unlink()
    pairs = summarize(taken.ours[1:], taken.theirs[1:])
    width, layers, tokens = GPT["n_embd"], GPT["n_layer"], GPT["block_size"] - 1
    multiplied = 12 * layers * width**2 + GPT["vocab_size"] * width
    floor = context.floors.seconds_to_compute(6.0 * multiplied * tokens, torch.bfloat16)
    return Row(
        name="305M training step, 256 codes after 256, B=1: cached codes, bf16",
        **pairs.columns(),
        unit="s",
        reach=3.0,
        floor=floor,
        note=f"Of the same weights and pictures the loss is {exact:.4f} in float32, {mixed:.4f} in "
        f"bf16, the original's {original:.4f}; at the floor of multiplications the ratio would be "
        f"{pairs.peer / floor:.1f}.",
    )


def waiting(context: Context) -> Row:
    """What Lightning itself says of a short training with the loaders of `configs/worlds.yaml`."""
    from pytorch_lightning.profilers import SimpleProfiler

    context.report("waiting for data")
    scenes = render_set(SCENES, SCENE_SIDE, context.folder / "scenes", workers=context.threads)
    section = plain(load_config(CONFIGS / "worlds.yaml"))["data"]["params"]
    batch, workers = section["batch_size"], section["num_workers"]
    steps = 4 if context.quick else STEPS
    data = CodesData(
        **{**section, "sets": [{**section["sets"][0], "path": str(scenes)}]},
        epoch_size=batch * steps,
    )
    names = {"labels": data.label_names, "class_label": data.class_names}
    model = multi_task(factor=8, size=128, names=names)
    data.attach(model, context.folder / "run")
    profiler, watch = SimpleProfiler(), Watch()
    run(model, {"warmup_steps": 1}, watch, profiler, max_steps=steps, datamodule=data)
    (waits,) = (
        times
        for action, times in profiler.recorded_durations.items()
        if action.endswith("train_dataloader_next")
    )
    stepping = watch.taken.ours[1:]  # the first batch waits for its workers to begin
    waited = waits[1 : len(stepping) + 1]
    share = 100 * sum(waited) / (sum(waited) + sum(stepping))
    return Row(
        name=f"our second stage of 14M, B={batch}: share of a step spent waiting for data",
        ours=share,
        peer=WAITING,
        against="the line",
        unit="%",
        reach=1.0,
        note=f"Steps of {sum(stepping) / len(stepping):.2f} s beside {workers} loading processes.",
    )


# --- painting ------------------------------------------------------------------------------------


NAMES = {"labels": ["sky", "sea", "land"], "class_label": ["coast", "forest"]}


def multi_task(
    factor: int, size: int, names: Mapping[str, Sequence[str]] = NAMES
) -> MultiTaskTransformer:
    """The model of `configs/worlds.yaml`, with its first stage or the published f16 one."""
    params = plain(load_config(CONFIGS / "worlds.yaml"))["model"]["params"]
    first_stage = plain(load_config(CONFIGS / "worlds_tokenizer.yaml"))["model"]
    first_stage["params"].pop("lossconfig")
    if factor == F:
        first_stage = PUBLISHED_FIRST_STAGE
    codebook_size = first_stage["params"]["n_embed"]
    params["transformer_config"]["params"]["codebook_size"] = codebook_size
    for name, known in names.items():
        params["cond_stage_config"][name]["params"] = {"names": list(known)}
    return MultiTaskTransformer(
        params["transformer_config"],
        {"target": first_stage["target"], "params": first_stage["params"]},
        params["cond_stage_config"],
        sizes=[(size, size)],
    ).eval()


def few_steps(context: Context) -> Iterator[Row]:
    model = multi_task(factor=8, size=128)
    painter = Pipeline(model)
    values = {"depth": model.conditions["depth"].blank((128, 128))}  # as good as any to be timed

    def paint(steps: int | None) -> Any:
        return painter.paint_values(values, (128, 128), steps=steps, guidance=GUIDANCE)

    context.report("painting in few steps, and one code at a time")
    *few, one = context.in_turn([partial(paint, steps) for steps in (*FEW, None)], repeats=2)
    for steps, taken in zip(FEW, few, strict=True):
        yield Row(
            name=f"any-order painting of 128 px from depth in {steps} steps, B=1, guided",
            **summarize(taken, one).columns(1e3),
            against="one code at a time",
            unit="ms",
            reach=4.0,
            note="With the picture's decoding.",
        )


def windows(context: Context) -> Row:
    """Codes alone: decoding grows with the picture on its own."""
    side = LARGE // 2 if context.quick else LARGE
    context.report(f"windows at {side} px")
    model = multi_task(factor=F, size=SIDE)
    window = model.grid((SIDE, SIDE))

    def codes(size: int) -> Tensor:
        grid = model.grid((size, size))
        (branch,), _ = model.branches({}, 1, grid)
        guides = Guides(model.transformer)

        def decoder(place: Window) -> Decoder:
            control = branch.control[:, :, place.rows, place.columns]
            return Decoder(model.transformer, [Branch(control, branch.prefix)], guides=guides)

        return sample_windows(
            decoder,
            torch.full((1, *grid), UNKNOWN),
            window=window,
            stride=(window[0] // 2, window[1] // 2),
            steps=WINDOW_STEPS,
            generators=[torch.Generator().manual_seed(0)],
        )

    taken = context.paired(lambda: codes(side), lambda: codes(SIDE), repeats=2, warmup=0)
    few, many = (SIDE // F) ** 2, (side // F) ** 2
    return Row(
        name=f"block windows, a code of {side} px, trained at {SIDE} px",
        **taken.columns(1e3 / few, pieces=many / few),
        against=f"a code of {SIDE} px",
        unit="ms",
        reach=0.8,
    )
