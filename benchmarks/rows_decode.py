"""The published conditional sampler: 24 layers, width 1024, 256 condition codes, 256 codes.

The original runs its whole network over the whole sequence for every code. It is timed at some
lengths of the sequence, and the lengths between are interpolated. What it would have drawn is seen
in one pass over our codes: they are its own if each is its most likely one, given those before.

The floor of a step is the time to read the weights of its layers once; keys and values, 50 MB at
256 tokens in float32, and what stands between the layers come on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.harness import Context, Row
from benchmarks.published_sizes import F16, GPT, PREFIX
from taming.config import to_yaml
from taming.loading import load
from taming.sampling.filters import Filters
from taming.transformer import gpt as gpt_module
from taming.transformer.gpt_decoder import GPTDecoder, PreparedGPT, continue_codes, pack_gpt
from taming.transformer.net2net import Net2NetTransformer

CODES = 256
LENGTHS = [256, 307, 358, 409, 460, 511]
STEPS = 12  # of a measurement of steps
LAST = 4  # codes of a measurement of memory: the longest sequence needs the most
ALONG = 128  # codes along which logits are compared
PRECISIONS = {"float32": 17.0, "bf16": 30.0, "int8": 40.0}
STEP_REACH = {"float32": 0.75, "bf16": 0.6, "int8": None}
BYTES = {"float32": 4, "bf16": 2, "int8": 1}  # a weight


class Sampled(NamedTuple):
    seconds: float
    codes: Tensor  # (1, T)
    logits: Tensor  # (T, V)


def rows(context: Context) -> Iterator[Row]:
    torch.manual_seed(0)
    model = gpt_module.GPT(**GPT).eval().requires_grad_(False)
    spread(model)
    prefix = torch.randint(GPT["vocab_size"], (1, PREFIX))
    weights = context.folder / "gpt.pt"
    torch.save(model.state_dict(), weights)
    exact: Sampled | None = None
    theirs = 0.0
    for precision, reach in PRECISIONS.items():
        context.report(f"sampling {CODES} codes, {precision}")
        if precision != "float32":
            model = gpt_module.GPT(**GPT).eval().requires_grad_(False)
            model.load_state_dict(torch.load(weights, mmap=True))
            pack_gpt(model, "int8" if precision == "int8" else "bf16")
        prepared = PreparedGPT(model)
        drawn = sampled(context, prepared, prefix)
        if exact is None:
            exact = drawn
            theirs, best = original(context, weights, torch.cat([prefix, drawn.codes], dim=1))
            equal = float((best[:, PREFIX - 1 :] == drawn.codes).float().mean())
            note = f"{equal:.1%} of the codes are those the original draws greedily."
            if context.whole:
                note += whole_loop(context, weights, prefix, drawn.codes)
        else:
            note = drift(exact, logits_along(prepared, prefix, exact.codes[:, :ALONG]))
        yield Row(
            name=f"sampling, 305M, 256 codes after 256, {precision}",
            ours=drawn.seconds,
            peer=theirs,
            unit="s",
            reach=reach,
            floor=CODES * context.floors.seconds_to_read(read_bytes(model, BYTES[precision])),
            note=note,
        )
        yield from steps(context, prepared, precision)
    yield memory(context, prefix)


@torch.no_grad()
def spread(model: nn.Module) -> None:
    """Weights large enough that codes differ; fresh ones say the same at every place."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.weight.normal_(0, module.in_features**-0.5)
        elif isinstance(module, nn.Embedding):
            module.weight.normal_(0, 0.5)


def read_bytes(model: gpt_module.GPT, width: int) -> int:
    """What a step reads of the layers; of a packed model, the head has 16 bits at least."""
    sizes = model.config
    inside = 12 * sizes.n_layer * sizes.n_embd**2
    return inside * width + sizes.vocab_size * sizes.n_embd * max(width, 2)


# --- sampling ------------------------------------------------------------------------------------


class Kept:
    """A decoder that notes what it answered."""

    def __init__(self, decoder: GPTDecoder) -> None:
        self.decoder = decoder
        self.logits: list[Tensor] = []

    def __call__(self, codes: Tensor, positions: Tensor, targets: Tensor) -> Tensor:
        self.logits.append(self.decoder(codes, positions, targets))
        return self.logits[-1]


def sampled(context: Context, prepared: PreparedGPT, prefix: Tensor) -> Sampled:
    """Greedy codes, their time, and their logits."""
    drawn: list[tuple[Tensor, Kept]] = []

    def ours() -> None:
        kept = Kept(GPTDecoder(prepared, prefix))
        drawn.append((continue_codes(kept, prefix[:, :0], CODES, Filters(0.0)), kept))

    taken = context.median(ours, repeats=1, warmup=0)  # which is the mean of its steps
    codes, kept = drawn[-1]
    return Sampled(taken, codes, torch.cat(kept.logits)[:, 0])


def logits_along(prepared: PreparedGPT, prefix: Tensor, codes: Tensor) -> Tensor:
    """Logits (T, V) where these codes (1, T) are drawn, whatever is the most likely."""
    decoder, logits = GPTDecoder(prepared, prefix), []
    for place in range(codes.shape[1]):
        fed = codes[:, max(0, place - 1) : place]
        at = torch.arange(max(0, place - 1), place)[None]
        logits.append(decoder(fed, at, torch.tensor([[place]]))[0, 0])
    return torch.stack(logits)


