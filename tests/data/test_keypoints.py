"""Joints are found by name, whatever a file calls them and in whatever order."""

import json
from pathlib import Path

import numpy as np
import pytest

from taming.data.batch import JOINTS
from taming.data.keypoints import People, joint_index


def people(tmp_path: Path, annotations: list[dict], names: list[str] | None = None, **image):
    described = {"id": 7, "file_name": "a.jpg", "height": 100, "width": 80} | image
    category = {"id": 1, "name": "person"} | ({"keypoints": names} if names else {})
    content = {"images": [described], "annotations": annotations, "categories": [category]}
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(content))
    return People(path)


def person(*keypoints: float, **more) -> dict:
    return {"id": 1, "image_id": 7, "category_id": 1, "keypoints": list(keypoints)} | more


@pytest.mark.parametrize(
    "spelling",
    [
        "left_wrist",
        "Left Wrist",
        "leftWrist",
        "LWrist",
        "LEFT_WRIST",
        "L-wrist",
        "l_wrist",
        "wrist_left",
        "wrist_l",
    ],
)
def test_joints_have_many_spellings(spelling: str) -> None:
    assert joint_index(spelling) == JOINTS.index("left_wrist")


def test_other_joints_are_not_guessed() -> None:
    assert joint_index("left_little_toe") is None
    assert joint_index("pelvis") is None


def test_joints_in_another_order_find_their_places(tmp_path) -> None:
    names = ["right_ankle", "left_ankle", "neck", "head_top", "pelvis"]
    values = [1, 2, 2, 3, 4, 1, 5, 6, 2, 7, 8, 0, 9, 9, 2]
    found = people(tmp_path, [person(*values)], names).of("a", 100, 80)
    assert found is not None
    assert found.shape == (1, 19, 3)
    assert found[0, JOINTS.index("right_ankle")].tolist() == [1, 2, 1]
    assert found[0, JOINTS.index("left_ankle")].tolist() == [3, 4, 1]
    assert found[0, JOINTS.index("neck")].tolist() == [5, 6, 1]
    assert found[0, :, 2].sum() == 3  # head_top is unseen, the pelvis is none of ours


def test_coco_order_needs_no_names(tmp_path) -> None:
    values = np.arange(17 * 3, dtype=float).reshape(17, 3)
    values[:, 2] = 2
    found = people(tmp_path, [person(*values.ravel())]).of("a", 100, 80)
    assert found is not None
    assert found[0, :17, :2].tolist() == values[:, :2].tolist()
    assert found[0, 17:, 2].sum() == 0


def test_the_largest_person_comes_first_and_crowds_are_left_out(tmp_path) -> None:
    names = ["neck", "head_top"]
    small = person(10, 10, 2, 12, 14, 2, id=1)
    large = person(10, 10, 2, 50, 60, 2, id=2)
    crowd = person(1, 1, 2, 2, 2, 2, id=3, iscrowd=1)
    found = people(tmp_path, [small, large, crowd], names).of("a", 100, 80)
    assert found is not None
    assert found[:, JOINTS.index("head_top"), 0].tolist() == [50, 12]


def test_pictures_without_people_have_no_keypoints(tmp_path) -> None:
    found = people(tmp_path, [person(0, 0, 0)], ["neck"])
    assert found.of("a", 100, 80) is None
    assert found.of("b", 100, 80) is None


def test_coordinates_follow_a_resized_picture(tmp_path) -> None:
    found = people(tmp_path, [person(40, 50, 2)], ["neck"]).of("a", 200, 160)
    assert found is not None
    assert found[0, JOINTS.index("neck")].tolist() == [80, 100, 1]


def test_another_aspect_ratio_is_an_error(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"100x80.*200x300"):
        people(tmp_path, [person(40, 50, 2)], ["neck"]).of("a", 200, 300)


def test_joints_just_outside_are_invisible(tmp_path) -> None:
    found = people(tmp_path, [person(85, 50, 2, 40, 50, 2)], ["neck", "nose"]).of("a", 100, 80)
    assert found is not None
    assert found[0, JOINTS.index("neck"), 2] == 0
    assert found[0, JOINTS.index("nose"), 2] == 1


def test_joints_far_outside_are_an_error(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"neck of 'a' is at x 640, y 50.*100x80"):
        people(tmp_path, [person(640, 50, 2)], ["neck"]).of("a", 100, 80)


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ((1, 2, 2), ["neck", "nose"], "3 numbers for 2 joints"),
        ((1, float("nan"), 2), ["neck"], "NaN"),
        ((1, 2, 2), ["wing"], "none of the joints"),
    ],
)
def test_broken_annotations_are_errors(tmp_path, values, names, message) -> None:
    with pytest.raises(ValueError, match=message):
        people(tmp_path, [person(*values)], names)


A_PICTURE = {"id": 7, "file_name": "a.jpg", "height": 100, "width": 80}
NOBODY = {"images": [A_PICTURE], "annotations": [], "categories": []}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"categories": 5}, r"categories is 5; give a list of \{"),
        ({"categories": [{"name": "person"}]}, "'person'.* is none of categories; give"),
        ({"categories": [{"id": 1, "keypoints": 5}]}, "is none of categories; give"),
        ({"images": None}, "images is None; give a list of"),
        ({"images": ["a.jpg"]}, "'a.jpg' is none of images; give"),
        ({"images": [{"id": 7}]}, 'is none of images; give .*"file_name"'),
        ({"images": [{"file_name": "a.jpg"}]}, 'is none of images; give .*"id"'),
        ({"images": [A_PICTURE | {"width": "wide"}]}, "is none of images; give"),
        ({"annotations": [{"keypoints": [1, 2, 2]}]}, "is none of annotations; give"),
        ({"annotations": [person(1, 2, 2) | {"keypoints": 5}]}, "is none of annotations; give"),
        (
            {"annotations": [person() | {"keypoints": ["x"] * 51}]},
            "annotation 1 has words .*'x'.*; give",
        ),
    ],
)
def test_an_entry_of_another_form_is_shown(tmp_path, content, message) -> None:
    """A KeyError or a TypeError told neither the file nor the entry."""
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(NOBODY | content))
    with pytest.raises(ValueError, match=f"keypoints.json: .*{message}"):
        People(path)


def test_crowds_and_annotations_without_joints_need_nothing_else(tmp_path) -> None:
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(NOBODY | {"annotations": [{"iscrowd": 1}, {"keypoints": []}]}))
    assert People(path).people == {}


def test_annotations_of_unknown_pictures_are_errors(tmp_path) -> None:
    with pytest.raises(ValueError, match="no picture has id 8"):
        people(tmp_path, [person(1, 2, 2, image_id=8)], ["neck"])


def test_a_file_that_is_not_coco_is_an_error(tmp_path) -> None:
    path = tmp_path / "keypoints.json"
    path.write_text("[]")
    with pytest.raises(ValueError, match="COCO"):
        People(path)
