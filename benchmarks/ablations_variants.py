"""What is compared: the variants, each a few overrides of one base, and the questions they answer.

The bases are `configs/demo_tokenizer.yaml` and `configs/demo.yaml`, trained for minutes instead of
steps. Their learning rate stays constant and what is measured are averaged weights: a training that
is cut at any moment has then the same settings as one that was meant to end there, so that variants
of unequal speed can be held against each other at one time and at one number of examples.

Sentences are no condition here: their embeddings are kept with the codes, and all variants, those
without sentences too, read one cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from taming.training.codes import ORDER_KINDS

Stage = Literal["first", "second"]

CONFIGS = Path(__file__).parents[1] / "configs"
BASES: dict[Stage, str] = {"first": "demo_tokenizer", "second": "demo"}

UNHURRIED = (  # the same for all variants of both stages
    "model.learning_rate=1.0e-3",
    "training.decay=constant",
    "training.decay_steps=null",
    "training.ema_decay=0.995",
    "training.restart_until=600",  # steps, as far as codes are restarted at all
    "training.checkpoint_minutes=3",
    "trainer.max_epochs=-1",
    "trainer.limit_val_batches=0",  # what is held out is measured afterwards, by one rule
)

CONDITIONS = ("labels", "depth", "pose", "lowres", "known", "edges", "class_label")
JUDGED = ("labels", "depth")  # the conditions whose obedience is measured
HEADLINES = {"labels": "contested accuracy", "depth": "centred correlation"}  # in the figure
NATS_GIVEN: tuple[tuple[str, ...], ...] = ((), ("labels",), ("depth",), ("labels", "depth"))

STEPS, RASTER = "24 steps", "raster"  # see `ablations_measures.SAMPLINGS`


@dataclass(frozen=True)
class Variant:
    """One training: the base of its stage with one decision changed."""

    name: str
    title: str  # in tables and figures
    stage: Stage
    overrides: tuple[str, ...] = ()
    conditions: tuple[str, ...] = CONDITIONS  # of a second stage
    told: str = ""  # what is changed, in words

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of order that it can be asked for; known regions have to be learned."""
        learned = "known" in self.conditions and f"{_ORDERS}.known=0" not in self.overrides
        return tuple(kind for kind in ORDER_KINDS if kind != "known" or learned)


_KEEP, _ORDERS = "data.params.codes.dropping.keep", "data.params.codes.orders"
_TRANSFORMER = "model.params.transformer_config.params"

VARIANTS = (
    Variant(
        "first_stage", "8 dimensions, unit sphere", "first",
        told="codes of 8 dimensions on the unit sphere, dead codes restarted",
    ),
    Variant(
        "base", "base", "second",
        told="control added at the target cells behind a trunk of two layers; any order; all tasks",
    ),
    Variant(
        "no_trunk", "no trunk", "second",
        (f"{_TRANSFORMER}.trunk_layers=0", f"{_TRANSFORMER}.layers=8"),
        told="each cell's control knows its own place of the map only; the two layers of the trunk "
        "are layers of the streams instead",
    ),
    Variant(
        "prefix", "control as prefix", "second", (f"{_TRANSFORMER}.control_mode=prefix",),
        told="control stands in front of the codes, one token a cell",
    ),
    Variant(
        "raster_only", "raster only", "second",
        (f"{_ORDERS}.random=0", f"{_ORDERS}.spread=0", f"{_ORDERS}.raster=1", f"{_ORDERS}.known=0"),
        told="codes are learned row by row, in no other order; no completion either",
    ),
    Variant(
        "labels_only", "label maps only", "second", (f"{_KEEP}.labels=1.0",), ("labels",),
        told="paints from label maps alone, which nearly every example has",
    ),
    Variant(
        "depth_only", "depth only", "second", (f"{_KEEP}.depth=1.0",), ("depth",),
        told="paints from depth alone, which nearly every example has",
    ),
    Variant(
        "base_again", "base again", "second", ("seed=1", "data.params.seed=0"),
        told="the base from other weights: how far one training is from another",
    ),
    Variant(
        "sphere_256", "256 dimensions, unit sphere", "first", ("model.params.embed_dim=256",),
        told="codes of 256 dimensions on the unit sphere, projected from 64 channels",
    ),
    Variant(
        "plain_256", "256 dimensions, plain", "first",
        ("model.params.embed_dim=256", "model.params.quantizer.params.normalize=false"),
        told="codes of 256 dimensions, compared as they are; dead codes restarted",
    ),
    Variant(
        "no_restarts", "256 dimensions, no restarts", "first",
        ("model.params.embed_dim=256", "model.params.quantizer.params.normalize=false",
         "training.restart_every=0"),
        told="as before, without restarts",
    ),
    Variant(
        "published", "published quantizer", "first",
        ("model.params.embed_dim=256", "model.params.quantizer=null", "training.restart_every=0"),
        told="as before, with the published weights of the losses",
    ),
)  # fmt: skip

