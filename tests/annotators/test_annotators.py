"""Laws of annotating a set with networks: tiny untrained ones of the real classes, from disk."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from taming.annotators import annotate
from taming.annotators.depth import DepthAnnotator
from taming.annotators.pose import PoseAnnotator
from taming.data.annotations import DepthTable, read_depth
from taming.data.paired_folder import PairedFolder

SIZES = {"one": (40, 60), "sub/two.v2": (48, 33)}  # height x width


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, size in SIZES.items():
        path = tmp_path / "set" / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    return tmp_path / "set"


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Callable[[str], str]:
    """Saves an untrained network and its image processor once, and tells the folder."""
    import torch
    import transformers

    hub: Any = transformers  # whose annotations do not know its own keywords

    folder = tmp_path_factory.mktemp("networks")
    levels = {"depths": [1] * 4, "num_attention_heads": [1] * 4, "hidden_sizes": [8] * 4}
    levels |= {"decoder_hidden_size": 8, "sr_ratios": [1] * 4}
    layers = {"hidden_size": 8, "num_hidden_layers": 4, "num_attention_heads": 2}
    layers |= {"intermediate_size": 16}

    def dpt():
        config = hub.DPTConfig(
            **layers, image_size=32, patch_size=16, is_hybrid=False, fusion_hidden_size=8,
            neck_hidden_sizes=[8] * 4, backbone_out_indices=[0, 1, 2, 3],
        )  # fmt: skip
        size = {"height": 32, "width": 32}
        return hub.DPTForDepthEstimation(config), hub.DPTImageProcessorPil(size=size)

    def glpn():
        return hub.GLPNForDepthEstimation(hub.GLPNConfig(**levels)), hub.GLPNImageProcessorPil()

    def zoedepth():
        stages = [f"stage{number}" for number in (1, 2, 3, 4)]
        backbone = hub.BeitConfig(
            **layers, image_size=32, patch_size=16, out_features=stages, reshape_hidden_states=False
        )
        config = hub.ZoeDepthConfig(
            backbone_config=backbone, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8,
            bottleneck_features=8, num_relative_features=8, bin_embedding_dim=8,
            num_attractors=[2] * 4,
        )  # fmt: skip
        size = {"height": 32, "width": 32}
        return hub.ZoeDepthForDepthEstimation(config), hub.ZoeDepthImageProcessorPil(size=size)

    def segformer():
        names = {0: "sky", 1: "sea", 2: "sand"}
        config = hub.SegformerConfig(
            **levels, num_labels=3, id2label=names, label2id={n: i for i, n in names.items()}
        )
        size = {"height": 64, "width": 64}
        return (
            hub.SegformerForSemanticSegmentation(config),
            hub.SegformerImageProcessorPil(size=size),
        )

    def vitpose():
        backbone = hub.VitPoseBackboneConfig(**layers, image_size=[32, 24], patch_size=[8, 8])
        config = hub.VitPoseConfig(backbone_config=backbone, num_labels=17)
        size = {"height": 32, "width": 24}
        return hub.VitPoseForPoseEstimation(config), hub.VitPoseImageProcessorPil(size=size)

    def yolos():
        config = hub.YolosConfig(
            **layers, image_size=[32, 32], patch_size=16, num_detection_tokens=5,
            id2label={0: "person", 1: "dog"}, label2id={"person": 0, "dog": 1},
        )  # fmt: skip
        size = {"shortest_edge": 32, "longest_edge": 64}
        return hub.YolosForObjectDetection(config), hub.YolosImageProcessorPil(size=size)

    makers = {
        "dpt": dpt, "glpn": glpn, "zoedepth": zoedepth, "segformer": segformer,
        "vitpose": vitpose, "yolos": yolos,
    }  # fmt: skip

    def save(name: str) -> str:
        if not (folder / name).is_dir():
            torch.manual_seed(0)
            for part in makers[name]():
                part.save_pretrained(folder / name)
        return str(folder / name)

    return save


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.mark.parametrize(("name", "kind"), [("dpt", "inverse"), ("glpn", "metric")])
def test_depth_is_read_back_as_it_was_estimated(root, network, name, kind, monkeypatch) -> None:
    answers = {size: np.linspace(1.0, 9.0, np.prod(size)).reshape(size) for size in SIZES.values()}
    monkeypatch.setattr(DepthAnnotator, "estimate", lambda self, pixels: answers[pixels.shape[:2]])
    assert annotate("depth", root, network(name)) == 2
    assert json.loads((root / "depth.json").read_text())["kind"] == kind
    for picture, size in SIZES.items():
        table = DepthTable.read(root / "depth.json")
        inverse = read_depth(root / "depth" / f"{picture}.png", table, picture)
        expected = answers[size] if kind == "inverse" else 1 / answers[size]
        np.testing.assert_allclose(inverse, expected, rtol=2e-3)


@pytest.mark.parametrize("name", ["dpt", "glpn", "zoedepth"])
def test_depth_of_real_classes_lies_on_its_pictures(root, network, name) -> None:
    """ZoeDepth's processor asked for the size of the picture, and for torchvision."""
    annotate("depth", root, network(name))
    found = PairedFolder(root, "all", annotations=["depth"])
    for index, picture in enumerate(found.names):
        assert found.annotations(index, np.zeros((*SIZES[picture], 3), np.uint8))["depth"].std() > 0


