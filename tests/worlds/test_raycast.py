"""Laws of casting rays against a height field."""

import numpy as np

from taming.worlds.raycast import Field, cast, gather, slopes
from taming.worlds.terrain import Ground

RIGHT = np.linspace(-0.5, 0.5, 8, dtype=np.float32)


def _field(height_of_z, camera: float = 2.0) -> Field:
    z = np.geomspace(0.7, 1300.0, 448).astype(np.float32)
    bare = np.repeat(height_of_z(z)[:, None], len(RIGHT), 1).astype(np.float32)
    return Field(z, RIGHT, Ground(bare, bare, 0 * bare, 0 * bare), camera)


def test_flat_ground_is_met_where_geometry_says():
    up = np.array([-0.5, -0.1, -0.02], np.float32)
    hits = cast(_field(np.zeros_like), up)
    assert np.allclose(hits.z, (2.0 / -up)[:, None], rtol=2e-3)


def test_rays_above_the_horizon_meet_nothing():
    assert np.isinf(cast(_field(np.zeros_like), np.array([0.01, 0.4], np.float32)).z).all()


def test_a_wall_hides_what_is_behind_it():
    field = _field(lambda z: np.where((z > 50) & (z < 60), 10.0, 0.0))
    hits = cast(field, np.array([0.1, -0.01], np.float32))
    assert ((hits.z > 49) & (hits.z < 61)).all()


def test_ground_nearer_than_after_is_ignored():
    field = _field(lambda z: np.where((z > 50) & (z < 60), 10.0, 0.0))
    hits = cast(field, np.array([0.1], np.float32), after=np.full(8, 100.0, np.float32))
    assert np.isinf(hits.z).all()


def test_a_hit_lies_on_its_ray():
    field = _field(lambda z: 0.2 * z)
    up = np.array([-0.3, 0.1], np.float32)
    hits = cast(field, up)
    height = gather(field.ground.surface, hits)
    assert np.allclose(height, field.camera + up[:, None] * hits.z, atol=0.02)


def test_slope_of_a_plane_is_that_of_the_plane():
    field = _field(np.zeros_like)
    x, z = field.z[:, None] * RIGHT, field.z[:, None]
    plane = (0.3 * x - 0.2 * z).astype(np.float32)
    slope_x, slope_z = slopes(field, plane)
    assert np.allclose(slope_x, 0.3, atol=1e-3)
    assert np.allclose(slope_z, -0.2, atol=1e-3)
