"""Names are compared, never ids."""

import pytest

from taming.data.batch import VOID
from taming.data.vocabulary import (
    alike,
    is_void,
    lookup_table,
    merge_class_names,
    merge_label_names,
)


def test_clashing_ids_merge_by_name() -> None:
    streets = {0: "sky", 1: "Road"}
    rooms = {0: "wall", 1: "sky"}
    assert merge_label_names([streets, rooms]) == ["sky", "Road", "wall"]


def test_spelling_does_not_make_two_labels() -> None:
    assert merge_label_names([{0: "floor mat"}, {3: "Floor_Mat"}]) == ["floor mat"]


@pytest.mark.parametrize(
    "name", ["void", "Unlabelled", "unlabeled", "unused", "ignore", "other or unlabelled", ""]
)
def test_unlabelled_has_many_names(name: str) -> None:
    assert is_void(name)
    assert merge_label_names([{0: name, 1: "sky"}]) == ["sky"]


@pytest.mark.parametrize("name", ["null", "background", "floor", "voiding", "corridor"])
def test_other_names_are_labels(name: str) -> None:
    assert not is_void(name)


def test_ignored_names_become_void() -> None:
    assert merge_label_names([{0: "sky", 1: "dirt"}], ignore=["Dirt"]) == ["sky"]
    table, absent = lookup_table({0: "sky", 1: "dirt"}, ["sky"], ignore=["Dirt"])
    assert table[:2].tolist() == [0, VOID]
    assert absent == []


def test_lookup_translates_by_name_and_reports_what_is_absent() -> None:
    table, absent = lookup_table({4: "tree", 9: "sky", 11: "pole"}, ["sky", "tree"])
    assert table[[4, 9, 11, 255]].tolist() == [1, 0, VOID, VOID]
    assert table[5] == -1
    assert absent == ["pole"]


def test_void_keeps_its_number_in_long_vocabularies() -> None:
    names = merge_label_names([{i: f"thing {i}" for i in range(300)}])
    assert len(names) == 301
    assert names[VOID] == "void"
    table, _ = lookup_table({299: "thing 299"}, names)
    assert names[table[299]] == "thing 299"


def test_a_long_vocabulary_without_void_is_an_error() -> None:
    with pytest.raises(ValueError, match="thing 255"):
        lookup_table({0: "thing 0"}, [f"thing {i}" for i in range(300)])


def test_classes_of_several_sets_merge_by_name() -> None:
    merged = merge_class_names([{0: "summer", 1: "winter"}, {0: "Winter", 1: "rose"}])
    assert merged == ["summer", "winter", "rose"]


def test_two_spellings_of_an_accent_are_one_name() -> None:
    composed, decomposed = "G\u00e4nsebl\u00fcmchen", "Ga\u0308nseblu\u0308mchen"
    assert merge_class_names([{0: composed}, {0: decomposed, 1: "rose"}]) == [composed, "rose"]


def test_names_that_count_as_one_are_told() -> None:
    assert alike(["A", "b", "a", "B-", "c", "c"]) == [("A", "a"), ("b", "B-")]
