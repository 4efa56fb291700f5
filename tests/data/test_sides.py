"""A mirrored picture shows the other side, in words and in ids, and nothing else changes."""

import json

import numpy as np
import pytest

from taming.data.paired_folder import PairedFolder
from taming.data.sides import counterparts, exchanged, mirrored_words


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("a man on the left", "a man on the right"),
        ("Left of the tree", "Right of the tree"),
        ("LEFT hand, right-hand side", "RIGHT hand, left-hand side"),
        ("the leftmost boat turns right.", "the rightmost boat turns left."),
        ("on the right behind the tree", "on the left behind the tree"),
        ("the dog is left of it", "the dog is right of it"),
    ],
)
def test_sides_in_words_are_exchanged(text: str, mirrored: str) -> None:
    assert mirrored_words(text) == mirrored
    assert mirrored_words(mirrored) == text


@pytest.mark.parametrize(
    "text",
    [
        "a bright day, leftover food, an upright stone, a copyright",
        "a cat right next to a dog",
        "all right",
        "a right-angled bend at a right angle",
        "right behind it",
        "a bicycle left behind",
    ],
)
def test_what_is_no_side_stays(text: str) -> None:
    assert mirrored_words(text) == text


def test_names_that_differ_in_the_side_alone_are_counterparts() -> None:
    names = ["Left_arm", "sky", "right arm", "left leg", "l_eye", "r_eye", "L", "R", "bright"]
    assert counterparts(names) == {0: 2, 2: 0, 4: 5, 5: 4}
    assert counterparts(["left", "right"]) == {0: 1, 1: 0}


def test_ids_are_exchanged_and_others_stay() -> None:
    assert exchanged(np.array([[0, 1], [2, 255]]), {0: 2, 2: 0}).tolist() == [[2, 1], [0, 255]]


def test_a_mirrored_picture_has_the_other_side_everywhere(make_set) -> None:
    root = make_set(count=1, label_names=("left arm", "right arm"))
    boxes = json.loads((root / "boxes.json").read_text())
    boxes["categories"] = [{"id": 7, "name": "left hand"}, {"id": 8, "name": "right hand"}]
    (root / "boxes.json").write_text(json.dumps(boxes))
    classes = {"names": {"0": "looking left", "1": "looking right"}, "images": {"000": 0}}
    (root / "class_labels.json").write_text(json.dumps(classes))
    (root / "captions.json").write_text(json.dumps({"000": "a hand on the left"}))
    found = PairedFolder(root, "all", (24, 32), random=True)
    seen = set()
    for epoch in range(12):
        sample = found.sample(0, epoch)
        mirrored = bool(sample["image"][0, 0, 0] > sample["image"][0, 0, -1])
        box_name = found.box_names[int(sample["boxes"][0, 4])]
        class_name = found.class_names[int(sample["class_label"])]
        side = "right" if mirrored else "left"
        assert sample["caption"] == f"a hand on the {side}"
        assert (box_name, class_name) == (f"{side} hand", f"looking {side}")
        # The left arm's pixels are on the left, and stay with the arm that is there now.
        assert sample["labels"][0, [0, -1]].tolist() == [0, 1]
        seen.add(mirrored)
    assert seen == {True, False}
