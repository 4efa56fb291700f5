"""Classes by name and by index."""

import pytest
import torch

from taming.cond_stage import ClassLabel

SIZE = (16, 16)


@pytest.fixture
def trees():
    return ClassLabel(8, ["Oak tree", "pine", "birch"], tokens=2)


@pytest.mark.parametrize("source", ["pine", "Pine", " 1", 1, 1.0, torch.tensor(1)])
def test_name_and_index_are_one_class(trees, source):
    assert torch.equal(trees.read(source, SIZE), torch.tensor(1))


def test_underscores_and_case_do_not_matter(trees):
    assert int(trees.read("oak_tree", SIZE)) == 0


def test_a_class_named_by_a_number_is_found_by_name():
    assert int(ClassLabel(8, ["7", "3"]).read("3", SIZE)) == 1


def test_misspelt_class_names_the_nearest(trees):
    with pytest.raises(ValueError, match=r"'brich' is not among the 3 classes.*'birch'"):
        trees.read("brich", SIZE)


@pytest.mark.parametrize("index", [-1, 3])
def test_index_outside_names_the_range(trees, index):
    with pytest.raises(ValueError, match=f"class {index} does not exist.*0 to 2"):
        trees.read(index, SIZE)


@pytest.mark.parametrize("source", [None, 1.9, [0, 1]])
def test_what_is_neither_name_nor_index_is_an_error(trees, source):
    """Of 1.9 the fraction was cut off."""
    with pytest.raises(ValueError, match=r"class_label is .*, neither a name nor an index"):
        trees.read(source, SIZE)


def test_equal_names_are_an_error():
    with pytest.raises(ValueError, match="different words"):
        ClassLabel(8, ["oak", "oak"])


def test_unclassed_sample_derives_to_none(trees, rng):
    assert trees.derive({"class_label": torch.tensor(-1)}, rng) is None


def test_each_class_has_its_own_tokens(trees):
    tokens = trees.embed(torch.arange(3))
    assert tokens.shape == (3, 2, 8)
    assert len({tuple(row.flatten().tolist()) for row in tokens}) == 3
