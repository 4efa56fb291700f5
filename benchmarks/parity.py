"""Ours beside the original, tensor by tensor: one table.

    python -m benchmarks.parity [WORDS]         # WORDS: only rows that contain them

The published packages write checkpoints of every kind of model and run client code with them; the
same code then runs with ours, from the same files, old paths and old targets. Floats may differ by
1e-4 (small ones less), codes not at all. The last line counts; the exit code is 1 if a row failed.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks import client_code, peers
from benchmarks.comparing import TOLERANCE, Row, compare, failure
from benchmarks.parity_cases import Case, cases
from taming.checkpoint import load_weights, read_state_dict
from taming.config import instantiate_from_config, load_config, to_yaml
from taming.console import progress_bar
from taming.loading import load_model
from taming.sampling.autoregressive import UNKNOWN
from taming.sampling.filters import Filters
from taming.sampling.sliding_window import Window, sample_sequence


class OurSide:
    """How `client_code` reaches ours: old import paths, and old configs from YAML files."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "config.yaml"

    def find(self, path: str) -> Any:
        module, name = path.rsplit(".", 1)
        return getattr(importlib.import_module(module), name)

    def build(self, config: Mapping[str, Any]) -> Any:
        self.file.write_text(to_yaml({"model": config}), "utf-8")
        return instantiate_from_config(load_config(self.file).model)

    def load(self, model: nn.Module, path: str) -> None:
        load_weights(model, read_state_dict(path), source=path)


class RunSide(OurSide):
    """Models from run directories as the original's training left them, by their folder alone."""

    def build(self, config: Mapping[str, Any]) -> Any:
        params = dict(config["params"])
        run = self.file.parent / "logs" / "2021-01-20T16-04-20_run"
        (run / "configs").mkdir(parents=True)
        (run / "checkpoints").mkdir()
        shutil.copy(params.pop("ckpt_path"), run / "checkpoints" / "last.ckpt")
        section = {"base_learning_rate": 4.5e-06, "target": config["target"], "params": params}
        text = to_yaml({"model": section, "data": {"target": "main.DataModuleFromConfig"}})
        (run / "configs" / "2021-01-20T16-04-20-project.yaml").write_text(text, "utf-8")
        try:
            return load_model(run)
        finally:
            shutil.rmtree(run)


def windows(
    side: OurSide, tensors: dict[str, Tensor], config: Mapping[str, Any], window: int
) -> dict[str, Tensor]:
    """The greedy picture of our sampler; the peer's job of this name is a loop over its forward."""
    model = side.build(config).eval()
    known = tensors["known"]
    prefix = model.encode_to_c(tensors["cond"])[1].unflatten(1, known.shape[1:])

    def decoder_at(place: Window) -> Any:
        return model.decoder(prefix[:, place.rows, place.columns].flatten(1))

    generators = [torch.Generator()]
    codes = sample_sequence(
        decoder_at, known, (window, window), filters=Filters(0.0), generators=generators
    )
    assert not bool((codes == UNKNOWN).any())
    return {"codes": codes}


OUR_JOBS = {**client_code.JOBS, "windows": windows}


def run(case: Case, peer: peers.Peer, folder: Path) -> Row:
    """One row: the peer writes a checkpoint, both read it, both run the job."""
    side = RunSide(folder) if case.form == "run" else OurSide(folder)
    arguments = deepcopy(case.arguments)
    file = folder / "model.ckpt"
    try:
        if "config" in arguments and case.job != "permuter":
            zipped = case.form != "pickle"
            peer.run("write", config=arguments["config"], path=str(file), zipped=zipped)
            if case.job == "gpt":  # has no ckpt_path
                arguments["weights"] = str(file)
            else:
                arguments["config"]["params"]["ckpt_path"] = str(file)
        theirs = peer.run(case.job, case.tensors, **arguments)
        ours = OUR_JOBS[case.job](side, case.tensors, **arguments)
        return compare(case.what, theirs, ours)
    except Exception as error:  # a row that cannot be computed is a row that failed
        logging.getLogger(__name__).info("%s", case.what, exc_info=True)
        return failure(case.what, error)
    finally:
        file.unlink(missing_ok=True)


def rows(words: str = "") -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="parity-") as name, contextlib.ExitStack() as stack:
        started: dict[str, peers.Peer] = {}
        wanted = [case for case in cases(name) if words in case.what]
        report = stack.enter_context(progress_bar("comparing"))
        for done, case in enumerate(wanted):
            report(done, len(wanted))
            if case.peer not in started:
                started[case.peer] = stack.enter_context(peers.start(case.peer))
            yield run(case, started[case.peer], Path(name))


def show(found: list[Row], console: Console) -> None:
    table = Table(title=f"Ours and the original; floats within {TOLERANCE:g}, codes exactly")
    for heading in ("what", "tensors", "largest", "difference", "tolerance", "verdict"):
        table.add_column(heading, justify="left" if heading in ("what", "verdict") else "right")
    for row in found:
        verdict = "[green]same[/]" if row.passed else f"[red]differs[/]: {row.remark}"
        numbers = (f"{row.largest:.3g}", f"{row.difference:.1e}", f"{TOLERANCE:g}")
        if row.compared.startswith("0 float"):
            numbers = ("-", "-", "exact")
        table.add_row(row.what, row.compared, *numbers, verdict)
    console.print(table)


def main(words: str = "") -> int:
    began = time.monotonic()
    try:
        found = list(rows(words))
    except peers.PeerError as error:
        found = [failure("the original's packages", error)]
    console = Console(width=None if sys.stdout.isatty() else 160)
    show(found, console)
    console.print(f"{time.monotonic() - began:.0f} s")
    passed = sum(row.passed for row in found)
    print(f"{passed} passed, {len(found) - passed} failed")
    return 0 if found and passed == len(found) else 1


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
