"""Published sets draw from (seed, epoch, index), and never the same crop again unasked."""

import numpy as np
import pytest
from torch.utils.data import DataLoader

from taming.data.base import ConcatDatasetWithIndex, ImagePaths, Preprocessor
from taming.data.custom import CustomTest, CustomTrain


@pytest.fixture
def paths(disk) -> list[str]:
    disk.faces()
    return [str(path) for path in sorted((disk.root / "ffhq").iterdir())]


@pytest.fixture
def crops(paths) -> ImagePaths:
    data = ImagePaths(paths, 12, random_crop=True)
    data.preprocessor = Preprocessor(20, 12, random_crop=True)
    return data


def test_a_draw_is_given_by_seed_epoch_and_index(paths, crops) -> None:
    again = ImagePaths(paths, 12, random_crop=True)
    again.preprocessor = crops.preprocessor
    assert np.array_equal(crops[(1, 4)]["image"], again[(1, 4)]["image"])
    again.seed = 1
    assert not np.array_equal(crops[(1, 4)]["image"], again[(1, 4)]["image"])


def test_a_new_epoch_is_a_new_draw(crops) -> None:
    assert not np.array_equal(crops[(1, 0)]["image"], crops[(1, 1)]["image"])
    crops.set_epoch(1)
    assert np.array_equal(crops[1]["image"], crops[(1, 1)]["image"])


def test_without_an_epoch_every_visit_is_a_new_draw(crops) -> None:
    assert not np.array_equal(crops[0]["image"], crops[0]["image"])


def test_workers_draw_as_the_main_process_does(crops) -> None:
    crops.set_epoch(3)
    plain, workers = (
        [batch["image"] for batch in DataLoader(crops, num_workers=count)] for count in (0, 2)
    )
    assert all(np.array_equal(a, b) for a, b in zip(plain, workers, strict=True))


def test_passes_of_a_plain_loader_with_workers_differ(crops) -> None:
    loader = DataLoader(crops, num_workers=1)
    first, second = ([batch["image"].numpy() for batch in loader] for _ in range(2))
    assert not all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_indices_end_where_the_set_does(crops) -> None:
    assert crops[-1]["file_path_"] == crops[2]["file_path_"]
    with pytest.raises(IndexError):
        crops[3]


def test_labels_travel_with_their_picture(paths) -> None:
    given = {"name": ["a", "b", "c"]}
    assert ImagePaths(paths, labels=given)[1]["name"] == "b"
    assert set(given) == {"name"}  # the caller's own table is not changed


def test_joined_sets_tell_which_one_it_was(paths) -> None:
    both = ConcatDatasetWithIndex([ImagePaths(paths[:1]), ImagePaths(paths[1:])])
    assert [both[i][1] for i in range(3)] == [0, 1, 1]
    assert both[-1][0]["file_path_"] == paths[2]
    assert both[(2, 7)][0]["file_path_"] == paths[2]


@pytest.mark.parametrize("data", [CustomTrain, CustomTest])
def test_lists_of_own_pictures(disk, paths, data) -> None:
    listed = disk.lines("ffhq/list.txt", ["00001.png", "", "00002.png"])
    assert [sample["file_path_"] for sample in data(16, listed)] == paths[1:]
    absolute = disk.lines("list.txt", paths)
    assert len(data(16, str(absolute))) == 3


def test_an_empty_list_is_an_error(disk) -> None:
    with pytest.raises(ValueError, match="lists no pictures"):
        CustomTrain(16, disk.lines("list.txt", []))


def test_an_unknown_interpolation_is_an_error() -> None:
    with pytest.raises(ValueError, match="'cubic' is unknown; use nearest"):
        Preprocessor(16, interpolation="cubic")
