"""What captions say is what the scene is, read back out of the sentences alone."""

import itertools
import re

import numpy as np
import pytest

from taming.worlds.captions import ATTRIBUTES, attributes, captions
from taming.worlds.sample import sample_scene


@pytest.fixture(scope="module")
def told() -> list[tuple]:
    """Scenes with each of their sentences; labels say that sand and forest are seen."""
    labels = np.repeat(np.array([[0, 2, 4]], np.uint8), 3, axis=0)
    scenes = [sample_scene(seed, people=seed % 3 == 0) for seed in range(120)]
    return [(scene, sentence) for scene in scenes for sentence in captions(scene, labels)]


def test_what_a_sentence_says_is_true(told) -> None:
    for scene, sentence in told:
        truth = {"biome": scene.biome, "hour": scene.hour_name, "weather": scene.weather}
        truth["people"] = "people" if scene.people else "nobody"
        found = attributes(sentence)
        assert found == {name: truth[name] for name in found}, sentence


def test_the_first_sentence_says_place_hour_and_weather(told) -> None:
    firsts = [attributes(captions(scene, np.zeros((2, 2), np.uint8))[0]) for scene, _ in told[::4]]
    assert all(set(found) == {"biome", "hour", "weather"} for found in firsts)


def test_people_are_named_where_they_are_described(told) -> None:
    mentioned = {scene.seed for scene, sentence in told if "people" in attributes(sentence)}
    assert mentioned == {scene.seed for scene, _ in told if scene.people}


def test_no_article_stands_before_the_wrong_sound(told) -> None:
    """`A man in a orange shirt.` was written."""
    told_of_people = " ".join(sentence for scene, sentence in told if scene.people).lower()
    assert " an orange " in told_of_people
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", told_of_people)


def test_every_word_occurs(told) -> None:
    for name in ("biome", "hour", "weather"):
        seen = {attributes(sentence).get(name) for _, sentence in told} - {None}
        assert seen == set(ATTRIBUTES[name])


@pytest.mark.parametrize("biome", ATTRIBUTES["biome"])
def test_a_forest_among_the_grounds_that_are_seen_is_no_place(biome: str) -> None:
    """`..., forest, ...` in a list of grounds was read as the place of a coast."""
    grounds = f"A landscape of grass, {biome}, forest, sand and water at sunset."
    assert attributes(grounds) == {"hour": "sunset"}


def test_no_caption_of_a_scene_names_another_place_whatever_grounds_are_seen() -> None:
    for seed in range(20):
        scene = sample_scene(seed, people=False)
        for grounds in itertools.permutations(range(1, 6), 4):
            told = captions(scene, np.repeat(np.array([grounds], np.uint8), (5, 4, 3, 2), axis=1))
            assert {attributes(each).get("biome", scene.biome) for each in told} == {scene.biome}


def test_other_sentences_say_nothing() -> None:
    assert attributes("Two dogs run through the grass.") == {}
    assert attributes("No people and a sand desert.") == {"biome": "desert", "people": "nobody"}
