"""What a batch promises: every key for every picture, and the truth about which are real."""

import pytest
import torch

from taming.data.batch import ANNOTATIONS, JOINTS, LEFT_RIGHT, NO_BOX, NO_CLASS, VOID, collate


def bare(height: int = 4, width: int = 6, **more) -> dict:
    return {"image": torch.zeros(3, height, width), "name": "a", "set": "s", **more}


def test_missing_annotations_are_filled_and_marked_absent() -> None:
    full = bare(
        labels=torch.ones(4, 6, dtype=torch.int64),
        depth=torch.ones(1, 4, 6),
        keypoints=torch.ones(2, 19, 3),
        boxes=torch.ones(2, 5),
        class_label=torch.tensor(3),
        caption="a cat",
    )
    batch = collate([bare(), full])
    for key in ANNOTATIONS:
        assert batch["present"][key].tolist() == [False, True]
    assert (batch["labels"][0] == VOID).all()
    assert (batch["depth"][0] == 0).all()
    assert (batch["keypoints"][0] == 0).all()
    assert (batch["boxes"][0] == NO_BOX).all()
    assert batch["class_label"].tolist() == [NO_CLASS, 3]
    assert batch["caption"] == ["", "a cat"]


def test_shapes_and_types_do_not_depend_on_what_is_present() -> None:
    batch = collate([bare()])
    assert batch["labels"].shape == (1, 4, 6)
    assert batch["labels"].dtype == batch["class_label"].dtype == torch.int64
    assert batch["depth"].shape == (1, 1, 4, 6)
    assert batch["keypoints"].shape == (1, 1, 19, 3)


def test_people_are_padded_with_invisible_ones() -> None:
    batch = collate([bare(keypoints=torch.ones(n, 19, 3)) for n in (1, 3, 0)])
    assert batch["keypoints"].shape == (3, 3, 19, 3)
    assert (batch["keypoints"][..., 2] > 0).any(dim=2).sum(dim=1).tolist() == [1, 3, 0]


def test_a_batch_has_one_size() -> None:
    with pytest.raises(ValueError, match="one size"):
        collate([bare(), bare(height=8)])


def test_mirroring_joint_names_twice_changes_nothing() -> None:
    assert [LEFT_RIGHT[LEFT_RIGHT[i]] for i in range(len(JOINTS))] == list(range(len(JOINTS)))
    assert JOINTS[LEFT_RIGHT[JOINTS.index("left_wrist")]] == "right_wrist"
    assert JOINTS[LEFT_RIGHT[JOINTS.index("head_top")]] == "head_top"
