"""Laws of scenes in JSON: how things are numbered, and what becomes a token."""

import json
from typing import Any

import pytest
import torch

from taming.cond_stage.scenes import only_scene, read_scenes, scene_builder, tokens_of

KEY, V = "objects_bbox", 8192


def coco(categories: dict[int, str], boxes: list[tuple[int, list[Any]]]) -> dict[str, Any]:
    return {
        "images": [{"id": 3, "file_name": "train/a.jpg", "width": 40, "height": 20}],
        "annotations": [{"image_id": 3, "category_id": c, "bbox": b} for c, b in boxes],
        "categories": [{"id": each, "name": name} for each, name in categories.items()],
    }


def by_hand(*boxes: Any) -> dict[str, Any]:
    return {"categories": ["person", "dog"], "boxes": list(boxes)}


BOX = {"category": "dog", "bbox": [0.2, 0, 0.5, 1]}
THINGS = coco({1: "person", 9: "boat", 18: "dog"}, [(18, [10, 0, 20, 20]), (1, [0, 0, 4, 20])])
STUFF = coco({92: "banner", 105: "clouds", 183: "other"}, [(105, [20, 0, 20, 5])])


def test_categories_are_numbered_by_their_ids_as_words_without_other() -> None:
    """As published: "105" stands before "18", and both before "9"."""
    scenes = read_scenes([THINGS, STUFF])
    assert scenes.names == ["person", "clouds", "dog", "boat", "banner"]
    numbers = [each.category_no for each in only_scene(scenes, "").objects]
    assert [scenes.names[number] for number in numbers] == ["dog", "person", "clouds"]


def test_boxes_are_parts_of_the_picture_and_a_square_of_it_is_painted() -> None:
    scene = only_scene(read_scenes(THINGS), "")
    assert scene.name == "a"
    assert scene.objects[0].bbox == (0.25, 0.0, 0.5, 1.0)
    assert scene.crop == (0.25, 0.0, 0.5, 1.0)


def test_a_published_scene_has_92_tokens_that_tell_it_again() -> None:
    """The person lies outside the square in the middle, and is not told."""
    tokens = tokens_of(THINGS, KEY, V)
    assert tokens.shape == (92,)
    objects, crop = scene_builder(KEY, 3, V).inverse_build(tokens)
    assert [number for number, _ in objects] == [1]  # dog, of person, dog, boat
    assert objects[0][1] == pytest.approx((0.25, 0, 0.5, 1), abs=0.01)
    assert crop == pytest.approx((0.25, 0, 0.5, 1), abs=0.01)


def test_one_scene_by_hand_equals_the_same_in_coco(tmp_path) -> None:
    file = tmp_path / "mine.json"
    boxes = [{"category": "dog", "bbox": [0.2, 0, 0.5, 1]}, {"category": 0, "bbox": [0, 0, 1, 1]}]
    file.write_text(json.dumps({"categories": ["person", "dog"], "boxes": boxes}))
    scenes = read_scenes(file)
    assert scenes.scenes[0].name == "mine"
    assert [each.category_no for each in scenes.scenes[0].objects] == [1, 0]
    assert torch.equal(tokens_of(scenes, KEY, V), tokens_of(str(file), KEY, V))


def test_tokens_come_through_as_they_are() -> None:
    tokens = torch.arange(92)
    assert torch.equal(tokens_of(tokens, KEY, V), tokens)
    with pytest.raises(ValueError, match=r"integers .* below 64"):
        tokens_of(tokens, KEY, 64)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ({"boxes": []}, "has no categories"),
        ({"categories": ["a"], "boxes": [{"category": "b", "bbox": [0, 0, 1, 1]}]}, "is unknown"),
        ({"categories": ["a"], "boxes": [{"category": 1, "bbox": [0, 0, 1, 1]}]}, "none of the 1"),
        ({"categories": ["a"], "boxes": [{"category": 0, "bbox": [0, 0, 9, 1]}]}, "not inside"),
        (by_hand(BOX | {"bbox": [0.8, 0.8, 0.9, 0.9]}), "box .* is not inside the picture; give"),
        (by_hand(BOX | {"bbox": [0, 0, 0, 1]}), "box .* is not inside the picture; give"),
        (by_hand(BOX | {"bbox": [0, float("nan"), 1, 1]}), "is none of boxes; give"),
        (by_hand(BOX | {"bbox": [0, None, 1, 1]}), "is none of boxes; give"),
        (by_hand(BOX | {"bbox": [0, "x", 1, 1]}), "'x'.* is none of boxes; give"),
        (by_hand(["a", 1, 2, 3, 4]), r"\['a', 1, 2, 3, 4\] is none of boxes; give"),
        (by_hand(BOX) | {"boxes": None}, "boxes is None; give a list of"),
        (by_hand(BOX) | {"categories": 5}, "has no categories; list the names"),
        ({"images": []}, "has no categories and no annotations"),
        (coco({1: "person"}, []), "no picture with objects"),
        (THINGS | {"images": [{"id": 3, "file_name": "a.jpg"}]}, "none of images; give .*width"),
        (THINGS | {"images": [{"id": 3, "width": 4, "height": 4}]}, "none of images; give"),
        (THINGS | {"categories": 5}, "categories is 5; give a list of"),
        (THINGS | {"categories": [{"id": 1}]}, "none of categories; give .*name"),
        (THINGS | {"annotations": [{"category_id": 1, "bbox": [0] * 4}]}, "none of annotations"),
        (coco({1: "person"}, [(1, [0, 0])]), "none of annotations; give .*bbox"),
        (coco({1: "person"}, [(1, [0, None, 1, 1])]), "none of annotations; give .*bbox"),
    ],
)
def test_what_is_no_scene_is_told(source, told) -> None:
    """Many of these were a KeyError or a TypeError, and a box outside the picture was taken."""
    with pytest.raises(ValueError, match=told):
        read_scenes(source)


def test_a_box_that_is_rounded_over_the_edge_ends_there() -> None:
    box = BOX | {"bbox": [-0.0005, 0.5, 0.5, 0.5004]}
    assert only_scene(read_scenes(by_hand(box)), "").objects[0].bbox == (0, 0.5, 0.5, 0.5)


def test_pictures_of_one_name_in_several_folders_are_told_apart() -> None:
    """Their results had one file between them."""
    names = ["train/1.jpg", "val/1.jpg", "val/2.jpg"]
    images = [{"id": i, "file_name": n, "width": 9, "height": 9} for i, n in enumerate(names)]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [0, 0, 9, 9]} for i in range(3)]
    found = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "person"}]}
    assert [scene.name for scene in read_scenes(found).scenes] == ["1-1", "1-2", "2"]


def test_of_several_pictures_one_has_to_be_meant() -> None:
    two = coco({1: "person"}, [(1, [0, 0, 9, 9])])
    two["images"].append({**two["images"][0], "id": 4})
    two["annotations"].append({**two["annotations"][0], "image_id": 4})
    with pytest.raises(ValueError, match="holds 2 pictures; paint them with `taming scenes`"):
        tokens_of(two, KEY, V)
