"""Sheets and curves: every record once, every number that changes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taming.evaluation.figures import draw_curves, grouped, read_history, sample_sheet


def test_a_sheet_shows_every_record_once() -> None:
    tile = np.zeros((16, 24, 3), np.uint8)
    sheet = sample_sheet([[tile, tile + 255]] * 7, ["one", "other"], columns=3)
    assert sheet.width > 3 * 2 * 24
    white = (np.asarray(sheet)[40] == 255).all(axis=-1)
    assert sheet.height > 3 * 16
    assert white.sum() >= 3 * 24
    with pytest.raises(ValueError, match="titles"):
        sample_sheet([[tile]], ["one", "two"])


def test_curves_are_drawn_from_a_history(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = ["step,seconds,name,value", "1,0.1,train/loss,3.0", "2,0.2,train/loss,2.0"]
    lines += ["2,0.3,validation/loss,2.5", "1,0.1,learning_rate,1", "2,0.1,learning_rate,2"]
    (tmp_path / "history.csv").write_text("\n".join(lines) + "\n")
    panels = grouped(read_history(tmp_path / "history.csv"))
    assert panels == {"loss": {"train": [(1, 3.0), (2, 2.0)], "validation": [(2, 2.5)]}}
    draw_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width > 300
