"""Joints in every form people have them, and what is drawn from them."""

import json

import numpy as np
import pytest
import torch

from taming.cond_stage import Pose
from taming.cond_stage.skeleton import LIMBS, MAPS, render_maps
from taming.data.batch import JOINTS, LEFT_RIGHT

SIZE, GRID = (64, 48), (8, 6)


@pytest.fixture
def pose():
    torch.manual_seed(0)
    return Pose(8, 8, people=3)


@pytest.fixture
def person():
    joints = np.random.default_rng(0).uniform(4, 44, (17, 2))
    return np.concatenate([joints, np.ones((17, 1))], axis=1)


def coco(person, count=1, height=64, width=48):
    images = [
        {"id": i, "file_name": f"{i:04}.jpg", "height": height, "width": width}
        for i in range(count)
    ]
    people = [
        {"id": i, "image_id": i, "category_id": 1, "keypoints": person.flatten().tolist()}
        for i in range(count)
    ]
    kind = {"id": 1, "name": "person", "keypoints": list(JOINTS[:17])}
    return {"images": images, "annotations": people, "categories": [kind]}


def test_every_form_reads_alike(pose, person, tmp_path):
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(coco(person)))
    padded = np.concatenate([person, np.zeros((2, 3))])
    fractions = person.copy()
    fractions[:, :2] = (person[:, :2] + 0.5) / (48, 64)
    first = pose.read(person, SIZE)
    sources = [person[None], padded, torch.from_numpy(person), fractions, first, coco(person), path]
    for source in sources:
        torch.testing.assert_close(pose.read(source, SIZE), first, rtol=0, atol=1e-5)


def test_a_file_counts_in_pixels_of_its_own_picture(pose, person):
    double = person * (2, 2, 1) + (0.5, 0.5, 0)
    value = pose.read(coco(double, height=128, width=96), SIZE)
    torch.testing.assert_close(value, pose.read(person, SIZE), rtol=0, atol=1e-5)


def test_one_of_many_pictures_is_named_behind_a_hash(pose, person, tmp_path):
    path = tmp_path / "keypoints.json"
    path.write_text(json.dumps(coco(person, count=3)))
    assert (pose.read(f"{path}#0002", SIZE)[..., 2] > 0).sum() == 17
    with pytest.raises(ValueError, match=r"describes 3 pictures; say which: '.*#0000'"):
        pose.read(path, SIZE)
    with pytest.raises(ValueError, match="no person in a picture called '0009'"):
        pose.read(f"{path}#0009", SIZE)


def test_a_hash_may_stand_in_a_path(pose, person, tmp_path):
    """Everything behind it was taken for the name of a picture."""
    path = tmp_path / "run#1" / "k#2.json"
    path.parent.mkdir()
    path.write_text(json.dumps(coco(person)), encoding="utf-8")
    assert torch.equal(pose.read(path, SIZE), pose.read(f"{path}#0000", SIZE))


def test_joints_outside_are_invisible(pose, person):
    person[4, :2] = -20, 10
    value = pose.read(person, SIZE)
    assert value[0, 4].tolist() == [0, 0, 0]
    assert value[0, :, 2].sum() == 16


def test_nobody_inside_is_an_error(pose, person):
    person[:, 0] += 500
    with pytest.raises(ValueError, match="no visible joint inside its 64x48 picture"):
        pose.read(person, SIZE)


def test_a_photograph_is_no_pose_and_is_told_how_to_become_one(pose):
    with pytest.raises(ValueError, match=r"photo\.JPG is a picture, .* taming annotate pose makes"):
        pose.read("photo.JPG", SIZE)


def test_an_array_of_another_shape_is_an_error(pose):
    with pytest.raises(ValueError, match=r"\(1, 14, 3\) is no pose; give"):
        pose.read(np.ones((1, 14, 3)), SIZE)


