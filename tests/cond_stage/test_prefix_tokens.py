"""Laws of conditions that are a token as they are: a class, a start token."""

import pytest
import torch

from taming.cond_stage.prefix_tokens import Labelator, PrefixTokens, SOSProvider


def test_a_class_is_its_own_token() -> None:
    values, loss, (_, _, tokens) = Labelator(10).encode(torch.tensor([3, 9]))
    assert loss is None
    assert tokens.tolist() == values.tolist() == [[3], [9]]
    assert tokens.dtype == torch.int64


@pytest.mark.parametrize("label", [-1, 10])
def test_a_class_outside_the_vocabulary_is_refused(label) -> None:
    with pytest.raises(ValueError, match=rf"in \[{min(label, 0)}, {max(label, 0)}\].* has 10"):
        Labelator(10).encode(torch.tensor([0, label]))


def test_classes_are_one_id_an_image() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\)"):
        Labelator(10).encode(torch.zeros(2, 3))


def test_classes_may_stand_in_a_column() -> None:
    """Scripts of then passed (B, 1)."""
    _, _, (_, _, tokens) = Labelator(10).encode(torch.tensor([[3], [9]]))
    assert tokens.tolist() == [[3], [9]]


def test_every_image_gets_the_start_token() -> None:
    values, loss, (_, _, tokens) = SOSProvider(7).encode(torch.rand(3, 3, 4, 4))
    assert loss is None
    assert tokens.tolist() == values.tolist() == [[7], [7], [7]]
    assert tokens.dtype == torch.int64


@pytest.mark.parametrize("stage", [Labelator(10, False), SOSProvider(4, quantize_interface=False)])
def test_without_the_quantizers_interface_only_values_come_back(stage) -> None:
    assert stage.encode(torch.tensor([4])).tolist() == [[4]]


@pytest.mark.parametrize("stage", [Labelator(10), SOSProvider(9)])
def test_there_is_nothing_to_save_and_nothing_to_decode(stage) -> None:
    assert stage.state_dict() == {}
    values = torch.tensor([[1]])
    assert stage.decode(values) is values


@pytest.mark.parametrize(("stage", "size"), [(Labelator(10), 10), (SOSProvider(9), 10)])
def test_the_codebook_holds_every_token(stage, size) -> None:
    assert stage.codebook_size == size


def test_a_class_is_shown_as_a_card_of_its_own() -> None:
    shown = Labelator(10).show(torch.tensor([3, 4, 3]), (24, 40))
    assert shown.shape == (3, 3, 24, 40)
    assert -1 <= float(shown.min()) < 0 < float(shown.max()) <= 1
    assert torch.equal(shown[0], shown[2])
    assert not torch.equal(shown[0], shown[1])


def test_a_stage_says_how_it_encodes() -> None:
    with pytest.raises(TypeError, match=r"PrefixTokens.* encode"):
        PrefixTokens()  # pyright: ignore[reportAbstractUsage]
