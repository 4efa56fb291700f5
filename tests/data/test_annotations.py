"""Files beside a picture mean what their tables say, or one clear sentence says why not."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taming.cond_stage.labels import Labels
from taming.data.annotations import (
    DepthTable,
    LabelReader,
    LabelTable,
    normalised_depth,
    read_captions,
    read_class_labels,
    read_depth,
    read_labels,
    read_split,
)
from taming.data.batch import VOID


def write(path: Path, content) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        path.write_text(json.dumps(content), encoding="utf-8")
    elif path.suffix == ".npy":
        np.save(path, content)
    else:
        Image.fromarray(np.asarray(content)).save(path)
    return path


IDS = np.array([[0, 1], [2, 255]], dtype=np.uint8)
NAMES = {"0": "sky", "1": "sea", "2": "void"}


# --- labels ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_ids_are_translated_by_name(tmp_path, kind) -> None:
    write(tmp_path / "label_names.json", NAMES)
    path = write(tmp_path / "labels" / "a.png", IDS.astype(kind))
    assert read_labels(path, ["sea", "sky"]).tolist() == [[1, 0], [VOID, VOID]]


def test_names_outside_the_vocabulary_become_void(tmp_path) -> None:
    write(tmp_path / "label_names.json", NAMES)
    path = write(tmp_path / "labels" / "a.png", IDS)
    assert read_labels(path, ["sky"]).tolist() == [[0, VOID], [VOID, VOID]]


def test_without_a_table_ids_are_those_of_the_vocabulary(tmp_path) -> None:
    path = write(tmp_path / "a.png", IDS)
    assert read_labels(path, ["sky", "sea", "sand"]).tolist() == [[0, 1], [2, VOID]]


def test_palette_pictures_hold_ids_whatever_their_colours(tmp_path) -> None:
    picture = Image.frombytes("P", (2, 2), IDS.tobytes())
    picture.putpalette([200, 0, 9] * 256)
    picture.save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png", ["sky", "sea", "sand"]).tolist() == IDS.tolist()


def test_grey_saved_as_colour_still_holds_ids(tmp_path) -> None:
    path = write(tmp_path / "a.png", np.repeat(IDS[..., None], 3, axis=2))
    assert read_labels(path, ["sky", "sea", "sand"]).tolist() == IDS.tolist()


def painted(tmp_path: Path, picture) -> list[list[int]]:
    colours = {0: (0, 0, 200), 1: (0, 200, 0)}
    reader = LabelReader(LabelTable({0: "sky", 1: "grass"}, colours), ["grass", "sky"])
    return reader(write(tmp_path / "a.png", np.array(picture, dtype=np.uint8))).tolist()


def test_pictures_painted_in_the_sets_colours_are_read(tmp_path) -> None:
    picture = [[[0, 0, 200], [0, 200, 0]], [[5, 190, 8], [0, 0, 0]]]
    assert painted(tmp_path, picture) == [[1, 0], [0, VOID]]


def test_black_and_white_are_colours_where_the_table_says_so(tmp_path) -> None:
    """Masks in black and white were read as the ids 0 and 255, which is void."""
    table = LabelTable({0: "sky", 1: "grass"}, {0: (0, 0, 0), 1: (255, 255, 255)})
    reader = LabelReader(table, ["grass", "sky"])
    mask = np.array([[[0] * 3, [255] * 3]], dtype=np.uint8)
    assert reader(write(tmp_path / "a.png", mask)).tolist() == [[1, 0]]
    ids = np.array([[[0] * 3, [1] * 3]], dtype=np.uint8)
    assert reader(write(tmp_path / "b.png", ids)).tolist() == [[1, 0]]


def test_photographs_are_no_label_maps(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"a\.png: 100% of the pixels are unlike"):
        painted(tmp_path, [[[250, 130, 40], [90, 80, 190]]])


def test_colours_come_from_the_table(tmp_path) -> None:
    entries = {"0": {"name": "sky", "color": [0, 0, 200]}, "1": {"name": "sea", "color": [9, 9, 0]}}
    write(tmp_path / "label_names.json", entries)
    path = write(tmp_path / "a.png", np.array([[[9, 9, 0], [0, 0, 200]]], dtype=np.uint8))
    assert read_labels(path, ["sky", "sea"]).tolist() == [[1, 0]]


def test_colours_without_a_table_are_an_error_with_the_remedy(tmp_path) -> None:
    write(tmp_path / "label_names.json", NAMES)
    path = write(tmp_path / "a.png", np.array([[[9, 9, 0]]], dtype=np.uint8))
    with pytest.raises(ValueError, match=r"a\.png .*label_names\.json gives none.*color"):
        read_labels(path, ["sky", "sea"])


def test_labels_beyond_the_vocabulary_are_named(tmp_path) -> None:
    write(tmp_path / "label_names.json", {"0": "sky", "1": "sea"})
    path = write(tmp_path / "labels" / "a.png", np.array([[0, 37]], dtype=np.uint8))
    with pytest.raises(ValueError, match=r"a\.png holds label 37.*label_names\.json.*0\.\.1"):
        read_labels(path, ["sky", "sea"])
    loose = write(tmp_path / "other" / "x" / "b.png", np.array([[2]], dtype=np.uint8))
    with pytest.raises(ValueError, match=r"label 2.*vocabulary of 2 names"):
        read_labels(loose, ["sky", "sea"])


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.tif"])
def test_empty_files_are_named(tmp_path, name) -> None:
    """An empty array ended a command with "Aborted", as if it had been interrupted."""
    (tmp_path / name).touch()
    for read in (lambda path: read_labels(path, ["sky", "sea"]), read_depth):
        with pytest.raises(ValueError, match=rf"{name} cannot be read as a"):
            read(tmp_path / name)


def test_a_huge_picture_is_no_map(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (40, 40)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for read in (lambda path: read_labels(path, ["sky", "sea"]), read_depth):
        with pytest.raises(ValueError, match=r"a.png cannot be read as a .* exceeds limit"):
            read(path)


def test_tables_are_found_from_within_their_folder(tmp_path, monkeypatch) -> None:
    """The folder above `map.png` is not the one above its own folder: metres read as inverse."""
    (tmp_path / "depth").mkdir()
    Image.fromarray(np.array([[1, 4]], np.uint8)).save(tmp_path / "depth" / "map.png")
    (tmp_path / "depth.json").write_text('{"kind": "metric"}')
    (tmp_path / "label_names.json").write_text('{"1": "sea", "4": "sky"}')
    monkeypatch.chdir(tmp_path / "depth")
    assert read_depth("map.png").tolist() == [[1.0, 0.25]]
    assert read_labels("map.png", ["sky", "sea"]).tolist() == [[1, 0]]
    assert Labels(8, 4, ["sky", "sea"]).read("map.png", (1, 2)).tolist() == [[1, 0]]


def test_unreadable_label_maps_are_named(tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a label map"):
        read_labels(tmp_path / "a.png", ["sky"])


@pytest.mark.parametrize("content", [{"sky": 0}, {"0": 5}, [], "sky"])
def test_broken_name_tables_are_errors(tmp_path, content) -> None:
    path = write(tmp_path / "label_names.json", content)
    with pytest.raises(ValueError, match=r"label_names\.json"):
        LabelTable.read(path)


def test_broken_json_names_the_file(tmp_path) -> None:
    path = tmp_path / "label_names.json"
    path.write_text('{"0": "sky"')
    with pytest.raises(ValueError, match=r"label_names\.json is not readable as JSON"):
        LabelTable.read(path)


# --- depth -----------------------------------------------------------------------------------


def test_metric_depth_becomes_its_inverse(tmp_path) -> None:
    path = write(tmp_path / "a.png", np.array([[1000, 2000]], dtype=np.uint16))
    inverse = read_depth(path, DepthTable("metric", scale=0.001))
    np.testing.assert_allclose(inverse, [[1.0, 0.5]], rtol=1e-6)


def test_metric_and_inverse_files_of_one_scene_agree(tmp_path) -> None:
    metres = np.random.default_rng(0).uniform(1, 9, (8, 8)).astype(np.float32)
    metric = write(tmp_path / "metric.npy", metres)
    disparity = write(tmp_path / "inverse.npy", 700 / metres + 3)
    one = normalised_depth(read_depth(metric, DepthTable("metric")))
    two = normalised_depth(read_depth(disparity, DepthTable("inverse")))
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_depth_json_beside_the_folder_says_the_direction(tmp_path) -> None:
    write(tmp_path / "depth.json", {"kind": "metric", "scale": 0.5})
    path = write(tmp_path / "depth" / "a.png", np.array([[4, 8]], dtype=np.uint16))
    np.testing.assert_allclose(read_depth(path), [[0.5, 0.25]])
    alone = write(tmp_path / "x" / "y" / "b.png", np.array([[4, 8]], dtype=np.uint16))
    np.testing.assert_allclose(read_depth(alone), [[4, 8]])


def test_per_image_extent_is_applied(tmp_path) -> None:
    table = DepthTable("inverse", per_image={"a": {"min": 2.0, "max": 6.0}})
    path = write(tmp_path / "a.png", np.array([[0, 65535]], dtype=np.uint16))
    np.testing.assert_allclose(read_depth(path, table), [[2, 6]])


def test_invalid_pixels_take_the_nearest_valid_value(tmp_path) -> None:
    values = np.array([[1, 0, 0, 0, 4]], dtype=np.uint16)
    path = write(tmp_path / "a.png", np.repeat(values, 3, axis=0))
    filled = read_depth(path, DepthTable("inverse", invalid=0))
    assert filled[1, [0, 1, 3, 4]].tolist() == [1, 1, 4, 4]
    assert read_depth(path, DepthTable("metric"))[0, 1] == 1  # zero metres is never valid


def test_nan_is_an_error_unless_declared(tmp_path) -> None:
    values = np.array([[1.0, np.nan, 2.0]], dtype=np.float32)
    path = write(tmp_path / "a.npy", values)
    with pytest.raises(ValueError, match=r"a\.npy holds 1 values that are NaN"):
        read_depth(path, DepthTable("inverse"))
    with pytest.raises(ValueError, match="NaN"):
        read_depth(path, DepthTable("metric", invalid=0))
    assert np.isfinite(read_depth(path, DepthTable("inverse", invalid=float("nan")))).all()


def test_depth_without_any_valid_pixel_is_an_error(tmp_path) -> None:
    path = write(tmp_path / "a.png", np.zeros((2, 2), dtype=np.uint16))
    with pytest.raises(ValueError, match="no valid depth"):
        read_depth(path, DepthTable("metric"))


def test_coloured_depth_is_an_error(tmp_path) -> None:
    path = write(tmp_path / "a.png", np.array([[[255, 0, 0], [0, 0, 255]]], dtype=np.uint8))
    with pytest.raises(ValueError, match="grey picture"):
        read_depth(path, DepthTable("inverse"))


@pytest.mark.parametrize("content", [{}, {"kind": "far"}, {"kind": "metric", "scale": -1}])
def test_broken_depth_tables_are_errors(tmp_path, content) -> None:
    with pytest.raises(ValueError, match=r"depth\.json"):
        DepthTable.read(write(tmp_path / "depth.json", content))


def test_normalised_depth_is_blind_to_scale_and_shift_and_outliers() -> None:
    inverse = np.random.default_rng(0).normal(size=(20, 20))
    one = normalised_depth(inverse)
    np.testing.assert_allclose(normalised_depth(inverse * 40 + 3), one, atol=1e-5)
    assert one.min() == -1
    assert one.max() == 1
    inverse[0, 0] = 1e6
    assert np.abs(normalised_depth(inverse) - one)[1:].max() < 0.2


def test_normalised_depth_of_a_wall_is_zero() -> None:
    assert (normalised_depth(np.full((4, 4), 7.0)) == 0).all()


# --- classes and captions ---------------------------------------------------------------------


def test_classes_may_be_given_by_id_or_name(tmp_path) -> None:
    content = {"names": ["cat", "dog"], "images": {"a": 1, "b": "cat"}}
    names, images = read_class_labels(write(tmp_path / "class_labels.json", content))
    assert names == {0: "cat", 1: "dog"}
    assert images == {"a": 1, "b": 0}


def test_unknown_classes_are_errors(tmp_path) -> None:
    content = {"names": ["cat"], "images": {"a": 3}}
    with pytest.raises(ValueError, match=r"class_labels\.json: picture 'a' has class 3"):
        read_class_labels(write(tmp_path / "class_labels.json", content))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"names": ["cat"], "images": ["a"]}, r'expected {"names"'),
        ({"names": ["cat"], "images": {"a": [0]}}, r"picture 'a' has class \[0\]"),
        ({"images": {"a": 0}}, r"expected names such as"),
    ],
)
def test_odd_tables_of_classes_are_errors(tmp_path, content, told: str) -> None:
    with pytest.raises(ValueError, match=rf"class_labels\.json: {told}"):
        read_class_labels(write(tmp_path / "class_labels.json", content))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (["a", "b"], r'expected {"train"'),
        ({"train": [1, 2]}, r"'train' is \[1, 2\]"),
        ({"train": ["a"], "test": "b"}, "'test' is 'b'"),
    ],
)
def test_odd_splits_are_errors(tmp_path, content, told: str) -> None:
    with pytest.raises(ValueError, match=rf"split\.json: {told}"):
        read_split(write(tmp_path / "split.json", content))


def test_splits_may_say_more(tmp_path) -> None:
    content = {"made by": "hand", "train": ["a"], "sunny": ["b"]}
    path = write(tmp_path / "split.json", content)
    assert read_split(path) == {"train": ["a"], "sunny": ["b"]}


@pytest.mark.parametrize("colour", ["#4682b4", [70, 130, 300], [70, 130, 180, 255], 7, [1.5, 0, 0]])
def test_odd_colours_are_errors_that_name_the_file(tmp_path, colour) -> None:
    path = write(tmp_path / "label_names.json", {"0": {"name": "sky", "color": colour}})
    with pytest.raises(ValueError, match=r"label_names\.json: color .* three whole numbers"):
        LabelTable.read(path)


def test_captions_are_one_or_many_and_never_empty(tmp_path) -> None:
    path = write(tmp_path / "captions.json", {"a": "one", "b": [" two ", ""], "c": []})
    assert read_captions(path) == {"a": ["one"], "b": ["two"]}
