"""The whole comparison with Image-GPT: both trainings, all completions, the measures, the report.

Each part is kept in the folder as soon as it is there, so that a second start begins where the
first one ended. It decides who is asked what; how, the modules beside it know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.image_gpt_colours import to_codes, to_pictures
from benchmarks.image_gpt_measures import (
    Draws,
    Networks,
    Pictures,
    columns_of,
    compared,
    enlarged,
    shrunk,
)
from benchmarks.image_gpt_model import SIDE, nats
from benchmarks.image_gpt_model import complete as complete_theirs
from benchmarks.image_gpt_options import DRAWS, Options, keep_settings
from benchmarks.image_gpt_ours import train_ours
from benchmarks.image_gpt_pictures import (
    Asked,
    Complete,
    ask,
    checked,
    labels_of,
    ours,
    seeds_of,
    timed,
)
from benchmarks.image_gpt_report import write_report
from benchmarks.image_gpt_training import Learnt, Plan, train
from taming.checkpoint import tensor_hash
from taming.data.marks import mark_of
from taming.evaluation.album import Album
from taming.evaluation.completion import masks, rims_met
from taming.evaluation.networks import Eyes, batches
from taming.evaluation.reconstruction import reconstruct
from taming.evaluation.report import Track
from taming.first_stage.perceptual import HEDLoss
from taming.loading import load
from taming.painting import reach_of
from taming.pipeline import Pipeline
from taming.sampling import Filters

SIZE = 64  # pixels, where nobody says: more are more than an hour on two cores can teach
MEASURES = 3  # goes up with what is measured, so that numbers of before are not taken for new ones


def compare(options: Options, track: Track) -> Path:
    """Everything, from the trainings to the report; returns the report."""
    bundled = checked(load(options.run), options.run) if options.run else None
    side = fitting(options.size, bundled)
    asked = ask(options.data, side, options.pictures, options.seed)
    networks = opened_networks()  # before the hours, in case that one is not installed

    keep_settings(options.out / "image_gpt", {**options.of_both, **asdict(planned(options))})
    pipeline, our_facts = our_side(options, bundled, side, track)
    learnt = their_side(options, track)
    answers = {
        "image_gpt": (theirs(learnt, options.top_k), asked.small),
        "ours": (ours(pipeline, options.steps, options.guidance), asked.truth),
    }
    settings = album_settings(options, asked, networks, pipeline, learnt)
    album = Album(options.out / "work", settings)
    draws = {
        name: drawn(album, name, complete, pictures, track)
        for name, (complete, pictures) in answers.items()
    }
    seconds = album.result(
        "seconds", lambda: {name: timed(*answer) for name, answer in answers.items()}
    )
    tables = album.result(
        "measures",
        lambda: measured(options, asked, networks, pipeline, learnt.colours, draws, track),
    )
    held_out = album.result("held out", lambda: {"nats": held_out_nats(asked.small, learnt)})
    sides = {
        "Image-GPT": {
            **learnt.facts,
            "held-out loss, nats a pixel": held_out["nats"],
            "drawn": f"temperature 1, top-k {options.top_k or 'off'}",
            **seconds["image_gpt"],
        },
        "ours": {
            **our_facts,
            "parameters": sum(p.numel() for p in pipeline.model.parameters()),
            "drawn": f"temperature 1, guidance {options.guidance:g}, {options.steps} steps for a "
            f"whole picture and fewer by the share that is given",
            **seconds["ours"],
        },
    }
    # As they are measured: below the true upper half, and meeting it
    whole = [met(asked, pipeline, pictures) for pictures in draws["image_gpt"]]
    pasted = columns_of(asked.small, {"theirs": whole}, options.seed)["theirs"]
    return write_report(options, asked, tables, sides, pasted, draws["ours"])


def fitting(size: int | None, pipeline: Pipeline | None) -> int:
    """The side of the pictures, which both sides have to be able to make."""
    trained: Any = (SIZE, SIZE) if pipeline is None else getattr(pipeline.model, "sizes")[0]  # noqa: B009
    side = size or min(trained)
    if side % SIDE:
        raise ValueError(f"--size {side} is no multiple of Image-GPT's {SIDE} pixels; give one")
    return side


def opened_networks() -> Networks:
    try:
        vgg = HEDLoss()
    except ImportError:
        vgg = None
    return Networks(Eyes(), vgg)


# --- both sides ----------------------------------------------------------------------------------


def our_side(
    options: Options, bundled: Pipeline | None, side: int, track: Track
) -> tuple[Pipeline, dict[str, Any]]:
    """Our model, trained here unless it was trained before, and what is told of it."""
    if bundled is not None:
        return bundled, {"already trained": options.run}
    folder = options.out / "ours"
    overrides = {"first": options.first_stage, "second": options.second_stage}
    keep_settings(folder, {**options.of_both, "size": side, **overrides})
    run, facts = train_ours(
        folder, options.data, side, options.minutes, track, seed=options.seed, **overrides
    )
    return checked(load(run), str(run)), facts


def their_side(options: Options, track: Track) -> Learnt:
    path = options.out / "image_gpt" / "state.ckpt"
    return train(planned(options), options.data, options.minutes, path, track)


@torch.inference_mode()
def held_out_nats(small: Pictures, learnt: Learnt) -> float:
    """Of Image-GPT, a pixel, on the pictures that are completed: what it learned, not by heart."""
    every = [nats(learnt.model, to_codes(batch, learnt.colours)) for batch in batches(small)]
    return float(torch.cat(every).mean())


def planned(options: Options) -> Plan:
    """The plan of Image-GPT with the fields that were asked for, those of its shape among them."""
    plan = Plan(seed=options.seed)
    shape = {key: value for key, value in options.image_gpt.items() if hasattr(plan.shape, key)}
    rest = {key: value for key, value in options.image_gpt.items() if key not in shape}
    return replace(plan, shape=replace(plan.shape, **shape), **rest)


def theirs(learnt: Learnt, top_k: int | None) -> Complete:
    """How Image-GPT completes: temperature 1, pixel by pixel."""

    def complete(
        pictures: Pictures, seeds: Sequence[int], progress: Callable[[int, int], None]
    ) -> Pictures:
        filters = Filters(top_k=top_k)
        return complete_theirs(learnt.model, learnt.colours, pictures, seeds, filters, progress)

    return complete


# --- completions and measures --------------------------------------------------------------------


def album_settings(
    options: Options, asked: Asked, networks: Networks, pipeline: Pipeline, learnt: Learnt
) -> dict[str, Any]:
    """What decides the completions and the numbers."""
    return {
        **options.of_both,
        "measured as in": MEASURES,
        "ours": pipeline.fingerprint,
        "image_gpt": tensor_hash({**learnt.model.state_dict(), "colours": learnt.colours}),
        "held out": [asked.held.part.names, mark_of(asked.held.part)],
        "size": asked.held.size,
        "pictures": options.pictures,
        "painting": [options.steps, options.guidance, options.top_k],
        "judge": [options.judge_draws, options.judge_steps],
        "VGG16": networks.vgg is not None,
    }


def drawn(album: Album, name: str, complete: Complete, pictures: Pictures, track: Track) -> Draws:
    """Every draw of every picture; those that are not in the album yet are made."""
    found = []
    for draw in range(DRAWS):

        def make(some: list[int], draw: int = draw) -> Pictures:
            told = f"{name}, draw {draw + 1}, pictures {some[0] + 1} to {some[-1] + 1}"
            with track(told) as progress:
                return complete([pictures[n] for n in some], seeds_of(draw, some), progress)

        found.append(album.pictures(f"{name} {draw + 1}", range(len(pictures)), make))
    return found


def met(asked: Asked, pipeline: Pipeline, pictures: Pictures) -> Pictures:
    """Below the true upper half as ours are, which the pipeline has moved to their rim."""
    own = pictures[0].width
    truth = asked.small if own == SIDE else asked.truth
    holes = [masks((own, own))[0]] * len(pictures)
    reach = reach_of(pipeline.first_stage) * own / asked.truth[0].width
    return rims_met(truth, pictures, holes, reach)


def measured(
    options: Options,
    asked: Asked,
    networks: Networks,
    pipeline: Pipeline,
    colours: Tensor,
    draws: Mapping[str, Draws],
    track: Track,
) -> dict[str, Any]:
    """Both tables, plain enough for JSON."""
    side = asked.truth[0].width
    labels = labels_of(
        asked, options.out / "judges", options.judge_draws, options.judge_steps, options.seed, track
    )
    networks = replace(networks, labels=labels)
    codes = torch.cat([to_codes(batch, colours) for batch in batches(asked.small)])
    in_colours = to_pictures(codes, colours, SIDE)

    def meeting(pictures: Pictures) -> Pictures:
        return met(asked, pipeline, pictures)

    def large(pictures: Pictures) -> Pictures:
        return meeting(enlarged(pictures, side, Image.Resampling.BICUBIC))

    in_codes = meeting(reconstruct(pipeline.first_stage, asked.truth).pictures)

    names = (f"truth in {len(colours)} colours", "truth through our codes", "Image-GPT", "ours")
    small_draws = (
        [meeting(in_colours)],
        [shrunk(in_codes, SIDE)],
        [meeting(pictures) for pictures in draws["image_gpt"]],
        [shrunk(pictures, SIDE) for pictures in draws["ours"]],
    )
    large_draws = (
        [large(in_colours)],
        [in_codes],
        [large(pictures) for pictures in draws["image_gpt"]],
        draws["ours"],
    )
    views = {
        f"At {SIDE}x{SIDE} px, ours shrunk by area": (
            asked.small, small_draws, shrunk(asked.reference, SIDE),
        ),
        f"At {side}x{side} px, Image-GPT enlarged (bicubic)": (
            asked.truth, large_draws, asked.reference,
        ),
    }  # fmt: skip
    tables: dict[str, Any] = {}
    with track("measuring") as progress:
        for title, (truth, each, reference) in views.items():
            columns = columns_of(truth, dict(zip(names, each, strict=True)), options.seed)
            lines = compared(columns, reference, networks, side)
            tables[title] = {"columns": list(columns), "rows": [line._asdict() for line in lines]}
            progress(len(tables), len(views))
    return tables
