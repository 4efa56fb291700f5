"""The files of data/samples are what their command makes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taming.worlds.bodies import people_available
from taming.worlds.samples import render_samples

KEPT = Path(__file__).parents[2] / "data/samples"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not people_available():
        pytest.skip('needs the extra "people"')
    folder = tmp_path_factory.mktemp("samples")
    render_samples(folder)
    return folder


def test_the_same_files_come_out_again(made: Path) -> None:
    assert {path.name for path in made.iterdir()} == {path.name for path in KEPT.iterdir()}
    for path in made.glob("*.png"):
        # Another processor may round a sum differently, and a value may fall to the other side.
        again, kept = (np.asarray(Image.open(f)).astype(int) for f in (path, KEPT / path.name))
        assert again.shape == kept.shape
        assert (abs(again - kept) > 2).mean() < 0.005, path.name
    for name in ("caption.txt", "depth.json", "label_names.json"):
        assert (made / name).read_text("utf-8") == (KEPT / name).read_text("utf-8")


def test_the_same_people_come_out_again(made: Path) -> None:
    again, kept = (json.loads((f / "keypoints.json").read_text("utf-8")) for f in (made, KEPT))
    joints = [[a["keypoints"] for a in each.pop("annotations")] for each in (again, kept)]
    assert again == kept
    assert np.allclose(*joints, atol=0.02)


def test_they_are_small() -> None:
    assert sum(path.stat().st_size for path in KEPT.iterdir()) < 400_000