def test_the_largest_people_are_taken_first(rng):
    pose = Pose(8, 8, people=1)
    joints = rng.uniform(10, 30, (19, 3))
    joints[:, 2] = 1
    small = joints * (0.3, 0.3, 1)
    keypoints = torch.from_numpy(np.stack([small, joints])).float()
    value = pose.derive({"image": torch.zeros(3, *SIZE), "keypoints": keypoints}, rng)
    torch.testing.assert_close(value, pose.read(joints, SIZE), rtol=0, atol=1e-5)


def test_invisible_people_derive_to_none(pose, rng):
    sample = {"image": torch.zeros(3, *SIZE), "keypoints": torch.zeros(2, 19, 3)}
    assert pose.derive(sample, rng) is None


def test_an_invisible_joint_contributes_nothing(pose, person):
    value = pose.read(person, SIZE)[None]
    value[0, 0, 9, 2] = 0
    moved = value.clone()
    moved[0, 0, 9, :2] = torch.tensor([float("nan"), 0.9])
    maps, other = render_maps(value, (16, 12)), render_maps(moved, (16, 12))
    assert torch.equal(maps, other)
    assert not maps[0, 9].any()
    for i, limb in enumerate(LIMBS):
        assert maps[0, len(JOINTS) + i].any() == (JOINTS[9] not in limb and "neck" not in limb)


def test_a_joint_lights_up_where_it_is():
    people = torch.zeros(1, 1, 19, 3)
    people[0, 0, 5] = torch.tensor([0.75, 0.25, 1.0])  # x, y: to the right, up
    maps = render_maps(people, (16, 12))
    top = (maps[0, 5] == maps[0, 5].max()).nonzero().float().mean(dim=0)
    assert (top + 0.5).tolist() == [4.0, 9.0]
    assert maps.shape == (1, MAPS, 16, 12)


def test_a_limb_lies_between_its_joints():
    people = torch.zeros(1, 1, 19, 3)
    people[0, 0, 5] = torch.tensor([0.5, 2.5 / 16, 1.0])
    people[0, 0, 7] = torch.tensor([0.5, 12.5 / 16, 1.0])
    limb = render_maps(people, (16, 13))[
        0, len(JOINTS) + LIMBS.index(("left_shoulder", "left_elbow"))
    ]
    torch.testing.assert_close(limb[2:13, 6], torch.ones(11))
    assert limb[0].max() < 0.1
    assert limb[:, 0].max() < 0.01


def test_left_and_right_are_told_apart(pose, person):
    value = pose.read(person, SIZE)[None]
    swapped = value[:, :, list(LEFT_RIGHT)]
    maps, other = render_maps(value, (16, 12)), render_maps(swapped, (16, 12))
    torch.testing.assert_close(maps[:, list(LEFT_RIGHT)], other[:, :19])
    assert not torch.allclose(pose.embed(value, GRID), pose.embed(swapped, GRID))


def test_order_of_people_does_not_matter(pose, rng):
    value = torch.from_numpy(rng.uniform(0, 1, (1, 3, 19, 3))).float()
    value[..., 2] = 1
    torch.testing.assert_close(pose.embed(value, GRID), pose.embed(value.flip(1), GRID))


def test_pose_fits_any_grid(pose, person):
    value = pose.read(person, SIZE)[None]
    for grid in ((8, 6), (5, 9), (1, 1)):
        assert pose.embed(value, grid).shape == (1, 8, *grid)


def test_pose_without_a_grid_is_an_error(pose):
    with pytest.raises(ValueError, match="pass the latent grid"):
        pose.embed(pose.blank(SIZE)[None])


def test_mirrored_person_is_shown_in_exchanged_colours(pose, person):
    value = pose.read(person, SIZE)
    assert pose.show(value, (64, 48)).shape == (64, 48, 3)
    assert not np.array_equal(pose.show(value), pose.show(value[:, list(LEFT_RIGHT)]))
