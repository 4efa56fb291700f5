"""Boxes of things from files and samples, and the stage of scene models, which changes nothing."""

import json

import pytest
import torch

from taming.cond_stage.base import Part
from taming.cond_stage.boxes import Boxes, DummyCondStage

SIZE = (32, 48)
NAMES = ["tree", "dog", "traffic light"]


@pytest.fixture
def boxes() -> Boxes:
    return Boxes(8, NAMES, objects=2)


def box(category: str, *bbox: float) -> dict:
    return {"category": category, "bbox": list(bbox)}


def test_a_file_gives_corners_and_category_largest_first(boxes, tmp_path) -> None:
    entries = [box("dog", 0.5, 0.25, 0.25, 0.5), box("Traffic_Light", 0.0, 0.0, 1.0, 0.5)]
    expected = torch.tensor([[0, 0, 1, 0.5, 2], [0.5, 0.25, 0.75, 0.75, 1]])
    for content in (entries, {"boxes": entries}):
        path = tmp_path / "boxes.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        assert torch.equal(boxes.read(path, SIZE), expected)
        assert torch.equal(boxes.read(content, SIZE), expected)


def coco(*pictures: str) -> dict:
    """Of each picture, 100 pixels wide and 50 high, one dog and one tree."""
    listed = list(enumerate(pictures))
    return {
        "images": [{"id": i, "file_name": name, "width": 100, "height": 50} for i, name in listed],
        "annotations": [
            {"id": 2 * i + j, "image_id": i, "category_id": 7 + j, "bbox": box}
            for i, _ in listed
            for j, box in enumerate([[50 + i, 25, 25, 25], [0, 0, 50, 50]])
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 8, "name": "tree"}],
    }


def test_the_boxes_of_a_set_are_read_too(boxes, tmp_path) -> None:
    expected = torch.tensor([[0, 0, 0.5, 1, 0], [0.5, 0.5, 0.75, 1, 1]])
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(coco("a.jpg")), encoding="utf-8")
    assert torch.equal(boxes.read(path, SIZE), expected)
    assert torch.equal(boxes.read(coco("a.jpg"), SIZE), expected)


def test_a_part_of_a_picture_has_its_own_boxes(boxes) -> None:
    entries = [box("tree", 0.0, 0.0, 0.6, 1.0), box("dog", 0.5, 0.5, 0.5, 0.5)]
    values = boxes.read(entries, SIZE)[None]
    right, there = boxes.within(values, Part(0.0, 0.5, 1.0, 1.0))
    # The dog is the largest there
    torch.testing.assert_close(right[0], torch.tensor([[0, 0.5, 1, 1, 1], [0, 0, 0.2, 1, 0]]))
    assert there is not None
    assert there.tolist() == [True]
    corner, there = boxes.within(values, Part(0.0, 0.7, 0.4, 1.0))
    assert torch.equal(corner[0], boxes.blank(SIZE))
    assert there is not None
    assert there.tolist() == [False]


def test_of_a_file_of_many_pictures_one_is_named(boxes, tmp_path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(coco("a.jpg", "b.jpg")), encoding="utf-8")
    for name in ("b", "b.jpg"):
        assert boxes.read(f"{path}#{name}", SIZE)[1].tolist() == pytest.approx(
            [0.51, 0.5, 0.76, 1, 1]
        )
    with pytest.raises(ValueError, match=r"describes 2 pictures; say which: '.*#a'"):
        boxes.read(path, SIZE)
    with pytest.raises(ValueError, match="no thing in a picture called 'c'"):
        boxes.read(f"{path}#c", SIZE)


def test_what_is_not_there_is_marked(boxes) -> None:
    value = boxes.read([box("tree", 0.0, 0.0, 0.5, 0.5)], SIZE)
    assert value[:, 4].tolist() == [0, -1]


def test_more_things_than_tokens_leave_out_the_smallest(boxes) -> None:
    sides = (0.2, 0.6, 0.4)
    value = boxes.read([box("tree", 0.0, 0.0, side, side) for side in sides], SIZE)
    assert value[:, 2].tolist() == pytest.approx([0.6, 0.4])


def test_a_sample_in_pixels_is_the_same_as_the_file_in_parts(boxes) -> None:
    pixels = torch.tensor([[12.0, 8.0, 36.0, 24.0, 1.0]])
    sample = {"image": torch.zeros(3, *SIZE), "boxes": pixels}
    read = boxes.read([box("dog", 0.25, 0.25, 0.5, 0.5)], SIZE)
    assert torch.equal(boxes.derive(sample, None), read)


def test_a_sample_without_things_has_no_condition(boxes) -> None:
    sample = {"image": torch.zeros(3, *SIZE), "boxes": torch.zeros(0, 5)}
    assert boxes.derive(sample, None) is None


def test_a_thing_is_a_token_wherever_the_others_are(boxes) -> None:
    one = boxes.read([box("dog", 0.0, 0.0, 0.9, 0.9), box("tree", 0.1, 0.1, 0.2, 0.2)], SIZE)
    other = boxes.read([box("dog", 0.0, 0.0, 0.9, 0.9), box("tree", 0.5, 0.1, 0.2, 0.2)], SIZE)
    tokens = [boxes.embed(value[None])[0] for value in (one, other)]
    assert torch.equal(tokens[0][0], tokens[1][0])
    assert not torch.allclose(tokens[0][1], tokens[1][1])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "holds no boxes"),
        ({"boxes": "none"}, "holds no boxes"),
        ([{"category": "dog"}], "is no box"),
        ([box("dgo", 0, 0, 1, 1)], r"'dgo' is not among the 3 things .* 'dog'"),
        ([box("dog", 0.5, 0, 0.6, 1)], r"box \[0.5, 0, 0.6, 1\] of 'dog' is not inside"),
        ([box("dog", 0.5, 0, 0, 1)], "is not inside"),
        ([box("dog", 0, float("nan"), 0.5, 0.5)], "is not inside"),
    ],
)
def test_errors_name_value_and_remedy(boxes, source, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        boxes.read(source, SIZE)


def test_the_stage_of_scene_models_hands_codes_on() -> None:
    stage, codes = DummyCondStage("objects_bbox"), torch.arange(92)[None]
    _, _, (_, _, indices) = stage.eval().encode(codes)
    assert torch.equal(indices, codes)
    assert torch.equal(stage.decode(codes), codes)
    assert stage.conditional_key == "objects_bbox"
