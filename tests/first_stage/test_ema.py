"""Laws of the average of weights."""

from typing import Any

import pytest
import torch
from torch import nn

from taming.first_stage.ema import EMA


def model() -> Any:
    parts = nn.ModuleDict({"net": nn.Linear(3, 2), "loss": nn.Linear(2, 1)})
    parts["codes"] = nn.Embedding(4, 2)
    return parts


def test_average_of_constant_weights_is_those_weights() -> None:
    net = model()
    ema = EMA(net)
    for _ in range(5):
        ema.update()
    for name, average in ema.weights().items():
        assert torch.allclose(average, net.state_dict()[name])


def test_average_follows_the_formula() -> None:
    net = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(net.weight)
    ema = EMA(net, decay=0.5, exclude=())
    expected = 0.0
    for n in range(1, 30):
        nn.init.constant_(net.weight, float(n))
        ema.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
    assert float(ema.weights()["weight"]) == pytest.approx(expected)


def test_losses_are_left_out() -> None:
    assert not any(name.startswith("loss.") for name in EMA(model()).weights())


def test_swapping_twice_changes_nothing() -> None:
    net = model()
    ema = EMA(net)
    nn.init.ones_(net["net"].weight)
    ema.update()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    averages = {k: v.clone() for k, v in ema.weights().items()}
    with ema.swapped():
        for name, average in averages.items():
            assert torch.equal(net.state_dict()[name], average)
    assert all(torch.equal(net.state_dict()[k], before[k]) for k in before)
    assert all(torch.equal(ema.weights()[k], averages[k]) for k in averages)


def test_a_validation_before_the_training_leaves_averages_that_learn() -> None:
    net = model()
    ema = EMA(net)
    with torch.inference_mode(), ema.swapped():
        pass
    nn.init.ones_(net["net"].weight)
    ema.update()
    ema.swap()
    net["net"].weight.sum().backward()
    assert net["net"].weight.grad is not None


def test_weights_return_after_an_error() -> None:
    net = model()
    ema = EMA(net)
    nn.init.ones_(net["net"].weight)
    with pytest.raises(RuntimeError, match="broken"), ema.swapped():
        raise RuntimeError("broken")
    assert torch.equal(net["net"].weight, torch.ones(2, 3))


def test_rows_that_moved_are_copied_and_others_averaged() -> None:
    net = model()
    ema = EMA(net)
    old = ema.weights()["codes.weight"].clone()
    nn.init.constant_(net["codes"].weight, 7.0)
    ema.copy_rows("codes.weight", torch.tensor([1, 3]))
    new = ema.weights()["codes.weight"]
    assert torch.equal(new[[1, 3]], torch.full((2, 2), 7.0))
    assert torch.equal(new[[0, 2]], old[[0, 2]])


def test_state_survives_a_round_trip() -> None:
    net = model()
    ema = EMA(net)
    nn.init.ones_(net["net"].weight)
    ema.update()
    other = EMA(model())
    other.load_state_dict(ema.state_dict())
    assert other.updates == 1
    assert all(torch.equal(other.weights()[k], v) for k, v in ema.weights().items())


def test_a_state_of_other_weights_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no average of .* net\.bias"):
        EMA(model()).load_state_dict({"updates": 0, "codes.weight": torch.zeros(4, 2)})


def test_without_decay_the_weights_are_the_average_and_no_copy_is_kept() -> None:
    net = model()
    ema = EMA(net, decay=0.0)
    with torch.no_grad():
        net["net"].weight.add_(1.0)
    ema.update()
    with ema.swapped():
        assert torch.equal(ema.weights()["net.weight"], net["net"].weight)
    assert ema.state_dict() == {"updates": 1}
