"""Laws of scenes in JSON: how things are numbered, and what becomes a token."""

import json
from typing import Any

import pytest
import torch

from taming.cond_stage.scenes import only_scene, read_scenes, scene_builder, tokens_of

KEY, V = "objects_bbox", 8192


def coco(categories: dict[int, str], boxes: list[tuple[int, list[float]]]) -> dict[str, Any]:
    return {
        "images": [{"id": 3, "file_name": "train/a.jpg", "width": 40, "height": 20}],
        "annotations": [{"image_id": 3, "category_id": c, "bbox": b} for c, b in boxes],
        "categories": [{"id": each, "name": name} for each, name in categories.items()],
    }


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
        ({"categories": ["a"], "boxes": [{"category": 0, "bbox": [0, 0, 9, 1]}]}, "parts, 0 to 1"),
        ({"images": []}, "has no annotations and no categories"),
        (coco({1: "person"}, []), "no picture with objects"),
        (THINGS | {"images": [{"id": 3, "file_name": "a.jpg"}]}, "has no width and no height"),
        (coco({1: "person"}, [(1, [0, 0])]), "of picture 3 needs a category_id and a bbox"),
    ],
)
def test_what_is_no_scene_is_told(source, told) -> None:
    with pytest.raises(ValueError, match=told):
        read_scenes(source)


def test_of_several_pictures_one_has_to_be_meant() -> None:
    two = coco({1: "person"}, [(1, [0, 0, 9, 9])])
    two["images"].append({**two["images"][0], "id": 4})
    two["annotations"].append({**two["annotations"][0], "image_id": 4})
    with pytest.raises(ValueError, match="holds 2 pictures; paint them with `taming scenes`"):
        tokens_of(two, KEY, V)
