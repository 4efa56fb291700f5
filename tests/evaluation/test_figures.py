"""Sheets and curves: every record once, every number that changes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from taming.evaluation.figures import draw_curves, grouped, read_history, sample_sheet


def test_a_sheet_shows_every_record_once() -> None:
    tiles = [np.full((16, 24, 3), (250, 40, number), np.uint8) for number in range(14)]
    records = [tiles[2 * number : 2 * number + 2] for number in range(7)]
    sheet = np.asarray(sample_sheet(records, ["one", "other"], columns=3))
    for number in range(14):  # whole, and nowhere else
        rows, columns = np.nonzero((sheet == (250, 40, number)).all(axis=-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert (len(rows), height, width) == (16 * 24, 16, 24)
    with pytest.raises(ValueError, match="titles"):
        sample_sheet([tiles[:1]], ["one", "two"])


def test_curves_are_drawn_from_a_history(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = ["step,seconds,name,value", "1,0.1,train/loss,3.0", "2,0.2,train/loss,2.0"]
    lines += ["2,0.3,validation/loss,2.5", "1,0.1,learning_rate,1", "2,0.1,learning_rate,2"]
    (tmp_path / "history.csv").write_text("\n".join(lines) + "\n")
    panels = grouped(read_history(tmp_path / "history.csv"))
    assert panels == {"loss": {"train": [(1, 3.0), (2, 2.0)], "validation": [(2, 2.5)]}}
    draw_curves(tmp_path / "history.csv", tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").width > 300


def test_a_line_that_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    """It ended a finished evaluation in a traceback."""
    lines = ["step,seconds,name,value", "1,0.1,train/loss,3.0", "2,0.2,train/lo"]
    (tmp_path / "history.csv").write_text("\n".join(lines))
    assert read_history(tmp_path / "history.csv") == {"train/loss": [(1, 3.0)]}
