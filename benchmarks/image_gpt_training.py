"""Trains Image-GPT for so many minutes, its colours included; can be stopped and gone on with.

Learning rate and its end follow the clock, not the steps: a short rise, then half a cosine down.
Every pass draws new crops, mirrored at random, from (seed, pass, index) alone, so that a second
start reads what the first would have read. (Ours repeat as many crops as are cached.)

Best effort, for a processor and an hour: fused attention, bf16 where there are units for it, Muon
for the matrices of its blocks and AdamW in one pass for the rest, no weight decay of vectors and
embeddings, clipped gradients, averaged weights.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers import ImageGPTForCausalImageModeling

from benchmarks.image_gpt_colours import find_colours, to_codes
from benchmarks.image_gpt_model import SIDE, Shape, build, nats
from taming.checkpoint import atomic_write
from taming.data.datamodule import ImageData
from taming.evaluation.report import Track
from taming.first_stage.ema import EMA
from taming.training.base import decayed_groups
from taming.training.memory import keep_freed_memory
from taming.training.muon import MuonAdamW, split_groups
from taming.training.settings import TrainingSettings, has_bf16_units

SAVED_EVERY = 300.0  # seconds
LOGGED_EVERY = 10  # steps
COLOUR_PICTURES, COLOUR_PIXELS = 1024, 256  # looked at for the colours; pixels of each


@dataclass(frozen=True)
class Plan:
    """What is trained and how."""

    shape: Shape = field(default_factory=Shape)
    scale: tuple[float, float] = (1.0, 1.12)  # crops, as in configs/worlds.yaml
    batch_size: int = 4  # steps are scarcer than pictures: see NOTES.md
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.995  # of the weights that are measured, as ours
    rise: float = 0.04  # share of the minutes in which the learning rate rises
    final_rate: float = 0.02  # share of the learning rate at the end
    seed: int = 0
    workers: int = 1  # processes that read pictures


class Stopped(Exception):
    """Asked to stop; what is done so far is saved."""


class Learnt(NamedTuple):
    model: ImageGPTForCausalImageModeling
    colours: Tensor  # (K, 3)
    facts: dict[str, Any]  # seconds, steps, pictures, loss, ...


def train(plan: Plan, data: Path, minutes: float, path: Path, track: Track) -> Learnt:
    """The trained model; `path` holds the state, of one that was stopped or of one that is done."""
    training = Training(plan, data, minutes, path)
    with track("Image-GPT, seconds") as progress, StopAsked() as stop:
        while training.seconds() < training.limit or not training.steps:
            training.step()
            progress(round(min(training.seconds(), training.limit)), round(training.limit))
            if stop.asked:
                training.save()
                raise Stopped
            if time.monotonic() - training.saved_at > SAVED_EVERY:
                training.save()
    training.finish()
    training.average.swap()
    return Learnt(training.model.eval().requires_grad_(False), training.colours, training.facts())


class Training:
    """The model with all that a second start needs."""

    def __init__(self, plan: Plan, data: Path, minutes: float, path: Path) -> None:
        self.plan, self.path, self.limit = plan, path, 60.0 * minutes
        entry = {"path": str(data), "size": SIDE, "scale": plan.scale, "annotations": ()}
        self.data = ImageData([entry], plan.batch_size, num_workers=plan.workers, seed=plan.seed)
        self.model = build(plan.shape, plan.seed).train()
        groups = decayed_groups(self.model, plan.weight_decay)
        blocks: Any = self.model.transformer.h
        matrices, rest = split_groups(groups, [p for p in blocks.parameters() if p.ndim == 2])
        self.optimizer = MuonAdamW(matrices, rest, plan.learning_rate, (0.9, 0.95))
        self.average = EMA(self.model, plan.ema_decay)
        self.steps, self.spent, self.colour_seconds = 0, 0.0, 0.0
        self.processor = 0.0  # seconds of all threads: few of them, and something else ran
        self.curve: list[tuple[int, float, float]] = []  # step, seconds, loss in nats a pixel
        keep_freed_memory()
        self._restore()
        self._batches = self._endless()
        self.started = self.saved_at = time.monotonic()
        self.processor_started = time.process_time()
        if not self.steps:
            self.colours = self._find_colours()
            self.colour_seconds = self.seconds()

    def seconds(self) -> float:
        """Spent on learning, those before a second start and those on colours included."""
        return self.spent + time.monotonic() - self.started

    def step(self) -> None:
        codes = to_codes(next(self._batches)["image"], self.colours)
        rate = self.plan.learning_rate * self._share_of_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with self._mixed():
            loss = nats(self.model, codes).mean()
        if not bool(loss.isfinite()):
            raise ValueError(
                f"the loss of Image-GPT is {float(loss)} at step {self.steps}; remove {self.path} "
                f"and give a learning rate below {self.plan.learning_rate}"
            )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.average.update()
        self.steps += 1
        if self.steps % LOGGED_EVERY == 0:
            self.curve.append((self.steps, round(self.seconds(), 1), round(loss.item(), 4)))

    def finish(self) -> None:
        """The last state, saved once."""
        if self.steps and self.spent < self.limit:
            self.save()

    def save(self) -> None:
        # Told before it is written: writing is no learning.
        self.spent, self.started = self.seconds(), time.monotonic()
        self.processor += time.process_time() - self.processor_started
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict(),
            "colours": self.colours,
            "steps": self.steps,
            "spent": self.spent,
            "processor": self.processor,
            "colour_seconds": self.colour_seconds,
            "curve": self.curve,
        }
        with atomic_write(self.path) as partial:
            torch.save(state, partial)
        self.started = self.saved_at = time.monotonic()
        self.processor_started = time.process_time()

    def facts(self) -> dict[str, Any]:
        """What is told of the training."""
        recent = [loss for _, _, loss in self.curve[-20:]]
        return {
            "seconds": round(self.spent, 1),
            "processor seconds": round(self.processor, 1),
            "seconds of colours": round(self.colour_seconds, 1),
            "steps": self.steps,
            "pictures seen": self.steps * self.plan.batch_size,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "bf16": has_bf16_units(torch.device("cpu")),
            "training loss, nats a pixel": float(np.mean(recent)) if recent else None,
            **asdict(self.plan.shape),
        }

    def _restore(self) -> None:
        if not self.path.is_file():
            return
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load_state_dict(state["average"])
        self.colours = state["colours"]
        self.steps, self.spent = state["steps"], state["spent"]
        self.processor = state["processor"]
        self.colour_seconds, self.curve = state["colour_seconds"], state["curve"]

    def _endless(self) -> Iterator[dict[str, Any]]:
        """Batches from where training is."""
        loader: Any = self.data.train_dataloader()
        epoch, batch = divmod(self.steps, len(loader))
        while True:
            self.data.resume_at(epoch, batch)
            yield from loader
            epoch, batch = epoch + 1, 0

    def _find_colours(self) -> Tensor:
        """Of pixels drawn from pictures drawn from the training split."""
        rng = np.random.default_rng((self.plan.seed, 0xC0))
        part = self.data.train
        chosen = rng.permutation(len(part))[:COLOUR_PICTURES]
        found = []
        for index in chosen:
            pixels = part.sample(int(index))["image"].flatten(1).T  # (PIXELS, 3)
            found.append(pixels[torch.from_numpy(rng.permutation(len(pixels))[:COLOUR_PIXELS])])
        generator = torch.Generator().manual_seed(self.plan.seed)
        return find_colours(torch.cat(found), self.plan.shape.colours, generator)

    def _share_of_rate(self) -> float:
        done = min(1.0, self.seconds() / self.limit)
        # The settings' own schedule, in thousandths of the minutes instead of steps
        schedule = TrainingSettings(
            warmup_steps=round(1000 * self.plan.rise),
            decay="cosine",
            decay_steps=1000,
            final_rate=self.plan.final_rate,
        )
        return schedule.rate(round(1000 * done))

    def _mixed(self) -> AbstractContextManager[Any]:
        if has_bf16_units(torch.device("cpu")):
            return torch.autocast("cpu", torch.bfloat16)
        return contextlib.nullcontext()


class StopAsked:
    """Whether Ctrl-C or SIGTERM came meanwhile; a second Ctrl-C ends at once."""

    def __enter__(self) -> StopAsked:
        self.asked = False
        self._before: dict[signal.Signals, Any] = {}
        if threading.current_thread() is threading.main_thread():  # signals go nowhere else
            for each in (signal.SIGINT, signal.SIGTERM):
                self._before[each] = signal.signal(each, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
