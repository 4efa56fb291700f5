"""Real sets: every annotation readable, in range, and aligned. Skipped where there are none."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from taming.data.batch import VOID
from taming.data.mix import Mix
from taming.data.paired_folder import PairedFolder, open_set

Find = Callable[[str], Path]


def open_one(photographs: Find, name: str, random: bool = True) -> PairedFolder:
    return PairedFolder(photographs(name), "all", (64, 48), scale=(1.0, 1.3), random=random)


@pytest.mark.parametrize(
    ("name", "keys", "labels", "classes"),
    [
        ("camvid", {"labels"}, 11, 0),
        ("nyu_depth_v2", {"labels", "depth"}, 39, 0),
        ("clothing_co_parsing", {"labels", "keypoints"}, 59, 0),
        ("leeds_sports_pose_extended", {"keypoints"}, 0, 0),
        ("yosemite_landscapes", {"class_label"}, 0, 2),
        ("flower_photos", {"class_label"}, 0, 5),
        ("clothing_cc0", {"class_label"}, 0, 10),
        ("tiny_imagenet_64", {"class_label"}, 0, 200),
        ("flickr8k_1000", {"caption"}, 0, 0),
        ("examples_ade20k", {"labels"}, 150, 0),
        ("examples_coco", {"labels"}, 171, 0),
        ("examples_sflckr", {"labels"}, 171, 0),
        ("examples_drin", {"depth"}, 0, 0),
    ],
)
def test_sets_give_what_they_promise(photographs, name, keys, labels, classes) -> None:
    pictures = open_one(photographs, name)
    assert (len(pictures.label_names), len(pictures.class_names)) == (labels, classes)
    joints = []
    for index in range(0, len(pictures), len(pictures) // 8 + 1):
        sample = pictures.sample(index, epoch=index)
        assert set(sample) - {"image", "name", "set"} == keys
        assert sample["image"].shape == (3, 64, 48)
        assert sample["image"].abs().max() <= 1
        if "labels" in keys:
            seen = sample["labels"].unique()
            assert ((seen < labels) | (seen == VOID)).all()
        if "depth" in keys:
            assert sample["depth"].min() == -1
        if "keypoints" in keys:
            joints.append(float(sample["keypoints"][..., 2].sum()))
    if joints:  # a crop may lose some, not most
        assert sum(joints) / len(joints) > 6


def test_every_annotation_of_a_pose_set_is_inside_its_picture(photographs) -> None:
    pictures = open_one(photographs, "leeds_sports_pose_extended")
    assert pictures.people is not None
    for name in pictures.names:
        size = pictures.people.sizes[name]
        assert size is not None
        assert pictures.people.of(name, *size) is not None


def test_inverse_depth_is_larger_at_what_is_near(photographs) -> None:
    """In rooms the lower half, the floor before the camera, is nearer than the upper half."""
    rooms = open_one(photographs, "nyu_depth_v2", random=False)
    nearer = [
        float(depth[:, 40:].mean() - depth[:, :24].mean())
        for depth in (rooms.sample(index)["depth"] for index in range(0, 400, 40))
    ]
    assert sum(value > 0 for value in nearer) >= 8


def test_sky_is_one_label_in_streets_and_in_scenes(photographs) -> None:
    streets = open_one(photographs, "camvid", random=False)
    scenes = open_one(photographs, "examples_ade20k", random=False)
    mix = Mix([streets, scenes])
    sky = mix.label_names.index("sky")
    assert mix.label_names.count("sky") == 1
    for part in (streets, scenes):
        top = torch.cat([part.sample(i)["labels"][:8].flatten() for i in range(len(part))[:30]])
        assert (top == sky).any()


def test_all_sets_together_keep_void_in_its_place(photographs) -> None:
    together = photographs("camvid").parent
    folders = [path for path in sorted(together.iterdir()) if (path / "images").is_dir()]
    if len(folders) < 13:
        pytest.skip(f"{together} holds {len(folders)} of the thirteen sets")
    mix = Mix([open_set(folder, "all", size=32) for folder in folders])
    assert len(mix.label_names) > 256
    assert mix.label_names[VOID] == "void"
