"""Laws of coordinates as a condition: cells, rounding, the far end, there and back."""

import pytest
import torch

from taming.cond_stage.coord import CoordStage

H, W, F = 8, 12, 4  # never square


def numbered() -> torch.Tensor:
    """Pixels of the whole picture numbered row by row, as published data sets do."""
    return torch.arange(H * W).reshape(1, 1, H, W) / (H * W)


def test_a_token_is_the_mean_of_its_cell() -> None:
    values, loss, (_, _, tokens) = CoordStage(100, F).encode(numbered())
    means = numbered().unfold(2, F, F).unfold(3, F, F).mean(dim=(-1, -2))
    assert loss is None
    assert torch.equal(tokens, (100 * means).round().long())
    assert torch.equal(values, tokens.float())


def test_the_far_end_is_a_token_that_exists() -> None:
    _, _, (_, _, tokens) = CoordStage(16, F).encode(torch.ones(1, 1, H, W))
    assert tokens.unique().tolist() == [15]
    assert CoordStage(16, F).codebook_size == 16


def test_there_and_back_is_the_map_in_steps() -> None:
    stage, fine = CoordStage(1000, F), torch.rand(2, 1, H // F, W // F)
    coarse = fine.repeat_interleave(F, 2).repeat_interleave(F, 3)
    again = stage.decode(stage.encode(coarse)[0])
    torch.testing.assert_close(again, coarse, atol=1e-3, rtol=0)


@pytest.mark.parametrize("c", [torch.full((1, 1, H, W), 1.5), -torch.ones(1, 1, H, W)])
def test_values_outside_0_to_1_are_refused(c) -> None:
    with pytest.raises(ValueError, match=r"values in .*expected \(B, 1, H, W\) and \[0, 1\]"):
        CoordStage(16, F).encode(c)


def test_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 12\)"):
        CoordStage(16, F).encode(torch.zeros(1, 3, H, W))


def test_it_has_nothing_to_save() -> None:
    assert CoordStage(16, F).state_dict() == {}


def test_it_is_shown_from_black_to_white() -> None:
    shown = CoordStage(16, F).show(numbered(), (H, W))
    assert shown.shape == (1, 3, H, W)
    assert float(shown[0, 0, 0, 0]) == -1
    assert bool((shown[0, 0].flatten().diff() > 0).all())