@pytest.mark.parametrize("margins", [True, False])
def test_the_margins_of_zoedepth_are_cut_off(root, network, monkeypatch, margins) -> None:
    annotator = DepthAnnotator(root, network("zoedepth"))
    annotator.processor.do_pad = margins
    monkeypatch.setattr(
        annotator.model,
        "forward",
        lambda pixel_values: SimpleNamespace(predicted_depth=pixel_values.mean(dim=1)),
    )
    ramp = np.add.outer(np.arange(40), 2 * np.arange(60)).astype(np.uint8)
    depth = annotator.estimate(np.repeat(ramp[..., None], 3, axis=2))
    assert depth.shape == ramp.shape
    assert np.corrcoef(depth.ravel(), ramp.ravel())[0, 1] > 0.999


def test_labels_have_the_names_of_the_network(root, network) -> None:
    annotate("labels", root, network("segformer"))
    found = PairedFolder(root, "all", annotations=["labels"])
    assert found.label_names == ["sky", "sea", "sand"]
    for index, picture in enumerate(found.names):
        labels = found.annotations(index, np.zeros((*SIZES[picture], 3), np.uint8))["labels"]
        assert set(np.unique(labels)) <= {0, 1, 2}


def test_without_a_detector_a_picture_is_one_person(root, network, monkeypatch) -> None:
    monkeypatch.setattr("taming.annotators.pose.SEEN", -1.0)
    annotate("pose", root, network("vitpose"))
    found = PairedFolder(root, "all", annotations=["keypoints"])
    for index, picture in enumerate(found.names):
        people = found.annotations(index, np.zeros((*SIZES[picture], 3), np.uint8))["keypoints"]
        assert people.shape == (1, 19, 3)
        assert people[0, :17, 2].any()


@pytest.mark.parametrize(("least", "some"), [(0.0, True), (1.0, False)])
def test_a_detector_says_where_people_are(root, network, monkeypatch, least, some) -> None:
    monkeypatch.setattr("taming.annotators.pose.PERSON", least)
    annotate("pose", root, network("vitpose"), detector=network("yolos"))
    table = json.loads((root / "keypoints.json").read_text())
    assert [image["file_name"] for image in table["images"]] == ["one.png", "sub/two.v2.png"]
    assert bool(table["annotations"]) == some
    for person in table["annotations"]:
        height, width = list(SIZES.values())[person["image_id"]]
        assert person["bbox"][2:] != [width, height]


def test_joints_that_are_not_seen_say_so(root, network, monkeypatch) -> None:
    monkeypatch.setattr("taming.annotators.pose.SEEN", 2.0)
    annotate("pose", root, network("vitpose"))
    people = json.loads((root / "keypoints.json").read_text())["annotations"]
    assert [person["keypoints"] for person in people] == [[0.0] * 51] * 2


@pytest.mark.parametrize(
    ("kind", "name"), [("depth", "dpt"), ("labels", "segformer"), ("pose", "vitpose")]
)
def test_what_exists_is_not_made_again(root, network, kind, name) -> None:
    annotate(kind, root, network(name))
    before = files(root)
    late = root / "images" / "three.png"
    Image.new("RGB", (20, 20)).save(late)
    seen: list[tuple[int, int]] = []
    assert annotate(kind, root, network(name), progress=lambda *at: seen.append(at)) == 1
    assert seen == [(3, 3)]  # what was there is no progress
    after = files(root)
    kept = [file for file in before if not file.endswith(".json")]
    assert {file: after[file] for file in kept} == {file: before[file] for file in kept}
    assert annotate(kind, root, network(name)) == 0
    assert files(root) == after


@pytest.mark.parametrize(
    ("kind", "name"), [("depth", "dpt"), ("labels", "segformer"), ("pose", "vitpose")]
)
def test_a_stopped_pass_goes_on_where_it_stopped(root, network, kind, name) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        annotate(kind, root, network(name), progress=stop)
    assert not list(root.rglob(".*partial*"))
    assert annotate(kind, root, network(name)) == 1


