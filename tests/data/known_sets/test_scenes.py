"""Scenes with boxes: COCO and Open Images, as published models were trained on them."""

import pytest
import torch

from taming.data.annotated_objects_coco import AnnotatedObjectsCoco
from taming.data.annotated_objects_open_images import AnnotatedObjectsOpenImages
from taming.data.unpacking import custom_collate

OPTIONS = {
    "split": "validation",
    "keys": ["image", "objects_bbox", "annotations", "crop_bbox", "flipped"],
    "target_image_size": 16,
    "min_object_area": 0.00001,
    "min_objects_per_image": 1,
    "max_objects_per_image": 30,
    "crop_method": "center",
    "random_flip": False,
    "no_tokens": 1024,
    "use_group_parameter": True,
    "encode_crop": True,
}


def coco(disk, year: str = "val2017", **options) -> AnnotatedObjectsCoco:
    return AnnotatedObjectsCoco(data_path=disk.coco(year), **{**OPTIONS, **options})


def open_images(disk, **options) -> AnnotatedObjectsOpenImages:
    options = {**OPTIONS, "use_additional_parameters": True, **options}
    return AnnotatedObjectsOpenImages(data_path=disk.open_images(), **options)


def test_a_scene_is_ninety_two_codes(disk) -> None:
    sample = coco(disk)[0]
    assert sample["objects_bbox"].shape == (92,)
    assert sample["image"].shape == (16, 16, 3)
    assert sample["image"].abs().max() <= 1
    assert sample["crop_bbox"] == pytest.approx((0.125, 0, 0.75, 1), abs=0.02)  # of 24x32
    assert sample["flipped"] is None


def test_only_keys_asked_for_are_given(disk) -> None:
    assert set(coco(disk, keys=["file_name"])[0]) == {"file_name"}


def test_stuff_called_other_is_no_category(disk) -> None:
    data = coco(disk)
    names = [data.get_textual_label_for_category_no(n) for n in range(data.no_classes)]
    assert names == ["sky-other", "dog"]  # sorted by id as text: 157, 18


@pytest.mark.parametrize(("use", "names"), [("use_things", {"sky-other"}), ("use_stuff", {"dog"})])
def test_things_or_stuff_may_be_left_out(disk, use: str, names: set[str]) -> None:
    assert {c.name for c in coco(disk, **{use: False}).categories.values()} == names


def test_pictures_with_too_few_objects_are_left_out(disk) -> None:
    assert len(coco(disk, min_object_area=0.3)) == 1  # only one sky is so large
    assert len(coco(disk, min_objects_per_image=3)) == 0


def test_the_order_of_objects_is_a_draw_in_training_alone(disk) -> None:
    train = coco(disk, "train2017", split="train")
    codes = {tuple(train[(0, epoch)]["objects_bbox"].tolist()) for epoch in range(8)}
    assert len(codes) == 2
    fixed = coco(disk)
    assert torch.equal(fixed[(0, 0)]["objects_bbox"], fixed[(0, 5)]["objects_bbox"])


def test_mirroring_moves_picture_and_crop_together(disk) -> None:
    train = coco(disk, "train2017", split="train", random_flip=True, crop_method="random-1d")
    plain, mirrored = None, None
    for epoch in range(60):
        sample = train[(0, epoch)]
        if sample["crop_bbox"][0] == 0.0:  # the leftmost of a few places
            plain, mirrored = (plain, sample) if sample["flipped"] else (sample, mirrored)
    assert plain is not None
    assert mirrored is not None
    assert torch.equal(plain["image"].flip(1), mirrored["image"])
    builder = train.conditional_builders["objects_bbox"]
    left = [builder.inverse_build(s["objects_bbox"])[1] for s in (plain, mirrored)]
    assert left[0][0] + left[0][2] == pytest.approx(1 - left[1][0], abs=0.04)


@pytest.mark.parametrize("method", ["none", "center", "random-1d", "random-2d"])
def test_every_crop_is_a_square_of_the_size(disk, method: str) -> None:
    assert coco(disk, crop_method=method)[0]["image"].shape == (16, 16, 3)


def test_an_unknown_crop_is_an_error(disk) -> None:
    with pytest.raises(ValueError, match="use none, center, random-1d or random-2d"):
        coco(disk, crop_method="random")


def test_open_images_unify_categories_and_keep_the_suitcase_last(disk) -> None:
    targets = {
        "category_allow_list_target": "taming.data.open_images."
        "top_300_classes_plus_coco_compatibility",
        "category_mapping_target": "taming.data.open_images.open_images_unify_categories_for_coco",
    }
    data = open_images(disk, **targets)
    assert data.category_ids == ["/m/01g317", "/m/01s55n"]  # the man counts as a person
    man = next(a for a in data[0]["annotations"] if a.bbox == (0.25, 0.25, 0.5, 0.25))
    assert data.get_textual_label_for_category_id(man.category_id) == "Person"


def test_a_target_outside_the_trusted_packages_is_not_followed(disk) -> None:
    with pytest.raises(ValueError, match="outside"):
        open_images(disk, category_mapping_target="os.environ")


def test_a_missing_file_is_named(disk) -> None:
    folder = disk.coco()
    (folder / "annotations/stuff_val2017.json").unlink()
    with pytest.raises(ValueError, match=r"stuff_val2017.json does not exist"):
        AnnotatedObjectsCoco(data_path=folder, **OPTIONS)


def test_batches_keep_lists_of_objects(disk) -> None:
    data = coco(disk, keys=["image", "objects_bbox", "annotations"])
    batch = custom_collate([data[0], data[1]])
    assert batch["image"].shape == (2, 16, 16, 3)
    assert batch["objects_bbox"].shape == (2, 92)
    assert [len(objects) for objects in batch["annotations"]] == [2, 2]
