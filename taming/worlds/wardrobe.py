"""Placeholder."""


def sample_people(scene, rng):
    return scene
