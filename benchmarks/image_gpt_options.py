"""What is asked of the comparison with Image-GPT, and the folders that belong to an answer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SETTINGS = "settings.json"
DRAWS = 2  # of each picture


@dataclass(frozen=True)
class Options:
    """What is asked for. The defaults are those of `make image-gpt`."""

    data: Path = Path("data/worlds")
    out: Path = Path("runs/image_gpt")
    minutes: float = 30.0  # each side
    run: str | None = None  # a model of ours that is already trained
    size: int | None = None  # pixels; None: what the run was trained at, else 64
    pictures: int = 128  # completed
    shown: int = 8  # of them in the figure
    steps: int = 24  # groups of codes in which ours paints
    guidance: float = 1.0  # 1: what was learned, as Image-GPT draws
    top_k: int | None = None  # of Image-GPT's drawing
    judge_draws: int = 1600
    judge_steps: int = 400
    seed: int = 0
    image_gpt: dict[str, Any] = field(default_factory=dict)  # fields of its shape and plan
    first_stage: tuple[str, ...] = ()  # overrides of the configs
    second_stage: tuple[str, ...] = ()

    @property
    def of_both(self) -> dict[str, Any]:
        """What decides the training of either side; sets of one name have marks of their own."""
        # Which bring torch: not before the command
        from taming.data.marks import mark_of
        from taming.data.paired_folder import open_set

        return {
            "data": self.data.resolve().name,
            "mark of the set": mark_of(open_set(self.data)),
            "minutes": self.minutes,
            "seed": self.seed,
        }


def keep_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Writes what decides a training, or refuses a folder that belongs to something else."""
    from taming.evaluation.report import write_json  # which brings torch, too

    path = folder / SETTINGS
    settings = json.loads(json.dumps(settings))
    if not path.is_file():
        write_json(settings, path)
        return
    before = json.loads(path.read_text("utf-8"))
    for name in sorted({*before, *settings}):
        if before.get(name) != settings.get(name):
            raise ValueError(
                f"{folder} was trained with {name} = {before.get(name)}, not "
                f"{settings.get(name)}; give another --out, or remove that folder"
            )
