"""In which size a picture is painted, and larger ones than were trained, in windows."""

from typing import Any

import numpy as np
import pytest

from taming.config import instantiate_from_config
from taming.pipeline import Pipeline
from taming.transformer.decoder import Decoder

SIZE = (16, 24)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((32, 48), (16, 24)),  # the shape trained on
        ((33, 48), (16, 24)),  # nearly
        ((64, 64), (16, 16)),  # square: the short side of the size trained on
        ((16, 96), (16, 96)),  # a panorama keeps its shape
        ((96, 16), (96, 16)),
    ],
)
def test_without_a_size_a_picture_has_the_shape_of_its_map(pipeline, shape, expected) -> None:
    height, width = pipeline.paint(labels=np.zeros(shape, np.uint8), steps=1)[0].size[::-1]
    assert (height, width) == expected


def test_a_depth_in_metres_has_a_shape_though_it_is_no_picture(pipeline, tmp_path) -> None:
    depth = np.linspace(1.0, 9.0, 16 * 64, dtype=np.float32).reshape(16, 64)
    np.save(tmp_path / "depth.npy", depth)
    for source in (depth, tmp_path / "depth.npy", str(tmp_path / "depth.npy")):
        assert pipeline.paint(depth=source, steps=1)[0].size == (64, 16)


def test_joints_have_no_shape(second_stage) -> None:
    config = second_stage(("depth",))
    pose = {"target": "taming.cond_stage.pose.Pose", "params": {}}
    config["params"]["cond_stage_config"]["pose"] = pose
    people = np.random.default_rng(0).uniform(0, 1, (1, 17, 3))
    assert Pipeline(instantiate_from_config(config)).paint(pose=people, steps=1)[0].size == (24, 16)


def test_a_file_of_joints_has_the_shape_of_its_picture(second_stage) -> None:
    """People were painted several times too thin."""
    config = second_stage(("depth",))
    pose = {"target": "taming.cond_stage.pose.Pose", "params": {}}
    config["params"]["cond_stage_config"]["pose"] = pose
    pipeline = Pipeline(instantiate_from_config(config))
    joints = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 160}],
        "annotations": [{"image_id": 1, "category_id": 1, "keypoints": [320, 80, 2] * 17}],
        "categories": [],
    }
    assert pipeline.paint(pose=joints, steps=1)[0].size == (64, 16)
    with pytest.raises(ValueError, match="of another shape; give size"):
        pipeline.paint(pose=joints, depth=np.eye(16), steps=1)


def test_boxes_are_those_of_a_window(second_stage, lively, monkeypatch) -> None:
    """Each window was told all boxes, as parts of itself."""
    config = second_stage(("depth",))
    boxes = {"target": "taming.cond_stage.boxes.Boxes", "params": {"names": ["tree"], "objects": 2}}
    config["params"]["cond_stage_config"]["boxes"] = boxes
    pipeline = Pipeline(lively(config))
    seen = []
    branches = pipeline.model.branches

    def watched(values, batch, grid, guidance, present=None):
        seen.append((values["boxes"][0, 0].tolist(), dict(present or {})))
        return branches(values, batch, grid, guidance, present)

    monkeypatch.setattr(pipeline.model, "branches", watched)
    tree = [{"category": "tree", "bbox": [0.0, 0.0, 0.25, 1.0]}]
    pipeline.paint(boxes=tree, size=(16, 48), steps=1)
    assert [corners for corners, _ in seen] == [
        [0, 0, 0.25, 1, 0], [0, 0, 0.5, 1, 0], [0, 0, 0, 0, -1], [0, 0, 0, 0, -1],
    ]  # fmt: skip
    assert [bool(there["boxes"]) for _, there in seen[1:]] == [True, False, False]
    assert pipeline.paint(boxes=tree, size=(16, 24), steps=1)[0].size == (24, 16)
    assert len(seen) == 5, "a picture of one window is asked for once"


def test_a_first_stage_of_maps_reconstructs_no_pictures(second_stage) -> None:
    config = second_stage(("depth",))["params"]["first_stage_config"]
    config["params"]["ddconfig"] |= {"in_channels": 1, "out_ch": 1}
    with pytest.raises(ValueError, match="depths encodes maps of 1 planes, and no pictures"):
        Pipeline(instantiate_from_config(config), "depths").reconstruct(
            np.zeros((16, 16, 3), np.uint8)
        )


def test_without_map_or_size_a_picture_has_the_first_size_trained_on(pipeline) -> None:
    assert pipeline.paint(class_label="night", steps=1)[0].size == (24, 16)


def test_one_number_is_a_square(pipeline) -> None:
    assert pipeline.paint(size=16, steps=1)[0].size == (16, 16)


# --- larger than trained -------------------------------------------------------------------------


def test_a_panorama_is_painted_in_windows_at_linear_cost(pipeline, monkeypatch) -> None:
    calls: dict[int, int] = {}
    made = Decoder.__init__

    for width in (48, 96, 192):
        count: list[int] = []

        def counting(self: Decoder, *args: Any, count: list[int] = count) -> None:
            count.append(args[1][0].control.shape[-1])
            made(self, *args)

        monkeypatch.setattr(Decoder, "__init__", counting)
        assert pipeline.paint(size=(16, width), steps=4)[0].size == (width, 16)
        calls[width] = len(count)
        assert set(count) == {6}, "a window is as large as the grid trained on"
    assert calls == {48: 3, 96: 7, 192: 15}


def test_windows_are_as_large_as_the_largest_that_was_trained(pipeline, monkeypatch) -> None:
    monkeypatch.setattr(pipeline.model, "sizes", [(8, 12), (16, 24), (16, 16)])
    assert pipeline._window((12, 18)) == (4, 6)


def test_what_is_a_setting_elsewhere_is_no_condition(pipeline) -> None:
    with pytest.raises(ValueError, match="window is a setting of published second stages"):
        pipeline.paint(window="block")


def test_a_variation_may_have_another_size_than_its_picture(pipeline, photo) -> None:
    (picture,) = pipeline.vary(photo[:15, :22], 0.5, size=SIZE, steps=2)
    assert picture.size == (24, 16)


def test_varying_a_panorama_works_for_several_seeds(pipeline, photo) -> None:
    """Cells forgotten at random are not equally many in the windows of two pictures."""
    wide = np.tile(photo, (1, 3, 1))
    pictures = pipeline.vary(wide, 0.5, seeds=[0, 1, 2], steps=3)
    assert [picture.size for picture in pictures] == [(72, 16)] * 3
    assert np.array_equal(pipeline.vary(wide, 0.5, seeds=1, steps=3)[0], pictures[1])


def test_completing_a_panorama_keeps_its_pixels(pipeline, photo) -> None:
    wide = np.tile(photo, (1, 3, 1))
    mask = np.zeros(wide.shape[:2], dtype=bool)
    mask[:, 10:60] = True
    picture = np.asarray(pipeline.complete(wide, mask, steps=3)[0])
    assert np.array_equal(picture[mask], wide[mask])


@pytest.mark.parametrize("size", [(16, 24), (16, 72)])
def test_progress_grows_to_the_end(pipeline, size) -> None:
    seen: list[tuple[int, int]] = []
    pipeline.paint(size=size, seeds=[0, 1], steps=2, progress=lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0
