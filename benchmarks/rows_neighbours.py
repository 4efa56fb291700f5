"""Ours beside today's maintained libraries, where they have the same network: no line to reach.

diffusers' `VQModel` runs the same weights, read from a folder that ours wrote. GPT-2 and ImageGPT
of transformers differ from the published GPT in details that cost nothing, at equal sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Context, Row
from benchmarks.published_sizes import F16
from taming.first_stage.diffusers_format import save_diffusers
from taming.first_stage.prepared import PreparedFirstStage
from taming.first_stage.vqgan import VQModel
from taming.transformer.gpt import GPT
from taming.transformer.gpt_decoder import sample_with_past

PREFIX, CODES = 224, 32  # tokens known and tokens drawn
GPT2 = {"n_layer": 12, "n_head": 12, "n_embd": 768}  # 85M in its layers
IMAGE_GPT = {"n_layer": 24, "n_head": 8, "n_embd": 512}  # "small": 76M
V = 1024


def rows(context: Context) -> Iterator[Row]:
    yield first_stage(context)
    yield second_stage(context, "GPT-2", GPT2, gpt2)
    yield second_stage(context, "ImageGPT", IMAGE_GPT, image_gpt)


def first_stage(context: Context) -> Row:
    name = "neighbour: published f16 decode at 256 px, float32"
    try:
        from diffusers import VQModel as Theirs  # pyright: ignore[reportMissingImports]
    except ImportError:
        return Row(name=name, ours=None, unit="ms", note="diffusers is not installed.")
    context.report(name)
    model = VQModel(**F16).eval()
    peer: Any = Theirs.from_pretrained(
        save_diffusers(model, context.folder / "f16"), low_cpu_mem_usage=False
    )
    prepared = PreparedFirstStage(model)
    z_q = model.lookup(torch.randint(V, (1, 16, 16)))

    def ours() -> Tensor:
        return prepared.decode(z_q)

    def theirs() -> Tensor:
        return peer.decode(z_q, force_not_quantize=True).sample

    with torch.inference_mode():
        apart = float((ours() - theirs()).abs().max())
        taken = context.paired(ours, theirs, repeats=3, warmup=0)
    return Row(
        name=name,
        **taken.columns(1e3),
        against="diffusers' VQModel",
        unit="ms",
        note=f"Same weights; pictures differ by {apart:.1e} at most.",
    )


def second_stage(
    context: Context,
    name: str,
    sizes: dict[str, int],
    build: Callable[[dict[str, int]], Any],
) -> Row:
    title = f"neighbour: {CODES} codes after {PREFIX}, size of {name}, float32"
    context.report(title)
    model, peer = GPT(V, PREFIX + CODES, **sizes).eval(), build(sizes).eval()
    known = torch.randint(V, (1, PREFIX))

    def ours() -> Tensor:
        return sample_with_past(known, model, CODES, sample_logits=False)

    def theirs() -> Tensor:
        return peer.generate(
            known,
            attention_mask=torch.ones_like(known),
            max_new_tokens=CODES,
            min_new_tokens=CODES,
            do_sample=False,
            use_cache=True,
        )

    taken = context.paired(ours, theirs, repeats=3)
    return Row(
        name=title,
        ours=taken.ours / CODES * 1e3,
        peer=taken.peer / CODES * 1e3,
        against=f"{name}.generate",
        unit="ms a code",
        ratio=taken.ratio,
        spread=taken.spread,
    )


def gpt2(sizes: dict[str, int]) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(vocab_size=V, **_same(sizes)))


def image_gpt(sizes: dict[str, int]) -> Any:
    from transformers import ImageGPTConfig, ImageGPTForCausalImageModeling

    return ImageGPTForCausalImageModeling(ImageGPTConfig(vocab_size=V + 1, **_same(sizes)))


def _same(sizes: dict[str, int]) -> dict[str, Any]:
    """Their words for ours; no token ends a sequence."""
    tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0}
    return {"n_positions": PREFIX + CODES, **sizes, **tokens}
