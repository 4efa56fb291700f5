"""Laws of poses as prefix tokens."""

import pytest
import torch

from taming.cond_stage.pose_tokens import PoseTokens
from taming.cond_stage.published import read_pose
from taming.data.batch import JOINTS

NOBODY = torch.zeros(1, 1, len(JOINTS), 3)


def tokens_of(people: torch.Tensor, n_embed: int = 102, size: tuple[int, int] = (50, 100)):
    tokens = PoseTokens(n_embed, size).encode(people)[2][2]
    return tokens.unflatten(1, (len(JOINTS), 2))


def one_joint(x: float, y: float, joint: int = 3) -> torch.Tensor:
    people = NOBODY.clone()
    people[0, 0, joint] = torch.tensor([x, y, 1.0])
    return people


def test_there_are_two_tokens_a_joint() -> None:
    assert PoseTokens(16).encode(NOBODY)[2][2].shape == (1, PoseTokens.tokens) == (1, 38)


def test_what_nobody_sees_is_the_last_token() -> None:
    assert (tokens_of(NOBODY) == 101).all()


@pytest.mark.parametrize(
    ("at", "expected"),
    [((-0.5, -0.5), (0, 0)), ((99.5, 49.5), (100, 100)), ((49.5, 12.0), (50, 25))],
)
def test_places_run_from_rim_to_rim(at: tuple[float, float], expected: tuple[int, int]) -> None:
    tokens = tokens_of(one_joint(*at))
    assert tuple(tokens[0, 3].tolist()) == expected
    assert (tokens[0, 4:] == 101).all()


@pytest.mark.parametrize("at", [(-1.0, 5.0), (100.0, 5.0), (5.0, 50.0)])
def test_a_joint_outside_is_not_seen(at: tuple[float, float]) -> None:
    assert (tokens_of(one_joint(*at)) == 101).all()


def test_the_person_with_most_joints_counts() -> None:
    people = torch.cat([one_joint(5, 5), one_joint(20, 20)], dim=1)
    people[0, 1, 7] = torch.tensor([30.0, 30.0, 1.0])
    assert torch.equal(tokens_of(people), tokens_of(people[:, 1:]))


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 19, 3\).*expected \(B, N, 19, 3\)"):
        PoseTokens(16).encode(torch.zeros(1, 19, 3))


def test_a_shown_person_is_not_the_empty_picture() -> None:
    stage = PoseTokens(16, (50, 100))
    nobody, somebody = stage.show(NOBODY, (20, 40)), stage.show(one_joint(50, 25), (20, 40))
    assert nobody.shape == (1, 3, 20, 40)
    assert somebody.abs().max() <= 1
    assert not torch.equal(nobody, somebody)


def test_what_is_read_is_what_a_batch_holds() -> None:
    people = torch.rand(1, 19, 3) * torch.tensor([99.0, 49.0, 0.0]) + torch.tensor([0.0, 0.0, 1.0])
    read = read_pose(people.numpy(), (50, 100))
    torch.testing.assert_close(read, people, atol=1e-4, rtol=0)
