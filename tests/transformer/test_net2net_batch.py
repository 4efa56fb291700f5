"""Laws of reading batches: published layout, our layout, what is absent."""

import pytest
import torch

from taming.data.batch import VOID, collate
from taming.transformer.net2net_batch import read_input

H, W = 8, 12


def ours() -> dict:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (H, W), generator=generator)
    labels[0, 0] = VOID
    sample = {
        "image": torch.rand(3, H, W, generator=generator),
        "labels": labels,
        "depth": torch.rand(1, H, W, generator=generator),
        "class_label": torch.tensor(1),
    }
    return collate([sample, sample])


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
def test_our_batches_are_laid_out_already(key) -> None:
    batch = ours()
    assert torch.equal(read_input(batch, key, {"image": 3}.get(key, 1)), batch[key])


def test_numpy_arrays_are_read_as_well(published_batch) -> None:
    batch = published_batch()
    arrays = {key: value.numpy() for key, value in batch.items()}
    assert torch.equal(read_input(arrays, "coord"), read_input(batch, "coord"))


def test_our_label_maps_become_a_plane_for_each_class() -> None:
    batch = ours()
    planes = read_input(batch, "segmentation", 5)
    assert planes.dtype == torch.float32
    assert tuple(planes.shape) == (2, 5, H, W)
    assert not planes[:, :, 0, 0].any(), "nobody labelled that pixel"
    labelled = batch["labels"] != VOID
    assert torch.equal(planes.argmax(1)[labelled], batch["labels"][labelled])
    assert torch.equal(planes.sum(1), labelled.float())


@pytest.mark.parametrize("classes", [4, None])
def test_more_classes_than_planes_are_refused(classes) -> None:
    with pytest.raises(ValueError, match=f"class 4, the condition stage takes {classes or 0}"):
        read_input(ours(), "segmentation", classes)


def test_a_picture_without_its_condition_is_refused() -> None:
    batch = ours()
    batch["present"]["depth"] = torch.tensor([True, False])
    with pytest.raises(ValueError, match="1 of 2 pictures of the batch have no 'depth'"):
        read_input(batch, "depth", 1)


def test_a_key_that_is_not_there_names_the_nearest(published_batch) -> None:
    with pytest.raises(ValueError, match=r"no 'dept', .*did you mean 'depth'"):
        read_input(published_batch(), "dept")


def test_a_batch_is_cut_to_its_first(net2net, published_batch) -> None:
    x, c = net2net("class_label").get_xc(published_batch(count=3), 2)
    assert len(x) == len(c) == 2


def test_both_layouts_give_one_loss(net2net) -> None:
    model, batch = net2net("segmentation"), ours()
    published = {
        "image": batch["image"].movedim(1, -1),
        "segmentation": read_input(batch, "segmentation", 5).movedim(1, -1),
    }
    losses = [model.loss(*model.get_xc(each)) for each in (batch, published)]
    torch.testing.assert_close(*losses)
