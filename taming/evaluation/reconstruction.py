"""What the codebook keeps: held-out pictures through a first stage and back, set by set.

    python -m taming.evaluation.reconstruction runs/photos_tokenizer --size 128 --out results \
        --set-size clothing_co_parsing=192x128

PSNR is that of each picture (8 bits, all channels together), averaged over the pictures. Usage is
the share of the codebook that occurs in a set, perplexity the number of equally likely codes that
would be as varied. A first stage trained on small crops is judged on whole pictures: sizes are
given here, and are those of the run's config where they are not.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from taming.config import instantiate_from_config, load_config, plain
from taming.console import progress_bar
from taming.data.batch import collate
from taming.data.datamodule import ImageData
from taming.data.image_list import ImageList
from taming.evaluation.report import Track, print_table, silent, write_json
from taming.first_stage.quantize_base import perplexity, usage
from taming.first_stage.vqgan import VQModel
from taming.loading import load

logger = logging.getLogger(__name__)

Size = tuple[int, int]
AT_ONCE = 16  # pictures


def evaluate(
    run: str | Path,
    *,
    size: Size | None = None,  # of all sets; None: that of the config
    set_sizes: Mapping[str, Size] | None = None,  # of single sets, by name
    count: int | None = None,  # pictures of each set, spread over it; None: all that are held out
    track: Track = silent,
) -> dict[str, dict[str, Any]]:
    """{set: {pictures, size, PSNR, usage, perplexity}}, and "all" over every picture."""
    first_stage = load(run).first_stage
    report: dict[str, dict[str, Any]] = {}
    psnr: list[float] = []
    counts = torch.zeros(first_stage.codebook_size)
    for part in open_sets(Path(run), size, set_sizes or {}):
        assert part.draw is not None
        with track(f"reconstructing {part.name}") as progress:
            values, own = measured(first_stage, part, count, progress)
        report[part.name] = summary(values, own) | {"size": list(part.draw.size)}
        psnr += values
        counts += own
    report["all"] = summary(psnr, counts) | {"size": None}
    return report


def open_sets(run: Path, size: Size | None, set_sizes: Mapping[str, Size]) -> list[ImageList]:
    """The held-out parts of a run's sets, central crops of the sizes wanted."""
    params = dict(plain(load_config(run / "config.yaml"))["data"]["params"])
    params.pop("codes", None)
    names = [part.name for part in instantiate_from_config(_section(params)).train.sets]
    strangers = sorted(set(set_sizes) - set(names))
    if strangers:
        raise ValueError(f"this run has no set '{strangers[0]}'; its sets are {', '.join(names)}")
    sets = []
    for name, entry in zip(names, params["sets"], strict=True):
        entry = {"path": entry} if isinstance(entry, str) else dict(entry)
        wanted = set_sizes.get(name, size)
        # Whole pictures: crops at random scales are for training.
        sets.append(entry | {"scale": [1.0, 1.0]} | ({"size": list(wanted)} if wanted else {}))
    mix = instantiate_from_config(_section({**params, "sets": sets})).validation
    if mix is None:
        raise ValueError(f"the sets of {run} have no validation split; nothing is held out")
    return mix.sets


def _section(params: Mapping[str, Any]) -> dict[str, Any]:
    return {"target": f"{ImageData.__module__}.{ImageData.__name__}", "params": dict(params)}


@torch.inference_mode()
def measured(
    first_stage: VQModel, part: ImageList, count: int | None, progress: Any
) -> tuple[list[float], Tensor]:
    """PSNR of each picture, and how often each code occurs (V,)."""
    number = len(part) if count is None else min(count, len(part))
    chosen = np.linspace(0, len(part) - 1, number).round().astype(int).tolist()
    counts = torch.zeros(first_stage.codebook_size)
    values: list[float] = []
    for first in range(0, number, AT_ONCE):
        batch = collate([part.sample(index) for index in chosen[first : first + AT_ONCE]])
        images = batch["image"]
        encoded = first_stage.encode(images)
        values += psnr_of(images, first_stage.decode(encoded.z_q)).tolist()
        codes = encoded.info.indices.flatten()
        counts += torch.bincount(codes, minlength=first_stage.codebook_size)
        progress(len(values), number)
    return values, counts


def psnr_of(images: Tensor, others: Tensor) -> Tensor:
    """Decibels between pictures (B, 3, H, W) in [-1, 1], as they would be saved."""
    one, other = (((x.float() + 1.0) * 127.5).round().clamp(0, 255) for x in (images, others))
    error = (one - other).square().mean(dim=(1, 2, 3))
    return 10.0 * torch.log10(255.0**2 / error.clamp(min=1e-4))


def summary(psnr: Sequence[float], counts: Tensor) -> dict[str, Any]:
    return {
        "pictures": len(psnr),
        "PSNR": float(np.mean(psnr)),
        "usage": float(usage(counts)),
        "perplexity": float(perplexity(counts)),
    }


def parse_size(text: str) -> Size:
    """'128' or 'HEIGHTxWIDTH'."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"size '{text}': give one number or HEIGHTxWIDTH, such as 192x128")
    return int(parts[0]), int(parts[-1])


def parse_set_size(text: str) -> tuple[str, Size]:
    name, _, size = text.rpartition("=")
    if not name:
        raise ValueError(f"'{text}': write SET=SIZE, such as people=192x128")
    return name, parse_size(size)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m taming.evaluation.reconstruction")
    parser.add_argument("run", type=Path, help="directory of a run of either stage")
    parser.add_argument("--size", type=parse_size, help="of all sets: one number, or HxW")
    parser.add_argument(
        "--set-size", type=parse_set_size, action="append", default=[], metavar="SET=SIZE"
    )
    parser.add_argument("--count", type=int, help="pictures of each set; by default all held out")
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    sizes = dict(given.set_size)
    report = evaluate(
        given.run, size=given.size, set_sizes=sizes, count=given.count, track=progress_bar
    )
    write_json(report, given.out / "reconstruction.json")
    rows = {name: {k: v for k, v in row.items() if k != "size"} for name, row in report.items()}
    print_table(f"held-out reconstructions of {given.run}", rows, "all")


if __name__ == "__main__":
    main()
