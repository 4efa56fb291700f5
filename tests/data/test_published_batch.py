"""Laws of reading batches: published layout, our layout, what is absent."""

import pytest
import torch

from taming.data.batch import VOID
from taming.data.published_batch import read_input

H, W = 8, 12


SHAPES = {
    "image": (2, 3, H, W), "depth": (2, 1, H, W), "segmentation": (2, 5, H, W),
    "class_label": (2,), "coord": (2, 1, H, W), "objects_bbox": (2, 7),
}  # fmt: skip


@pytest.mark.parametrize("key", SHAPES)
def test_published_maps_get_their_channels_first(key, published_batch) -> None:
    batch = published_batch()
    read = read_input(batch, key)
    assert tuple(read.shape) == SHAPES[key]
    assert read.dtype in (torch.float32, torch.int64)
    back = read.movedim(1, -1) if read.ndim == 4 else read
    assert torch.equal(back.reshape(batch[key].shape), batch[key].to(read.dtype))


@pytest.mark.parametrize("key", ["image", "depth", "class_label"])
def test_our_batches_are_laid_out_already(key, our_batch) -> None:
    batch = our_batch
    assert torch.equal(read_input(batch, key, {"image": 3}.get(key, 1)), batch[key])


def test_numpy_arrays_are_read_as_well(published_batch) -> None:
    batch = published_batch()
    arrays = {key: value.numpy() for key, value in batch.items()}
    assert torch.equal(read_input(arrays, "coord"), read_input(batch, "coord"))


def test_our_label_maps_become_a_plane_for_each_class(our_batch) -> None:
    batch = our_batch
    planes = read_input(batch, "segmentation", 5)
    assert planes.dtype == torch.float32
    assert tuple(planes.shape) == (2, 5, H, W)
    assert not planes[:, :, 0, 0].any(), "nobody labelled that pixel"
    labelled = batch["labels"] != VOID
    assert torch.equal(planes.argmax(1)[labelled], batch["labels"][labelled])
    assert torch.equal(planes.sum(1), labelled.float())


@pytest.mark.parametrize("classes", [4, None])
def test_more_classes_than_planes_are_refused(classes, our_batch) -> None:
    with pytest.raises(
        ValueError, match=f"class 4, the stage that reads them takes {classes or 0}"
    ):
        read_input(our_batch, "segmentation", classes)


def test_a_picture_without_its_condition_is_refused(our_batch) -> None:
    batch = our_batch
    batch["present"]["depth"] = torch.tensor([True, False])
    with pytest.raises(ValueError, match="1 of 2 pictures of the batch have no 'depth'"):
        read_input(batch, "depth", 1)


def test_a_key_that_is_not_there_names_the_nearest(published_batch) -> None:
    with pytest.raises(ValueError, match=r"no 'dept', .*did you mean 'depth'"):
        read_input(published_batch(), "dept")
