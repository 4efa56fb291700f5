"""Laws of Muon beside AdamW: each does its own share, and a run with them goes on exactly."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from taming.checkpoint import read_state_dict
from taming.config import ConfigError, instantiate_from_config
from taming.training import train
from taming.training.base import decayed_groups
from taming.training.muon import MuonAdamW, hidden_matrices, split_groups
from taming.training.run import wrap
from taming.transformer.any_order import AnyOrderTransformer

Second = Callable[..., dict[str, Any]]
WEIGHTS = "weights.safetensors"
pytestmark = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="needs PyTorch 2.9")


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))


def learn(model: nn.Sequential, optimizers: list[Any], steps: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(torch.randn(5, 4, generator=generator)).square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()
    return [weight.detach().clone() for weight in model.parameters()]


def groups(model: nn.Sequential) -> tuple[list[Any], list[Any]]:
    matrices = [{"params": [model[0].weight], "weight_decay": 0.1}]
    vectors = {"params": [model[0].bias, model[1].bias], "weight_decay": 0.0}
    return matrices, [{"params": [model[1].weight], "weight_decay": 0.1}, vectors]


def test_a_step_is_that_of_both() -> None:
    one = layers()
    together = learn(one, [MuonAdamW(*groups(one), 1e-2, (0.8, 0.9))], 3)
    other = layers()
    matrices, rest = groups(other)
    muon = torch.optim.Muon(matrices, 1e-2, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    apart = learn(other, [muon, torch.optim.AdamW(rest, 1e-2, (0.8, 0.9), fused=True)], 3)
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))


def test_a_loaded_state_goes_on_where_it_was() -> None:
    model = layers()
    optimizer = MuonAdamW(*groups(model), 1e-2, (0.8, 0.9))
    learn(model, [optimizer], 2)
    saved = (
        [w.detach().clone() for w in model.parameters()],
        copy.deepcopy(optimizer.state_dict()),
    )
    expected = learn(model, [optimizer], 2)
    again = layers()
    with torch.no_grad():
        for weight, value in zip(again.parameters(), saved[0], strict=True):
            weight.copy_(value)
    resumed = MuonAdamW(*groups(again), 1.0, (0.1, 0.1))  # the state brings rates and momenta
    resumed.load_state_dict(saved[1])
    assert all(torch.equal(a, b) for a, b in zip(learn(again, [resumed], 2), expected, strict=True))


def test_only_matrices_between_hidden_layers_are_orthogonalised() -> None:
    transformer = AnyOrderTransformer(codebook_size=16, width=32, layers=2, heads=2)
    model = nn.ModuleDict({"transformer": transformer, "other": nn.Linear(3, 32)})
    matrices, rest = split_groups(decayed_groups(model, 0.1), hidden_matrices(transformer))
    chosen = {id(p) for group in matrices for p in group["params"]}
    left = {id(p) for group in rest for p in group["params"]}
    assert id(transformer.content[0].attn.qkv.weight) in chosen
    for weight in (transformer.head.weight, transformer.tok_emb.weight, transformer.start):
        assert id(weight) in left
    assert id(model["other"].weight) in left
    assert chosen.isdisjoint(left)
    assert chosen | left == {id(p) for p in model.parameters()}
    assert all(group["weight_decay"] == 0.1 for group in matrices)


def test_a_run_with_muon_resumes_exactly_and_keeps_its_optimizer(
    quick: Second, tmp_path: Path
) -> None:
    muon = {"optimizer": "muon"}
    whole = train(quick({"max_steps": 5}, muon), runs=tmp_path)
    cut = train(quick({"max_steps": 3}, muon), runs=tmp_path / "cut")
    with pytest.raises(ConfigError, match="begun with muon"):
        train({"training": {"optimizer": "adamw"}}, resume=cut)
    train({"trainer": {"max_steps": 5}}, resume=cut)
    expected = read_state_dict(whole / WEIGHTS)
    for name, weight in read_state_dict(cut / WEIGHTS).items():
        assert torch.equal(weight, expected[name]), name
    plainly = read_state_dict(train(quick({"max_steps": 5}), runs=tmp_path / "adamw") / WEIGHTS)
    assert any(not torch.equal(weight, expected[name]) for name, weight in plainly.items())


def test_a_first_stage_refuses_it(tiny: Callable[..., dict[str, Any]]) -> None:
    model = instantiate_from_config(tiny()["model"])
    with pytest.raises(ConfigError, match="which is for transformers"):
        wrap(model, {"optimizer": "muon"})
