"""Lines found in pictures and lines drawn by hand."""

import numpy as np
import pytest
import torch

from taming.cond_stage import Edges
from taming.cond_stage.edges import find_edges

SIZE = (32, 48)


@pytest.fixture
def edges():
    return Edges(8, 8)


@pytest.fixture
def box():
    image = torch.full((3, *SIZE), -0.8)
    image[:, 8:24, 12:36] = 0.8
    return image


def test_edges_of_a_box_are_its_outline(box):
    lines = find_edges(box)[0]
    assert set(lines.unique().tolist()) == {0.0, 1.0}
    rows, columns = lines.nonzero().T
    away = torch.stack(
        [(rows - 7.5).abs(), (rows - 23.5).abs(), (columns - 11.5).abs(), (columns - 35.5).abs()]
    )
    assert away.min(dim=0).values.max() <= 1.5
    assert 60 <= len(rows) <= 90  # thin, and closed: the outline is 76 pixels long


def test_a_flat_picture_has_no_edges():
    assert not find_edges(torch.zeros(3, *SIZE)).any()


def drawing(ink, paper):
    canvas = np.full((64, 96), paper, dtype=np.uint8)
    canvas[20:24, 10:80] = ink
    return canvas


def test_black_on_white_equals_white_on_black(edges):
    one, other = edges.read(drawing(0, 255), SIZE), edges.read(drawing(255, 0), SIZE)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    assert one.shape == (1, *SIZE)
    assert one[0, 11, 20] > 0.9
    assert one[0, 25, 20] < 0.05


def test_pencil_is_as_black_as_ink(edges):
    pencil = edges.read(drawing(150, 240), SIZE)
    torch.testing.assert_close(pencil, edges.read(drawing(0, 255), SIZE), rtol=0, atol=0.02)


def test_a_photograph_is_traced(edges):
    yy, xx = np.mgrid[:64, :96]
    disc = np.hypot(yy - 32, xx - 48) < 20
    photo = (90 + 0.7 * xx + 70 * disc).astype(np.uint8)
    value = edges.read(photo, SIZE)
    assert set(value.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(value, edges.read(photo, SIZE, photo=True))


def test_an_empty_sheet_is_an_error(edges):
    with pytest.raises(ValueError, match="one flat tone"):
        edges.read(np.full((8, 8), 200, dtype=np.uint8), SIZE)
