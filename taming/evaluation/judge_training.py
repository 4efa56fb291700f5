"""How a judge learns: true pairs of a training split, random crops, minutes on a laptop.

Half of the pictures are seen as if they had been smaller, so that a judge goes by shapes and
colours rather than by grain: it must not prefer a picture for being sharp. That is a change of true
pictures, the same for whatever is judged later.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from taming.config import from_mapping
from taming.data.datamodule import ImageData
from taming.evaluation.judges import (
    CONFIG,
    JUDGES,
    Judge,
    JudgeConfig,
    build_judge,
    load_judge,
    save_judge,
)

logger = logging.getLogger(__name__)

WARMUP = 50  # steps
TYPICAL = 200  # true samples behind the mean of a judge

LOGGED = 100  # steps between two lines in the log

Progress = Callable[[int, int], None]  # steps done, in all


def train_judge(config: JudgeConfig, progress: Progress | None = None, workers: int = 0) -> Judge:
    """A judge that has learned from the training split of the set that its config names."""
    torch.manual_seed(config.seed)
    judge = build_judge(config)
    data = open_data(config, workers)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=config.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: _rate(n, config.steps))
    generator = torch.Generator().manual_seed(config.seed)
    late = math.nan
    for step, batch in enumerate(data.train_dataloader(), start=1):  # one epoch is all steps
        loss = judge.loss(batch, coarsened(batch["image"], config.coarsest, generator))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        late = loss.item() if step == 1 else 0.95 * late + 0.05 * loss.item()
        if progress is not None:
            progress(step, config.steps)
        if step % LOGGED == 0:
            logger.info("judge of %s: step %d, loss %.3f", config.task, step, late)
    judge.settle(_typical(config, data))
    return judge.eval().requires_grad_(False)


def open_data(config: JudgeConfig, workers: int = 0) -> ImageData:
    """The set of a judge, with the one annotation that it reads."""
    entry = {
        "path": config.path,
        "size": config.size,
        "annotations": [JUDGES[config.task].annotation],
        "ignore": config.ignore,
        "scale": config.scale,
        "jitter": config.jitter,
    }
    names = config.names or None
    return ImageData(
        [entry],
        batch_size=config.batch_size,
        num_workers=workers,
        seed=config.seed,
        epoch_size=config.steps * config.batch_size,
        label_names=names,
    )


def judge_of(
    folder: Path,
    task: str,
    path: str,
    size: tuple[int, int],
    ignore: tuple[str, ...] = (),
    steps: int = JudgeConfig.steps,
    progress: Progress | None = None,
    workers: int = 1,
) -> Judge:
    """The judge of a set in `folder`, trained and saved there if there is none yet."""
    home = folder / f"{Path(path).name}_{task}_{size[0]}x{size[1]}"
    if (home / CONFIG).is_file():
        return load_judge(home)
    names: tuple[str, ...] = ()
    if task == "labels":
        entry = {"path": path, "size": size, "annotations": ["labels"], "ignore": ignore}
        names = tuple(ImageData([entry]).label_names)
    described = {"task": task, "path": path, "size": size, "names": names, "ignore": ignore}
    config = from_mapping(JudgeConfig, described | {"steps": steps}, "judge")
    judge = train_judge(config, progress, workers)
    save_judge(judge, home)
    return judge


def coarsened(images: Tensor, coarsest: float, generator: torch.Generator) -> Tensor:
    """Half of the batches seen as if they were up to `coarsest` times smaller."""
    chance, amount = torch.rand(2, generator=generator).tolist()
    if chance < 0.5 or coarsest <= 1.0:
        return images
    size = images.shape[-2:]
    small = [max(1, round(side / coarsest**amount)) for side in size]
    return F.interpolate(F.interpolate(images, small, mode="area"), size, mode="bilinear")


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate: a short rise, then half a cosine down to zero."""
    rise = min(1.0, (step + 1) / min(WARMUP, max(1, steps // 10)))
    return rise * 0.5 * (1.0 + math.cos(math.pi * min(1.0, step / steps)))


def _typical(config: JudgeConfig, data: ImageData) -> list[dict]:
    """Central crops of true samples of the training split that have what the judge reads."""
    entry = {"path": config.path, "size": config.size, "validation_split": "train"}
    entry |= {"annotations": [JUDGES[config.task].annotation], "ignore": config.ignore}
    centred = ImageData([entry], label_names=data.label_names or None).validation
    assert centred is not None
    every = max(1, len(centred) // TYPICAL)
    samples = [centred.sample(index) for index in range(0, len(centred), every)]
    return [sample for sample in samples if JUDGES[config.task].annotation in sample]