NAMED = {variant.name: variant for variant in VARIANTS}
FIRST = "first_stage"  # the one that all second stages share


class Entry(NamedTuple):
    """A variant, and how it is sampled; first stages are not."""

    variant: str
    sampling: str = ""

    @property
    def title(self) -> str:
        title = NAMED[self.variant].title
        return f"{title}, {self.sampling}" if self.sampling else title


class Curve(NamedTuple):
    """Nats per code against minutes: in which kind of order, given what."""

    kind: str
    given: tuple[str, ...]

    @property
    def title(self) -> str:
        return f"{self.kind} order, given {given_title(self.given)}"


@dataclass(frozen=True)
class Question:
    """Entries side by side; differences are from the first."""

    name: str
    title: str
    entries: tuple[Entry, ...]
    curves: tuple[Curve, ...] = ()  # of second stages
    replaced: int = 1  # as many of the others, together, does the first entry stand for

    @property
    def variants(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(entry.variant for entry in self.entries))

    @property
    def stage(self) -> Stage:
        return NAMED[self.variants[0]].stage


QUESTIONS = (
    Question(
        "control",
        "Where control enters",
        (
            Entry("base", STEPS),
            Entry("base_again", STEPS),
            Entry("no_trunk", STEPS),
            Entry("prefix", STEPS),
        ),
        (Curve("random", ("labels",)),),
    ),
    Question(
        "order",
        "Any order or raster only",
        (Entry("base", RASTER), Entry("raster_only", RASTER), Entry("base", STEPS)),
        (Curve("raster", ("labels",)),),
    ),
    Question(
        "tasks",
        "One model for all tasks or one for each",
        (Entry("base", STEPS), Entry("labels_only", STEPS), Entry("depth_only", STEPS)),
        (Curve("random", ("labels",)), Curve("random", ("depth",))),
        replaced=2,
    ),
    Question(
        "codebook",
        "The codebook of the first stage",
        tuple(map(Entry, ("first_stage", "sphere_256", "plain_256", "no_restarts", "published"))),
    ),
)


def samplings_of(name: str) -> list[str]:
    """How a variant is sampled, for all questions together."""
    asked = [entry for question in QUESTIONS for entry in question.entries]
    return list(dict.fromkeys(e.sampling for e in asked if e.variant == name and e.sampling))


def given_title(given: Sequence[str]) -> str:
    return " and ".join(given) or "nothing"


def chosen(names: Sequence[str]) -> list[Variant]:
    """The variants of these names, or of the questions of these names; all where none is given."""
    wanted: set[str] = set()
    for name in names:
        question = next((q for q in QUESTIONS if q.name == name), None)
        if question is None and name not in NAMED:
            listed = ", ".join([*(q.name for q in QUESTIONS), *NAMED])
            raise ValueError(f"there is no variant or question '{name}'; there are {listed}")
        wanted |= {name} if question is None else set(question.variants)
    return [variant for variant in VARIANTS if not names or variant.name in wanted]


def config_of(
    variant: Variant,
    *,
    data: Path,  # the set of scenes
    size: int,
    minutes: float,
    overrides: Sequence[str] = (),  # of the base of this stage, whatever the variant
    first_stage: Path | None = None,  # run directory, for a second stage
    cache: Path | None = None,  # of its codes
) -> dict[str, Any]:
    """What is trained, as `taming.training.train` takes it."""
    from taming.config import load_config, plain

    common = (*UNHURRIED, f"training.max_minutes={minutes}", f"data.params.size={size}")
    path = CONFIGS / f"{BASES[variant.stage]}.yaml"
    config = plain(load_config(path, [*common, *overrides, *variant.overrides]))
    config["name"] = variant.name
    config["data"]["params"]["sets"] = [{"path": str(data)}]
    config["trainer"]["callbacks"] = [{"target": "benchmarks.ablations_training.Snapshots"}]
    if variant.stage == "second":
        params, codes = config["model"]["params"], config["data"]["params"]["codes"]
        params["first_stage_config"] = str(first_stage)
        codes["cache"] = str(cache)
        kept = variant.conditions
        for section in (params["cond_stage_config"], codes["dropping"]["keep"]):
            for name in [each for each in section if each not in kept]:
                del section[name]
    return config
