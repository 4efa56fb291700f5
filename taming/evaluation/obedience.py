"""Do painted pictures show what was asked for? Readers say, and shuffling says how much.

Readers are the judges of `taming.evaluation.judges` and the rule that finds edges. What they see in
pictures is held against the conditions: in the true pictures (what the reader is worth), in those
reconstructed through the codebook (what the first stage lets through), in the samples, and in the
samples against the condition of another record (what any picture of the set would get).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from taming.cond_stage.base import Condition
from taming.evaluation.judge import Reader
from taming.evaluation.measures import derangement
from taming.evaluation.networks import batches
from taming.evaluation.records import Record
from taming.evaluation.report import Row


class Judged(NamedTuple):
    rows: list[Row]
    scores: Tensor  # (N,): how well each sample obeys, all its conditions together


def judged(
    set_name: str,
    readers: Mapping[str, Reader],
    records: Sequence[Record],
    reconstructed: Sequence[Image.Image],
    sampled: Sequence[Image.Image],
    conditions: Mapping[str, Condition],
    seed: int = 0,
) -> Judged:
    """A row for each measure of each condition."""
    shuffle = derangement(len(records), seed)
    sources = {"true": [record.picture for record in records], "reconstructed": reconstructed}
    rows: list[Row] = []
    places = torch.zeros(len(records), dtype=torch.float64)
    task = "+".join(readers)
    for name, reader in readers.items():
        words = getattr(conditions[name], "names", ())
        targets = torch.stack([reader.target(record.asked[name], words) for record in records])
        others = targets[shuffle]
        scores = {
            source: reader.score(readings(reader, pictures), targets, others)
            for source, pictures in sources.items()
        }
        seen = readings(reader, sampled)
        scores["sampled"] = reader.score(seen, targets, others)
        scores["shuffled"] = reader.score(seen, others, targets)
        for measure in scores["sampled"]:
            columns = {source: each.get(measure) for source, each in scores.items()}
            told = f"{name}: {measure}" if len(readers) > 1 else measure
            rows.append(Row.of(set_name, task, told, columns))
        places += reader.each(seen, targets).double().argsort().argsort()
    return Judged(rows, places)


@torch.no_grad()
def readings(reader: Reader, pictures: Sequence[Image.Image]) -> Tensor:
    """What is seen in each picture, stacked."""
    return torch.cat([reader.read(batch) for batch in batches(pictures)])
