"""Edges of the published edge-conditioned sets."""

import numpy as np

from taming.data.canny import canny, grey


def step(height: int = 32, width: int = 40) -> np.ndarray:
    picture = np.zeros((height, width), np.float32)
    picture[:, width // 2 :] = 1.0
    return picture


def test_a_step_is_one_thin_line_where_it_is() -> None:
    edges = canny(step(), sigma=2)
    inside = edges[4:-4]
    assert (inside.sum(axis=1) <= 2).all()
    assert inside[:, 19:21].any(axis=1).all()


def test_a_flat_picture_has_no_edges() -> None:
    assert not canny(np.full((16, 16), 0.3, np.float32)).any()


def test_the_outermost_pixels_are_no_edges() -> None:
    noise = np.random.default_rng(0).random((16, 20)).astype(np.float32)
    edges = canny(noise)
    assert edges.any()
    assert not edges[[0, -1]].any()
    assert not edges[:, [0, -1]].any()


def test_turning_the_picture_turns_its_edges() -> None:
    picture = np.random.default_rng(1).random((24, 24)).astype(np.float32)
    assert np.array_equal(canny(picture[::-1].copy(), 2)[::-1], canny(picture, 2))


def test_faint_lines_count_only_beside_strong_ones() -> None:
    faint = step() * 0.035  # its slope lies between the two thresholds
    assert not canny(faint, sigma=2).any()
    joined = step() * np.linspace(0.036, 1.0, 32, dtype=np.float32)[:, None]
    assert canny(joined, sigma=2)[:6].any()


def test_grey_weighs_green_most() -> None:
    assert np.allclose(grey(np.eye(3)[None]), [[0.2125, 0.7154, 0.0721]])
