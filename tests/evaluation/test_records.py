"""What is asked of a model: held-out pictures, divided once, from the right sets."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from taming.cond_stage.depth import Depth
from taming.cond_stage.labels import Labels
from taming.cond_stage.pose import Pose
from taming.evaluation import records
from taming.evaluation.records import (
    WORLDS_SEED,
    HeldOut,
    asked_for,
    open_sets,
    own_sets,
    records_of,
    rendered_worlds,
)
from taming.evaluation.suite import parse_task
from taming.worlds.dataset import usable_cores

SIZE = (32, 48)
CONDITIONS: dict[str, Any] = {
    "labels": Labels(8, 4, ["block", "ground"]),
    "depth": Depth(8, 4),
    "pose": Pose(8, 4, people=1),
}


def opened(blocks: Path, **options: Any) -> HeldOut:
    return open_sets([{"path": str(blocks), "size": SIZE}], CONDITIONS, **options)[0]


def test_reference_and_asked_pictures_are_held_out_and_apart(blocks: Path) -> None:
    held = opened(blocks)
    assert sorted([*held.reference, *held.asked]) == list(range(8))
    assert held.part.split == "validation"
    assert len(held.reference) == len(held.asked) == 4


def test_the_same_seed_divides_alike_and_another_one_differently(blocks: Path) -> None:
    assert opened(blocks).asked == opened(blocks).asked
    assert any(opened(blocks, seed=seed).asked != opened(blocks).asked for seed in range(1, 5))


def test_labels_are_in_the_vocabulary_of_the_model(blocks: Path) -> None:
    record = records_of(opened(blocks), ["labels"], CONDITIONS, 1)[0]
    bright = torch.tensor(list(record.picture.convert("L").tobytes())).view(SIZE) > 100
    assert torch.equal(record.values["labels"] == 0, bright)  # "block" is 1 in the set


def test_records_have_everything_that_is_asked_for(blocks: Path) -> None:
    found = records_of(opened(blocks), ["depth", "pose"], CONDITIONS, 3)
    assert len(found) == 3
    assert all(set(record.values) == {"depth", "pose"} for record in found)
    assert {record.index for record in found} <= set(opened(blocks).asked)


def test_what_a_sample_does_not_have_cannot_be_asked_for(blocks: Path) -> None:
    held = opened(blocks)
    sample = held.part.sample(0)
    del sample["depth"]
    rng: Any = None
    assert asked_for("depth", held.part, sample, CONDITIONS, rng) is None
    assert asked_for("text", held.part, sample, CONDITIONS, rng) is None


def test_a_set_may_be_held_out_as_a_whole(blocks: Path, tmp_path: Path) -> None:
    """Nothing is trained here: that a set has no part for it was an error."""
    root = Path(shutil.copytree(blocks, tmp_path / "blocks"))
    names = json.loads((root / "split.json").read_text())["train"]
    (root / "split.json").write_text(json.dumps({"validation": names}))
    held = opened(root)
    assert sorted([*held.reference, *held.asked]) == list(range(16))
    assert torch.equal(
        records_of(held, ["labels"], CONDITIONS, 1)[0].values["labels"].unique(),
        torch.tensor([0, 1]),
    )


def test_own_sets_are_taken_whole_and_one_that_is_missing_is_named(blocks: Path) -> None:
    """A run was measured on rendered scenes without a word where one of its sets was missing."""
    entry = {"path": str(blocks), "scale": [1.2, 2.0]}
    config = {"data": {"params": {"sets": [entry], "size": 32}}}
    assert own_sets(config) == [{**entry, "scale": [1.0, 1.0], "weight": None, "size": 32}]
    config["data"]["params"]["sets"].append({"path": "nowhere/at/all"})
    with pytest.raises(ValueError, match=r"nowhere/at/all does not exist.*TAMING_DATA.*--data"):
        own_sets(config)
    assert own_sets({}) == []


def test_a_set_without_held_out_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "few" / "images").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (48, 32)).save(tmp_path / "few" / "images" / f"{number}.png")
    with pytest.raises(ValueError, match="few have no held-out pictures"):
        open_sets([{"path": str(tmp_path / "few"), "size": SIZE}], {})


def test_scenes_are_rendered_once_from_a_seed_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("anny")
    pytest.importorskip("pybullet")
    folder = rendered_worlds(tmp_path, (32, 32), 4)
    made = (folder / "worlds.json").stat().st_mtime_ns
    assert f'"seed": {WORLDS_SEED}' in (folder / "worlds.json").read_text()
    assert rendered_worlds(tmp_path, (32, 32), 4) == folder
    assert (folder / "worlds.json").stat().st_mtime_ns == made
    held = open_sets([{"path": str(folder), "size": (32, 32)}], {})[0]
    assert held.is_worlds
    assert len(held.reference) + len(held.asked) == 2


def test_scenes_have_people_and_another_version_has_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache of another version was an error: the folder was taken for another set."""
    asked: list[tuple[Path, dict[str, Any]]] = []

    def render(count: int, size: Any, folder: Path, **options: Any) -> Path:
        asked.append((folder, options))
        return folder

    monkeypatch.setattr(records, "render_set", render)
    rendered_worlds(tmp_path, (32, 32), 4)
    monkeypatch.setattr(records, "VERSION", 99)
    rendered_worlds(tmp_path, (32, 32), 4)
    (first, options), (second, _) = asked
    assert options["people"] is True
    assert first != second
    assert "people" in first.name
    assert options["workers"] == usable_cores()


def test_a_package_that_people_need_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taming.worlds.bodies._NEEDS", ("no_such_package",))
    with pytest.raises(ImportError, match=r"no_such_package.*taming\[people\]"):
        rendered_worlds(tmp_path, (32, 32), 4)


def test_tasks_are_written_as_set_and_conditions() -> None:
    task = parse_task("rooms:depth+labels")
    assert task == ("rooms", ("depth", "labels"))
    assert str(task) == "rooms:depth+labels"
    with pytest.raises(ValueError, match="SET:CONDITION"):
        parse_task("rooms")