def original(context: Context, weights: Path, sequence: Tensor) -> tuple[float, Tensor]:
    """Seconds of the original's loop, and its most likely code (1, L) after every place."""
    lengths = LENGTHS[::5] if context.quick else LENGTHS
    order = [lengths[0], *lengths]
    timer = context.theirs(
        "peer_decode:forward", {"codes": sequence}, weights=str(weights), lengths=order
    )
    timer()  # the first one does not count
    taken = [timer() for _ in lengths]
    best = timer.last["best"]
    timer.close()
    total = 0.0
    for left, right, a, b in zip(lengths, lengths[1:], taken, taken[1:], strict=False):
        total += (right - left) * (a + b) / 2
    return total + taken[-1], best  # lengths 256 to 511: the last one counts whole


def whole_loop(context: Context, weights: Path, prefix: Tensor, codes: Tensor) -> str:
    """What the original's sampler takes when nothing is interpolated; minutes."""
    context.report("the original's sampler, whole")
    timer = context.theirs("peer_decode:whole_loop", {"prefix": prefix}, weights=str(weights))
    taken = timer()
    equal = float((timer.last["codes"] == codes).float().mean())
    timer.close()
    return f" Run whole, once, it took {taken:.0f} s and drew {equal:.1%} of our codes."


def drift(exact: Sampled, logits: Tensor) -> str:
    expected = exact.logits[: len(logits)]
    apart = (logits - expected).norm() / expected.std() / expected.numel() ** 0.5
    equal = float((logits.argmax(-1) == expected.argmax(-1)).float().mean())
    return (
        f"Along the same {len(logits)} codes logits drift by {float(apart):.2%} of their spread, "
        f"and {equal:.1%} of the most likely codes are the same."
    )


# --- steps ---------------------------------------------------------------------------------------


def steps(context: Context, prepared: PreparedGPT, precision: str) -> Iterator[Row]:
    """A step behind 256 tokens: one picture beside the floor, eight beside one."""
    context.report(f"decode step, {precision}")
    read = context.floors.reading(read_bytes(prepared.gpt, BYTES[precision]))
    one = step(prepared, 1)
    alone = context.paired(one, read, repeats=STEPS, warmup=3)
    yield Row(
        name=f"decode step at length 256, {precision}",
        **alone.columns(1e3),
        against="floor",
        unit="ms",
        reach=STEP_REACH[precision],
        floor=alone.peer * 1e3,
    )
    eight = context.paired(step(prepared, 8), one, repeats=STEPS, warmup=3)
    yield Row(
        name=f"decode step at length 256, per picture of 8, {precision}",
        **eight.columns(1e3, pieces=8),
        against="one picture",
        unit="ms",
        reach=4.5,
        floor=alone.peer / 8 * 1e3,
    )


def step(prepared: PreparedGPT, batch: int, length: int = PREFIX) -> Callable[[], Tensor]:
    """One step further at each call, behind so many tokens; which ones does not matter to time."""
    cache = prepared.new_cache(batch)
    cache.buffer.fill_(0.1)
    cache.advance(length)
    token = torch.zeros(batch, 1, dtype=torch.long)
    return torch.inference_mode()(lambda: prepared.logits(prepared.feed(token, cache)))


# --- memory --------------------------------------------------------------------------------------


def memory(context: Context, prefix: Tensor) -> Row:
    """Both read the same checkpoint and draw the last codes of a picture."""
    context.report("memory of sampling")
    folder = context.folder / "published"
    folder.mkdir()
    params: dict[str, Any] = {
        "transformer_config": {"target": "taming.modules.transformer.mingpt.GPT", "params": GPT},
        "first_stage_config": PUBLISHED_FIRST_STAGE,
        "cond_stage_config": "__is_first_stage__",
    }
    config = {"target": "taming.models.cond_transformer.Net2NetTransformer", "params": params}
    model = Net2NetTransformer(GPT_SECTION, PUBLISHED_FIRST_STAGE, "__is_first_stage__")
    torch.save({"state_dict": model.state_dict()}, folder / "last.ckpt")
    (folder / "config.yaml").write_text(to_yaml({"model": config}), encoding="utf-8")
    del model
    known = torch.zeros(1, CODES - LAST, dtype=torch.long)
    read = {**config, "params": {**params, "ckpt_path": str(folder / "last.ckpt")}}
    work = "benchmarks.rows_decode:sample_the_last"
    given = {"known": known, "prefix": prefix}
    ours = context.peak_memory(work, folder=str(folder))
    theirs = context.peer_memory("peer_decode:sampling", given, config=read, steps=LAST)
    return Row(
        name="peak memory, sampling 305M",
        ours=ours,
        peer=theirs,
        unit="MiB",
        reach=1.67,
        memory=ours,
    )


GPT_SECTION = {"target": "taming.transformer.gpt.GPT", "params": GPT}
PUBLISHED_FIRST_STAGE: dict[str, Any] = {
    "target": "taming.models.vqgan.VQModel",
    "params": {**F16, "lossconfig": {"target": "taming.modules.losses.DummyLoss"}},
}


def sample_the_last(folder: str) -> None:
    """Reads the model and draws the last codes of a picture: a process of its own does this."""
    model = load(Path(folder) / "last.ckpt").model
    assert isinstance(model, Net2NetTransformer)
    known = torch.zeros(1, CODES - LAST, dtype=torch.long)
    model.sample(known, torch.zeros(1, PREFIX, dtype=torch.long), steps=LAST)
