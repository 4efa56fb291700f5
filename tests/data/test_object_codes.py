"""Objects -> condition codes and back, as published scene models read them."""

import random

import pytest
import torch

from taming.data.object_codes import (
    ObjectsBoundingBoxConditionalBuilder,
    ObjectsCenterPointsConditionalBuilder,
    additional_parameters_string,
)
from taming.data.objects import (
    Annotation,
    absolute_bbox,
    filter_annotations,
    horizontally_flip_bbox,
    intersection_area,
    rescale_annotations,
)

BUILDERS = [ObjectsBoundingBoxConditionalBuilder, ObjectsCenterPointsConditionalBuilder]


def thing(number: int, *bbox: float, **marks) -> Annotation:
    return Annotation(bbox[2] * bbox[3], "picture", bbox, number, str(number), **marks)


def builder(kind=ObjectsBoundingBoxConditionalBuilder, **changed):
    arguments = {
        "no_object_classes": 10,
        "no_max_objects": 3,
        "no_tokens": 256,
        "encode_crop": True,
        "use_group_parameter": True,
        "use_additional_parameters": True,
    }
    return kind(**{**arguments, **changed})


def test_thirty_boxes_and_a_crop_are_ninety_two_codes() -> None:
    assert builder(no_max_objects=30).embedding_dim == 92
    assert builder(ObjectsCenterPointsConditionalBuilder, no_max_objects=30).embedding_dim == 62
    assert builder(no_max_objects=30, encode_crop=False).embedding_dim == 90


def test_codes_are_what_and_where_row_by_row() -> None:
    codes = builder().build([thing(7, 0.0, 0.2, 1.0, 0.8)])
    # 16x16 places: the top left corner is in column 0 of row 3, the other one is the last place
    assert codes.tolist() == [7, 48, 255] + [255] * 6 + [0, 255]


def test_centres_are_codes_of_one_place() -> None:
    codes = builder(ObjectsCenterPointsConditionalBuilder).build([thing(7, 0.2, 0.4, 0.4, 0.4)])
    assert codes.tolist()[:2] == [7, 9 * 16 + 6]


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("encode_crop", [True, False])
def test_what_is_built_is_read_back(kind, encode_crop: bool) -> None:
    maker = builder(kind, encode_crop=encode_crop, no_tokens=1024)
    things = [thing(3, 0.25, 0.5, 0.25, 0.25), thing(9, 0.0, 0.0, 0.5, 1.0)]
    objects, crop = maker.inverse_build(maker.build(things))
    assert [code for code, _ in objects] == [3, 9]
    assert crop == ((0, 0, 1, 1) if encode_crop else None)
    for (_, place), (x, y, w, h) in zip(objects, [t.bbox for t in things], strict=True):
        expected = (x, y, w, h) if len(place) == 4 else (x + w / 2, y + h / 2)
        assert place == pytest.approx(expected, abs=1 / 31)


@pytest.mark.parametrize("kind", BUILDERS)
def test_marks_are_part_of_the_category(kind) -> None:
    maker = builder(kind, no_tokens=1024)
    marked = thing(4, 0, 0, 1, 1, is_group_of=True, is_depiction=True)
    code = maker.object_representation(marked)
    assert code == 4 + 10 * (1 + 4)
    back = maker.representation_to_annotation(code)
    assert (back.category_no, back.is_group_of, back.is_depiction) == (4, True, True)
    assert (back.is_occluded, back.is_inside) == (False, False)
    assert additional_parameters_string(back) == "(g,d)"
    assert additional_parameters_string(back, short=False) == "(group,depiction)"


def test_marks_out_of_use_do_not_count() -> None:
    plain = builder(use_group_parameter=False, use_additional_parameters=False)
    assert plain.object_representation(thing(4, 0, 0, 1, 1, is_group_of=True, is_inside=True)) == 4


def test_crowds_of_coco_are_no_groups() -> None:
    assert builder().object_representation(thing(4, 0, 0, 1, 1, is_group_of=1)) == 4