def test_a_picture_at_which_a_network_was_stopped_is_not_one_of_nobody(
    root, network, monkeypatch
) -> None:
    """It was listed before its people were found, and never looked at again."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        find = PoseAnnotator.find_joints
        answers = iter([find, stop])
        patched.setattr(PoseAnnotator, "find_joints", lambda *given: next(answers)(*given))
        with pytest.raises(KeyboardInterrupt):
            annotate("pose", root, network("vitpose"))
    assert annotate("pose", root, network("vitpose")) == 1
    table = json.loads((root / "keypoints.json").read_text())
    assert [image["file_name"] for image in table["images"]] == ["one.png", "sub/two.v2.png"]
    assert [person["image_id"] for person in table["annotations"]] == [0, 1]


def test_names_with_colours_stay_as_they_are(root, network) -> None:
    """Without their colours, maps painted by hand could not be read any more."""
    colours = {"sky": [0, 0, 255], "sea": [0, 255, 0], "sand": [255, 0, 0]}
    names = {str(i): {"name": n, "color": c} for i, (n, c) in enumerate(colours.items())}
    (root / "label_names.json").write_text(json.dumps(names))
    (root / "labels").mkdir()
    Image.new("RGB", (60, 40), (0, 255, 0)).save(root / "labels" / "one.png")
    assert annotate("labels", root, network("segformer")) == 1
    assert json.loads((root / "label_names.json").read_text()) == names
    found = PairedFolder(root, "all", annotations=["labels"])
    labels = found.annotations(0, np.zeros((40, 60, 3), np.uint8))["labels"]
    assert (labels == 1).all()


def test_labels_of_two_networks_are_not_mixed(root, network) -> None:
    """Networks with the same names were."""
    shutil.copytree(network("segformer"), root.parent / "other")
    annotate("labels", root, network("segformer"))
    with pytest.raises(ValueError, match=r"labels.json was not made by .*other; move it"):
        annotate("labels", root, str(root.parent / "other"))
    (root / "label_names.json").unlink()
    shutil.rmtree(root / "labels")
    assert annotate("labels", root, str(root.parent / "other")) == 2


def test_the_table_of_depth_is_there_before_the_first_map(root, network, monkeypatch) -> None:
    """Maps of a killed pass without their table were in the way of the next one."""

    def killed(path: Path, values: np.ndarray) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr("taming.annotators.depth.write_map", killed)
        with pytest.raises(SystemExit):
            annotate("depth", root, network("dpt"))
    assert annotate("depth", root, network("dpt")) == 2


def test_people_of_two_detectors_are_not_mixed(root, network) -> None:
    annotate("pose", root, network("vitpose"))
    with pytest.raises(ValueError, match=r"not made by .*vitpose with detector .*yolos"):
        annotate("pose", root, network("vitpose"), detector=network("yolos"))
    table = json.loads((root / "keypoints.json").read_text())
    assert table["info"].pop("detector") is None
    (root / "keypoints.json").write_text(json.dumps(table))
    assert annotate("pose", root, network("vitpose"), detector=network("yolos")) == 0


def test_code_of_a_network_is_never_run(root, network, monkeypatch) -> None:
    import transformers

    told = []
    for auto in ("AutoConfig", "AutoModelForDepthEstimation", "AutoImageProcessor"):
        opened = getattr(transformers, auto).from_pretrained

        def spy(*args: Any, opened: Any = opened, **options: Any) -> Any:
            told.append(options.get("trust_remote_code"))
            return opened(*args, **options)

        monkeypatch.setattr(getattr(transformers, auto), "from_pretrained", spy)
    annotate("depth", root, network("dpt"))
    assert [*told[:1], *told[-2:]] == [False, False, False]


def test_depth_of_a_killed_pass_is_made_again(root, network) -> None:
    """A map whose range was not written down yet means nothing."""
    annotate("depth", root, network("dpt"))
    table = json.loads((root / "depth.json").read_text())
    del table["per_image"]["one"]
    (root / "depth.json").write_text(json.dumps(table))
    assert annotate("depth", root, network("dpt")) == 1


def test_annotations_of_another_origin_are_not_mixed(root, network) -> None:
    annotate("depth", root, network("dpt"))
    with pytest.raises(ValueError, match=r"depth.json was not made by .*glpn; move it"):
        annotate("depth", root, network("glpn"))
    (root / "keypoints.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(ValueError, match=r"keypoints.json was not made by .*vitpose"):
        annotate("pose", root, network("vitpose"))
    (root / "label_names.json").write_text('{"0": "street"}')
    with pytest.raises(ValueError, match=r"label_names.json was not made by .*segformer"):
        annotate("labels", root, network("segformer"))


def test_a_broken_picture_is_left_out(root, network, caplog) -> None:
    (root / "images" / "broken.png").write_bytes(b"no picture")
    assert annotate("labels", root, network("segformer")) == 2
    assert "broken.png" in caplog.text
    assert not (root / "labels" / "broken.png").exists()


@pytest.mark.parametrize(
    ("kind", "told"),
    [("depth", "no network for depth estimation.*it is a segformer"), ("deep", "'deep' is no")],
)
def test_a_network_for_something_else_is_refused(root, network, kind, told) -> None:
    with pytest.raises(ValueError, match=told):
        annotate(kind, root, network("segformer"))


def test_a_network_that_is_nowhere_is_named(root) -> None:
    with pytest.raises(ValueError, match=r"nobody/nothing is no network for depth estimation"):
        annotate("depth", root, "nobody/nothing")


def test_a_folder_without_images_is_told_where_they_belong(tmp_path, network) -> None:
    with pytest.raises(ValueError, match="a set has its pictures in images/"):
        annotate("depth", tmp_path, network("dpt"))
