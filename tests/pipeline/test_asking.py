"""Laws of what a pipeline is asked: what it takes from the inputs, and what it refuses in words."""

import numpy as np
import pytest
import torch
from PIL import Image

from taming.painting import shape_of

SIZE = (16, 24)


def test_what_is_transparent_is_completed(pipeline, photo, mask) -> None:
    """A hole stayed as a white blob, and the lower half was painted anew."""
    alpha = mask.astype(np.uint8)[..., None] * 255
    cut = np.concatenate([photo, alpha], axis=-1)
    one = pipeline.complete(cut, steps=2)[0]
    assert np.array_equal(one, pipeline.complete(photo, mask, steps=2)[0])
    tensor = torch.from_numpy(cut / 255).requires_grad_()
    assert np.array_equal(one, pipeline.complete(tensor, steps=2)[0])


def test_an_opaque_picture_with_an_alpha_channel_keeps_its_upper_half(pipeline, photo) -> None:
    opaque = np.concatenate([photo, np.full((*SIZE, 1), 255, np.uint8)], axis=-1)
    one = pipeline.complete(opaque, steps=2)[0]
    assert np.array_equal(one, pipeline.complete(photo, steps=2)[0])


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), {"labels": float("nan")}])
def test_guidance_is_finite(pipeline, labels, scale) -> None:
    """What is no number came out as a flat picture."""
    for paint in (pipeline.paint, lambda **options: pipeline.vary(np.zeros((*SIZE, 3)), **options)):
        with pytest.raises(ValueError, match=r"guidance is .*give finite numbers"):
            paint(labels=labels, guidance=scale)


# --- the size to paint in ------------------------------------------------------------------------


def test_the_order_of_keywords_does_not_decide_the_size(pipeline, labels, depth) -> None:
    """The first keyword did, and the other map was stretched to it."""
    square = np.zeros((32, 32), np.uint8)
    with pytest.raises(ValueError, match=r"labels is 32x32, depth 16x24, .* give size"):
        pipeline.paint(depth=depth, labels=square, steps=1)
    assert pipeline.paint(depth=depth, labels=square, size=SIZE, steps=1)[0].size == (24, 16)
    larger = np.kron(labels, np.ones((3, 3), np.uint8))
    one = pipeline.paint(depth=depth, labels=larger, steps=1)[0]
    other = pipeline.paint(labels=larger, depth=depth, steps=1)[0]
    assert np.array_equal(one, other)


def test_shapes_that_differ_by_less_than_a_cell_are_one(pipeline, depth) -> None:
    assert pipeline.paint(depth=depth, labels=np.zeros((15, 24), np.uint8), steps=1)


def test_maps_have_their_shape_whatever_is_in_them(pipeline, tmp_path) -> None:
    """Floats of a TIFF and `.NPY` had none, so that they were squeezed to the size trained on."""
    depth = np.linspace(1.0, 9.0, 16 * 64, dtype=np.float32).reshape(16, 64)
    Image.fromarray(depth).save(tmp_path / "depth.tif")
    with (tmp_path / "DEPTH.NPY").open("wb") as file:
        np.save(file, depth)
    for name in ("depth.tif", "DEPTH.NPY"):
        assert pipeline.paint(depth=tmp_path / name, steps=1)[0].size == (64, 16)


def test_a_turned_picture_has_the_shape_that_it_is_seen_in(tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 16)).save(tmp_path / "turned.jpg", exif=exif)
    assert shape_of(tmp_path / "turned.jpg") == (64, 16)
    assert shape_of(Image.open(tmp_path / "turned.jpg")) == (64, 16)


def test_an_empty_array_file_has_no_shape(tmp_path) -> None:
    """It ended in an EOFError, which a command line takes for a key that was pressed."""
    (tmp_path / "empty.npy").touch()
    assert shape_of(tmp_path / "empty.npy") is None


# --- words and numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        (None, "seeds is None; give a whole number"),
        (1.5, "seeds is 1.5"),
        ([0, 1.5], r"seeds is \[0, 1.5\]"),
        ("0-3", "seeds is '0-3'"),
        (2**70, f"seed {2**70} does not fit"),
        ([0, -(2**64)], "seed -18446744073709551616 does not fit"),
    ],
)
def test_what_is_no_seed_is_told_in_words(pipeline, seeds, told) -> None:
    """These were errors of Python and PyTorch, and 1.5 in a list was 1."""
    with pytest.raises(ValueError, match=told):
        pipeline.paint(seeds=seeds, steps=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": (16.9, 24)}, "size is 16.9; give a whole number"),
        ({"size": 16.5}, "size is 16.5"),
        ({"steps": 2.9}, "steps is 2.9"),
        ({"top_k": 2.5}, "top_k is 2.5"),
        ({"class_label": 0.9}, "class_label is 0.9"),
    ],
)
def test_no_fraction_is_cut_off(pipeline, options, told) -> None:
    with pytest.raises(ValueError, match=told):
        pipeline.paint(**{"steps": 1, **options})


@pytest.mark.parametrize("factor", [2.5, 0, -2, None])
def test_a_factor_is_a_whole_number_of_times(pipeline, photo, factor) -> None:
    """These were errors of Python's, and 0 of a division."""
    with pytest.raises(ValueError, match=f"factor is {factor}"):
        pipeline.upscale(photo, factor)


def test_whole_numbers_may_be_floats(pipeline, photo) -> None:
    small = np.ascontiguousarray(photo[::2, ::2])
    one = pipeline.upscale(small, 2.0, steps=2.0)[0]
    assert np.array_equal(one, pipeline.upscale(small, 2, steps=2)[0])
    assert pipeline.paint(size=16.0, steps=1)[0].size == (16, 16)


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("prompt", "prompt is text here"),
        ("num_inference_steps", "is steps here"),
        ("guidance_scale", "is guidance here"),
        ("height", r"is size=\(height, width\) here"),
        ("generator", "is seeds here"),
        ("mask", r"known=\(picture, mask\)"),
    ],
)
def test_what_is_spelt_otherwise_elsewhere_is_told(pipeline, prefix_pipeline, word, told) -> None:
    for each in (pipeline, prefix_pipeline("labels")):
        with pytest.raises(ValueError, match=told):
            each.paint(**{word: 7})


def test_what_a_method_decides_cannot_be_given(pipeline, photo) -> None:
    """It was a TypeError of a method that nobody had called."""
    with pytest.raises(ValueError, match="lowres: the picture and the factor decide it"):
        pipeline.upscale(photo, 2, lowres=photo)
    with pytest.raises(ValueError, match="size: the picture and the factor decide it"):
        pipeline.upscale(photo, 2, size=(16, 24))
    with pytest.raises(ValueError, match="known: the picture and its mask"):
        pipeline.complete(photo, known=photo)
    with pytest.raises(ValueError, match=r"known: a variation keeps no part .* call complete"):
        pipeline.vary(photo, known=(photo, np.ones(SIZE, bool)))
