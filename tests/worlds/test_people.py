"""Laws of people in scenes. Without the extra they are refused in words, never replaced."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from taming.worlds import LABELS, bodies, render, render_set, sample_scene
from taming.worlds.annotations import coco
from taming.worlds.captions import wearing

needs_people = pytest.mark.skipif(
    not bodies.people_available(), reason='needs pip install "taming[people]"'
)
PERSON = [LABELS.index(name) for name in ("skin", "hair", "top", "bottoms", "shoes")]


def _without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "anny" else find(name)
    )
    monkeypatch.setattr(bodies, "_held", [])


def test_without_the_extra_people_are_an_import_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    _without_extra(monkeypatch)
    with pytest.raises(ImportError, match=r"anny.*taming\[people\]"):
        render_set(1, 16, tmp_path / "set", people=True)
    with pytest.raises(ImportError, match=r"taming\[people\]"):
        render(sample_scene(0, people=True), (16, 16))


def test_without_the_extra_a_set_has_no_people(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    _without_extra(monkeypatch)
    folder = render_set(2, 16, tmp_path / "set", people_share=1.0, workers=1)
    assert not (folder / "keypoints.json").exists()


def test_people_are_part_of_the_scene_as_data():
    scene = sample_scene(11, people=True)
    assert scene == sample_scene(11, people=True)
    assert 1 <= len(scene.people) <= 3
    assert not sample_scene(11).people


def test_clothes_are_told_in_words():
    words = {wearing(p) for seed in range(12) for p in sample_scene(seed, people=True).people}
    assert len(words) > 10
    assert all(w.startswith(("a ", "an ")) and " in " in w for w in words)


@pytest.fixture(scope="module")
def scenes():
    return [(s, render(s, (96, 80))) for s in (sample_scene(i, people=True) for i in range(5))]


@needs_people
def test_every_person_is_seen_and_boxed(scenes):
    for scene, picture in scenes:
        assert picture.keypoints.shape == (len(scene.people), 17, 3)
        person = np.isin(picture.labels, PERSON)
        assert person.mean() > 0.005
        for left, top, width, height in picture.boxes:
            assert 0 <= left <= left + width <= 80
            assert 0 <= top <= top + height <= 96
            inside = person[int(top) : int(top + height) + 1, int(left) : int(left + width) + 1]
            assert inside.any()


@needs_people
def test_visible_joints_lie_on_a_person(scenes):
    seen = 0
    for _, picture in scenes:
        person = np.isin(picture.labels, PERSON)
        for x, y, v in picture.keypoints.reshape(-1, 3):
            if v == 2:
                seen += 1
                assert person[int(y), int(x)]
    assert seen > 40


@needs_people
def test_joints_outside_the_picture_are_zero(scenes):
    for _, picture in scenes:
        x, y, v = picture.keypoints.reshape(-1, 3).T
        assert ((v > 0) <= ((x >= 0) & (x < 80) & (y >= 0) & (y < 96))).all()
        assert ((x[v == 0] == 0) & (y[v == 0] == 0)).all()


@needs_people
def test_a_person_stands_where_the_depth_says(scenes):
    for scene, picture in scenes:
        depth = picture.depth[np.isin(picture.labels, PERSON)]
        assert depth.min() > min(p.z for p in scene.people) - 1.2
        assert depth.max() < max(p.z for p in scene.people) + 1.2


@needs_people
def test_left_and_right_are_the_persons_own():
    """Seen from the front, a person's left shoulder is on the right of the picture."""
    for seed in range(30):
        scene = sample_scene(seed, people=True)
        person = scene.people[0]
        if abs(person.turn) < 25 and person.action == "standing":
            joints = render(scene, (48, 48)).keypoints[0]
            assert joints[5, 0] > joints[6, 0]
            assert joints[11, 0] > joints[12, 0]
            return
    pytest.fail("no person of 30 faces the camera")


@needs_people
def test_the_head_is_above_the_feet_of_who_stands(scenes):
    for scene, picture in scenes:
        for person, joints in zip(scene.people, picture.keypoints, strict=True):
            if person.action in ("standing", "walking") and (joints[[0, 15], 2] > 0).all():
                assert joints[0, 1] < joints[15, 1]


def test_joints_are_written_with_pixel_centres_at_integers():
    """They lay half a pixel to the right of and below what the picture shows."""
    joints = np.zeros((1, 17, 3), np.float32)
    joints[0, :2] = (0.5, 3.25, 2), (7.5, 0.25, 1)
    (person,) = coco([("a.png", joints, np.zeros((1, 4)))], 8, 8)["annotations"]
    assert person["keypoints"] == [0, 2.75, 2, 7, -0.25, 1] + [0] * 45


@needs_people
def test_keypoints_are_written_as_coco(tmp_path: Path):
    folder = render_set(3, 24, tmp_path / "set", people=True, people_share=1.0, workers=1)
    found = json.loads((folder / "keypoints.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in found["images"]] == [f"{i:06d}.png" for i in range(3)]
    assert {a["image_id"] for a in found["annotations"]} == {0, 1, 2}
    assert found["categories"][0]["keypoints"] == list(bodies.JOINTS)
    for annotation in found["annotations"]:
        assert len(annotation["keypoints"]) == 51
        seen = sum(v > 0 for v in annotation["keypoints"][2::3])
        assert annotation["num_keypoints"] == seen
