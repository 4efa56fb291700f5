"""Colours that can be told apart, and cards that hold their words."""

import numpy as np

from taming.cond_stage.drawing import checkerboard, distinct_colours, ramp, text_card


def test_colours_are_far_apart():
    colours = np.array(distinct_colours(60), dtype=float)
    away = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert away[~np.eye(60, dtype=bool)].min() > 25


def test_a_longer_palette_begins_with_the_shorter():
    assert distinct_colours(20)[:5] == distinct_colours(5)


def test_every_id_gets_a_colour_of_its_own():
    assert len(set(distinct_colours(256))) == 256


def test_ramp_gets_lighter():
    light = ramp(np.linspace(0, 1, 50)[None]).astype(int).sum(axis=-1)[0]
    assert (np.diff(light) > 0).all()


def test_card_shows_its_words():
    assert (text_card("") == text_card("")[0, 0]).all()
    assert not np.array_equal(text_card("sea"), text_card("sky"))


def test_long_text_stays_on_the_card():
    card = text_card("a very long sentence about hills and rivers " * 3, (96, 128))
    assert card.shape == (96, 128, 3)
    assert (card[:2] == card[0, 0]).all()
    assert (card[:, :2] == card[0, 0]).all()


def test_a_word_is_written_small_before_it_is_broken():
    """Of "sunflowers" the last letter stood in a line of its own."""
    inked = (text_card("sunflowers") != text_card("")).any(axis=(1, 2))
    assert np.count_nonzero(np.diff(inked.astype(int)) == 1) == 1


def test_checkerboard_has_two_greys():
    assert len(np.unique(checkerboard((32, 48)))) == 2
