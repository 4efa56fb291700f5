"""Do painted pictures show what was asked for? Independent judges say, and shuffling says how much.

    python -m taming.evaluation.obedience runs/photos --judges runs/judges --count 96 --out results

For each task, held-out records give conditions; record i is painted once, with seed i. The judges
of `taming.evaluation.judges` read the pictures, and their readings are held against the conditions:
of the true pictures (what the judge is worth), of those reconstructed through the codebook (what
the first stage lets through), of the samples, and of the samples against the condition of another
record (a fixed derangement: what any picture of the set would get). Writes `report.json`, a table,
sheets of the first twelve samples, unselected, and the curves of the run.

Judges that `--judges` does not hold yet are trained first, on the training splits of the run.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from taming.cond_stage.base import Condition
from taming.config import instantiate_from_config, load_config, plain
from taming.console import progress_bar
from taming.data.datamodule import ImageData
from taming.data.image_list import ImageList, expanded
from taming.data.transforms import to_image
from taming.evaluation.figures import draw_curves, sample_sheet
from taming.evaluation.judge_training import Progress, judge_of
from taming.evaluation.judges import JUDGES, Judge, JudgeConfig
from taming.evaluation.measures import HEADLINE, Measures, derangement, ratio
from taming.evaluation.report import Track, print_table, silent, write_json
from taming.loading import load
from taming.pipeline import Pipeline
from taming.transformer.multi_task import MultiTaskTransformer

logger = logging.getLogger(__name__)

SHOWN = 12  # samples on a sheet
AT_ONCE = 16  # pictures that a judge reads at a time


class Task(NamedTuple):
    """A set, and the conditions that are given together."""

    set: str
    conditions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.set}:{'+'.join(self.conditions)}"


class Record(NamedTuple):
    """A held-out picture and the values of its conditions."""

    name: str
    picture: Image.Image
    values: dict[str, Tensor]


Paint = Callable[[dict[str, Tensor], tuple[int, int], int], Image.Image]  # values, size, seed


def evaluate(
    run: str | Path,
    judges: Path,
    out: Path,
    *,
    count: int = 96,
    tasks: Sequence[Task] | None = None,  # None: every one that the run's sets have
    guidance: float = 2.0,
    steps: int | None = 24,
    judge_steps: int = JudgeConfig.steps,
    seed: int = 0,
    track: Track = silent,
) -> dict[str, Any]:
    """The report of a second-stage run, also written to `out` with its figures."""
    run = Path(run)
    pipeline = load(run)
    if not isinstance(pipeline, Pipeline):
        raise ValueError(
            f"{run} is a {type(pipeline.model).__name__}; obedience is measured of second stages "
            "of the kind taming.transformer.multi_task"
        )
    conditions = conditions_of(pipeline)
    data = open_data(run, conditions)
    available = tasks_of(data, conditions)
    chosen = available if tasks is None else [checked(task, available) for task in tasks]
    sizes = {part.name: size for part, size in zip(data.train.sets, data.train.sizes, strict=True)}
    panel: dict[tuple[str, str], Judge] = {}
    for task in chosen:
        for name in task.conditions:
            if (task.set, name) not in panel:
                entry = entry_of(data, task.set)
                path = str(expanded(entry.path))
                with track(f"judge of {name} on {task.set}") as progress:
                    panel[task.set, name] = judge_of(
                        judges, name, path, sizes[task.set], entry.ignore, judge_steps, progress
                    )

    def paint(values: dict[str, Tensor], size: tuple[int, int], number: int) -> Image.Image:
        settings = {"steps": steps, "guidance": guidance}
        return pipeline.paint_values(values, size, seeds=[number], **settings)[0]

    report: dict[str, Any] = {
        "run": str(run),
        "model": pipeline.fingerprint,
        "settings": {"seed": seed, "guidance": guidance, "steps": steps},
        "judges": {f"{part}:{name}": described(each) for (part, name), each in panel.items()},
        "headline": HEADLINE,
        "records": {},
        "tasks": {},
    }
    for task in chosen:
        records = held_out(data, task, conditions, count, seed)
        report["records"][str(task)] = len(records)
        with track(f"painting {task}") as progress:
            samples = painted(records, sizes[task.set], paint, progress)
        reconstructed = [pipeline.reconstruct(record.picture)[0] for record in records]
        named = {name: panel[task.set, name] for name in task.conditions}
        report["tasks"][str(task)] = judged(
            named, records, reconstructed, samples, conditions, seed
        )
        sheet_of(records[:SHOWN], samples, conditions, out / f"{str(task).replace(':', '_')}.png")
        write_json(report, out / "report.json")  # what is done is kept, whatever comes
    if (run / "history.csv").is_file():
        draw_curves(run / "history.csv", out / "curves.png")
    return report


def described(judge: Judge) -> dict[str, int]:
    """What a reader wants to know of a judge: how much it could learn, and how long it did."""
    parameters = sum(parameter.numel() for parameter in judge.parameters())
    return {"parameters": parameters, "steps": judge.config.steps}


# --- what is asked -------------------------------------------------------------------------------


def conditions_of(pipeline: Pipeline) -> dict[str, Condition]:
    if not isinstance(pipeline.model, MultiTaskTransformer):
        raise ValueError(f"{pipeline.name} is a first stage and paints nothing; give a second one")
    return pipeline.model.conditions


def open_data(run: Path, conditions: dict[str, Condition]) -> ImageData:
    """The data of a run, in the vocabularies that its conditions were trained with."""
    section = plain(load_config(run / "config.yaml"))["data"]
    for condition in conditions.values():
        if condition.vocabulary is not None:
            section["params"][condition.vocabulary] = list(getattr(condition, "names"))  # noqa: B009
    return instantiate_from_config(section)


def entry_of(data: ImageData, name: str) -> Any:
    parts = [part.name for part in data.train.sets]
    return data.sets[parts.index(name)]


def tasks_of(data: ImageData, conditions: dict[str, Condition]) -> list[Task]:
    """For each set: all judged conditions that it has together, and each alone."""
    tasks: list[Task] = []
    for part in validation_sets(data).values():
        sample = part.sample(0)
        has = tuple(n for n in conditions if n in JUDGES and JUDGES[n].annotation in sample)
        alone = [(name,) for name in has]
        tasks += [Task(part.name, names) for names in ([has] if len(has) > 1 else []) + alone]
    return tasks


def checked(task: Task, available: Sequence[Task]) -> Task:
    """The task, if its set has what it asks for."""
    single = {(each.set, each.conditions[0]) for each in available if len(each.conditions) == 1}
    missing = [name for name in task.conditions if (task.set, name) not in single]
    if missing or not task.conditions:
        listed = ", ".join(f"{name}:{condition}" for name, condition in sorted(single))
        raise ValueError(
            f"task '{task}' cannot be judged on this run; there are {listed or 'none'}"
        )
    return task


def parse_task(text: str) -> Task:
    """'nyu_depth_v2:depth+labels' -> Task."""
    name, colon, conditions = text.partition(":")
    if not (name and colon and conditions):
        raise ValueError(f"task '{text}': write SET:CONDITION or SET:CONDITION+CONDITION")
    return Task(name, tuple(conditions.split("+")))


def validation_sets(data: ImageData) -> dict[str, ImageList]:
    mix = data.validation
    if mix is None:
        raise ValueError("the sets of this run have no validation split; nothing is held out")
    return {part.name: part for part in mix.sets}


def held_out(
    data: ImageData, task: Task, conditions: dict[str, Condition], count: int, seed: int
) -> list[Record]:
    """`count` records of the validation split in a random order, those that have all conditions."""
    part = validation_sets(data)[task.set]
    records: list[Record] = []
    for index in np.random.default_rng(seed).permutation(len(part)):
        sample = part.sample(int(index))
        rng = np.random.default_rng((seed, int(index)))
        values = {name: conditions[name].derive(sample, rng) for name in task.conditions}
        whole = {name: value for name, value in values.items() if value is not None}
        if len(whole) == len(values):
            records.append(Record(sample["name"], to_picture(sample["image"]), whole))
        if len(records) == count:
            break
    if len(records) < count:
        logger.info("%s: %d records are held out, not %d", task, len(records), count)
    return records


# --- what comes of it ----------------------------------------------------------------------------


def painted(
    records: Sequence[Record],
    size: tuple[int, int],
    paint: Paint,
    progress: Progress | None = None,
) -> list[Image.Image]:
    """One picture for each record; record i has seed i."""
    pictures = []
    for number, record in enumerate(records):
        pictures.append(paint(record.values, size, number))
        if progress is not None:
            progress(number + 1, len(records))
    return pictures


def judged(
    panel: dict[str, Judge],
    records: Sequence[Record],
    reconstructed: Sequence[Image.Image],
    samples: Sequence[Image.Image],
    conditions: dict[str, Condition],
    seed: int = 0,
) -> dict[str, dict[str, dict[str, float | None]]]:
    """{condition: {measure: {true, true shuffled, reconstructed, sampled, shuffled, ratio}}}."""
    shuffle = derangement(len(records), seed)
    sources = {"true": [record.picture for record in records], "reconstructed": reconstructed}
    report: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, judge in panel.items():
        names = getattr(conditions[name], "names", ())
        asked = torch.stack([judge.target(record.values[name], names) for record in records])
        others = asked[shuffle]
        scores: dict[str, Measures] = {}
        for source, pictures in {**sources, "sampled": samples}.items():
            seen = readings(judge, pictures)
            scores[source] = judge.score(seen, asked, others)
            if source != "reconstructed":
                key = "shuffled" if source == "sampled" else "true, shuffled"
                scores[key] = judge.score(seen, others, asked)
        report[name] = {
            measure: {
                **{source: scores[source][measure] for source in scores},
                "ratio": ratio(measure, own, scores["shuffled"][measure]),
            }
            for measure, own in scores["sampled"].items()
        }
    return report


@torch.no_grad()
def readings(judge: Judge, pictures: Sequence[Image.Image]) -> Tensor:
    """What a judge sees in each picture, stacked."""
    seen = []
    for first in range(0, len(pictures), AT_ONCE):
        images = [to_image(np.asarray(each)) for each in pictures[first : first + AT_ONCE]]
        seen.append(judge.read(torch.stack(images)))
    return torch.cat(seen)


def to_picture(image: Tensor) -> Image.Image:
    """float (3, H, W) in [-1, 1] -> a picture."""
    pixels = ((image + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def sheet_of(
    records: Sequence[Record],
    samples: Sequence[Image.Image],
    conditions: dict[str, Condition],
    path: Path,
) -> None:
    """Conditions, sample and truth of the first records, as they come."""
    rows = []
    for record, sample in zip(records, samples, strict=False):
        size = (record.picture.height, record.picture.width)
        shown = [conditions[name].show(value, size) for name, value in record.values.items()]
        rows.append([*shown, np.asarray(sample), np.asarray(record.picture)])
    titles = [*records[0].values, "sample", "truth"]
    path.parent.mkdir(parents=True, exist_ok=True)
    sample_sheet(rows, titles).save(path)


# --- from the command line -----------------------------------------------------------------------


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m taming.evaluation.obedience")
    parser.add_argument("run", type=Path, help="directory of a second-stage run")
    parser.add_argument("--judges", type=Path, default=Path("runs/judges"))
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--count", type=int, default=96, help="held-out records for each task")
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--judge-steps", type=int, default=JudgeConfig.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--tasks", nargs="+", type=parse_task, metavar="SET:CONDITION[+CONDITION]",
        help="such as rooms:depth+labels; by default all that the run's sets have",
    )  # fmt: skip
    given = vars(parser.parse_args(words))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    report = evaluate(given.pop("run"), **given, track=progress_bar)
    for task, conditions in report["tasks"].items():
        for name, measures in conditions.items():
            print_table(f"{task}, judge of {name}", measures, HEADLINE[name])
    logger.info("written to %s", given["out"])


if __name__ == "__main__":
    main()