def test_order_is_kept_without_a_generator_and_drawn_with_one() -> None:
    things = [thing(n, 0, 0, 1, 1) for n in range(3)]

    def order(rng: random.Random | None) -> list[int]:
        return builder().build(things, rng=rng).tolist()[0:9:3]

    assert order(None) == [0, 1, 2]
    assert len({tuple(order(random.Random(seed))) for seed in range(20)}) == 6
    expected = list(things)
    random.Random(5).shuffle(expected)
    assert order(random.Random(5)) == [t.category_no for t in expected]
    assert [t.category_no for t in things] == [0, 1, 2]  # the caller's list stays as it was


def test_objects_outside_the_crop_are_left_out() -> None:
    things = [thing(1, 0.0, 0.0, 0.2, 0.2), thing(2, 0.6, 0.6, 0.2, 0.2)]
    codes = builder(encode_crop=False).build(things, (0.5, 0.5, 0.5, 0.5))
    assert codes.tolist()[0] == 2
    assert codes.tolist()[3] == 255
    (found,) = rescale_annotations(things[1:], (0.5, 0.5, 0.5, 0.5), flip=False)
    assert found.bbox == pytest.approx((0.2, 0.2, 0.4, 0.4))


@pytest.mark.parametrize("kind", BUILDERS)
def test_mirroring_twice_changes_nothing(kind) -> None:
    maker = builder(kind)
    things = [thing(3, 0.2, 0.4, 0.4, 0.2)]
    mirrored = [t._replace(bbox=horizontally_flip_bbox(t.bbox)) for t in things]
    crop = (0.0, 0.0, 0.6, 1.0)
    back = maker.build(mirrored, horizontally_flip_bbox(crop), horizontal_flip=True)
    assert torch.equal(back, maker.build(things, crop))


def test_too_many_objects_are_cut_and_said() -> None:
    with pytest.warns(UserWarning, match="5 annotations, 3 fit"):
        codes = builder().build([thing(n, 0, 0, 1, 1) for n in range(5)])
    assert codes.tolist()[0:9:3] == [0, 1, 2]
    with pytest.warns(UserWarning, match="no annotations"):
        assert set(builder().build([]).tolist()[:9]) == {255}


def test_codes_beyond_the_alphabet_are_an_error() -> None:
    with pytest.raises(ValueError, match="do not fit 256 tokens"):
        builder(no_object_classes=300).build([thing(299, 0, 0, 1, 1)])
    with pytest.raises(ValueError, match="5 condition codes; 3 objects take 11"):
        builder().inverse_build(torch.zeros(5, dtype=torch.int64))


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_drawing_shows_every_object(kind) -> None:
    maker = builder(kind)
    codes = maker.build([thing(3, 0.2, 0.4, 0.4, 0.2)], (0.1, 0.1, 0.8, 0.8))
    plot = maker.plot(codes, lambda number: f"thing {number}", (64, 48))
    assert plot.shape == (3, 48, 64)
    assert plot.min() >= -1
    assert plot.max() == 1
    nothing = maker.plot(torch.full_like(codes, maker.none), str, (64, 48))
    assert (plot != nothing).any()


def test_impossible_boxes_of_a_model_are_drawn_too() -> None:
    maker = builder(encode_crop=False)
    codes = torch.tensor([3, 255, 0] + [maker.none] * 6)  # the corners the other way round
    assert maker.plot(codes, str, (32, 32)).shape == (3, 32, 32)


def test_arithmetic_of_boxes() -> None:
    assert intersection_area((0, 0, 0.5, 0.5), (0.25, 0.25, 0.5, 0.5)) == 0.0625
    assert intersection_area((0, 0, 0.5, 0.5), (0.5, 0, 0.5, 0.5)) == 0
    assert absolute_bbox((0.5, 0.25, 0.25, 0.5), 32, 16) == (16, 4, 24, 12)
    assert filter_annotations([thing(1, 0, 0, 0.5, 1)], (0.5, 0, 0.5, 1)) == []
