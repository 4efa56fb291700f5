"""Laws of drawing triangles."""

import numpy as np

from taming.worlds.raster import rasterise

FACES = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def _square(low: float, high: float, z: float) -> np.ndarray:
    return np.array([[low, low, z], [high, low, z], [high, high, z], [low, high, z]])


def test_two_triangles_fill_a_square_once():
    drawn = rasterise(_square(2.0, 6.0, 1.0), FACES, 8, 8)
    assert len(drawn.pixel) == 16
    assert np.allclose(drawn.share.sum(1), 1.0, atol=1e-6)


def test_the_nearer_triangle_wins_whatever_the_order():
    near, far = _square(2.0, 6.0, 1.0), _square(0.0, 8.0, 5.0)
    both = np.concatenate([near, far])
    faces = np.concatenate([FACES, FACES + 4])
    for order in (faces, faces[::-1]):
        drawn = rasterise(both, order, 8, 8)
        assert sorted(np.unique(drawn.z, return_counts=True)[1].tolist()) == [16, 48]


def test_what_lies_outside_the_picture_is_cut_off():
    drawn = rasterise(_square(-4.0, 3.0, 1.0), FACES, 8, 8)
    assert len(drawn.pixel) == 9
    assert len(rasterise(_square(20.0, 30.0, 1.0), FACES, 8, 8).pixel) == 0


def test_values_are_interpolated_between_corners():
    corners = _square(0.0, 8.0, 1.0)
    drawn = rasterise(corners, FACES, 8, 8)
    x = drawn.interpolate(FACES, corners)[:, 0]
    assert np.allclose(x, drawn.pixel % 8 + 0.5, atol=1e-4)


def test_faces_that_turn_away_are_left_out():
    square = _square(2.0, 6.0, 1.0)
    drawn = [len(rasterise(square, FACES, 8, 8, front).pixel) for front in (1, -1, 0)]
    assert drawn == [16, 0, 16]
