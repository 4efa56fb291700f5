"""Laws of painting: seeds, conditions, kept pixels. Sizes and windows: test_sizes.py."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from taming.pipeline import Pipeline
from taming.provenance import read_record, save_png
from taming.transformer.decoder import Decoder

SIZE = (16, 24)


def painted_codes(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline) -> list[torch.Tensor]:
    """What the pipeline hands to the first stage from now on."""
    seen: list[torch.Tensor] = []
    decode = pipeline.prepared.decode_code

    def keep(codes: torch.Tensor) -> torch.Tensor:
        seen.append(codes.clone())
        return decode(codes)

    monkeypatch.setattr(pipeline.prepared, "decode_code", keep)
    return seen


# --- seeds and settings --------------------------------------------------------------------------


def test_picture_i_depends_on_seed_i_and_never_on_its_neighbours(pipeline, labels, depth) -> None:
    options = {"labels": labels, "depth": depth, "steps": 5, "guidance": 2.0}
    together = pipeline.paint(**options, seeds=[3, 4, 5])
    for picture, seed in zip(together, (3, 4, 5), strict=True):
        assert np.array_equal(pipeline.paint(**options, seeds=seed)[0], picture)
    assert not np.array_equal(together[0], together[1])


def test_more_pictures_than_fit_at_once_are_the_same_pictures(pipeline, monkeypatch) -> None:
    whole = pipeline.paint(seeds=range(5), steps=4)
    monkeypatch.setattr("taming.painting.PICTURES_AT_ONCE", 2)
    for one, other in zip(pipeline.paint(seeds=range(5), steps=4), whole, strict=True):
        assert np.array_equal(one, other)


def test_temperature_zero_needs_only_the_order_of_a_seed(pipeline, labels) -> None:
    one, other = (pipeline.paint(labels=labels, temperature=0, seeds=7)[0] for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("seeds", [np.int64(3), np.arange(3, 4), (3,), iter([3])])
def test_seeds_may_be_any_whole_numbers(pipeline, seeds) -> None:
    (picture,) = pipeline.paint(seeds=seeds, steps=2)
    assert np.array_equal(picture, pipeline.paint(seeds=3, steps=2)[0])
    assert read_record(picture)["seed"] == 3


def test_settings_may_be_numpy_numbers(pipeline, labels) -> None:
    options = {"steps": np.int64(3), "guidance": np.float32(2.0), "top_k": np.int32(5)}
    picture = pipeline.paint(labels=labels, **options)[0]
    assert np.array_equal(picture, pipeline.paint(labels=labels, steps=3, guidance=2.0, top_k=5)[0])


def test_painting_does_not_touch_the_global_random_state(pipeline) -> None:
    before = torch.get_rng_state()
    pipeline.paint(seeds=[0, 1], steps=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_steps_bound_the_calls_of_the_model(pipeline, monkeypatch) -> None:
    calls: list[int] = []
    ask = Decoder.__call__

    def count(self: Decoder, *args: Any) -> torch.Tensor:
        calls.append(1)
        return ask(self, *args)

    monkeypatch.setattr(Decoder, "__call__", count)
    pipeline.paint(steps=5)
    assert len(calls) == 5
    calls.clear()
    pipeline.paint(steps=None)
    assert len(calls) == 24  # one for each cell


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"temperature": -1}, "temperature is -1"),
        ({"top_p": 0.0}, "top_p is 0"),
        ({"seeds": []}, "no seeds"),
        ({"size": (16, 22)}, r"no multiple of 4.*size=\(16, 24\).*--size 16x24"),
        ({"size": (0, 16)}, "0x16"),
        ({"size": (16, 16, 3)}, "give height and width"),
        ({"guidance": {"depth": 2.0}}, "guidance names 'depth'"),
        ({"pose": "person.json"}, "does not paint from pose; .* labels, depth"),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_names_it(pipeline, options, told) -> None:
    with pytest.raises(ValueError, match=told):
        pipeline.paint(**options)


# --- conditions ----------------------------------------------------------------------------------


def test_conditions_that_are_none_are_left_out(pipeline) -> None:
    assert np.array_equal(pipeline.paint(depth=None, steps=3)[0], pipeline.paint(steps=3)[0])


def test_conditions_change_the_picture_and_guidance_of_zero_undoes_them(pipeline, labels) -> None:
    free = pipeline.paint(size=SIZE, steps=4)[0]
    assert not np.array_equal(pipeline.paint(labels=labels, steps=4)[0], free)
    assert np.array_equal(pipeline.paint(labels=labels, steps=4, guidance=0.0)[0], free)


def test_one_scale_and_the_same_scale_for_each_paint_alike(pipeline, labels, depth) -> None:
    options = {"labels": labels, "depth": depth, "steps": 4}
    one = pipeline.paint(**options, guidance=3.0)[0]
    assert np.array_equal(one, pipeline.paint(**options, guidance={"labels": 3.0, "depth": 3.0})[0])
    assert not np.array_equal(one, pipeline.paint(**options, guidance={"labels": 3.0})[0])


def test_guidance_keeps_its_meaning_when_the_control_stands_in_front(
    second_stage, labels, depth, lively
) -> None:
    pipeline = Pipeline(lively(second_stage(control_mode="prefix")))
    options = {"labels": labels, "depth": depth, "class_label": "day", "steps": 4}
    picture = pipeline.paint(**options, guidance={"labels": 2.0, "class_label": 3.0})[0]
    assert picture.size == (24, 16)
    assert np.array_equal(
        pipeline.paint(**options, guidance=0.0)[0], pipeline.paint(size=SIZE, steps=4)[0]
    )


# --- completion ----------------------------------------------------------------------------------


def test_kept_pixels_come_back_exactly_and_the_rest_is_new(pipeline, photo, mask) -> None:
    pictures = pipeline.complete(photo, mask, seeds=[0, 1], steps=3)
    one, other = (np.asarray(picture) for picture in pictures)
    assert np.array_equal(one[mask], photo[mask])
    assert np.array_equal(other[mask], photo[mask])
    assert not np.array_equal(one[~mask], other[~mask])


def test_completions_meet_what_was_kept_without_an_edge(pipeline, photo, monkeypatch) -> None:
    """A smooth picture, completed by one that is flat, has no step at the rim."""
    smooth = np.full_like(photo, 200)
    mask = np.zeros(SIZE, dtype=bool)
    mask[:, :12] = True
    decoded = torch.full((1, 3, *SIZE), -0.5)
    monkeypatch.setattr(pipeline.prepared, "decode_code", lambda codes: decoded)
    picture = np.asarray(pipeline.complete(smooth, mask, steps=2)[0]).astype(int)
    assert (picture[:, :12] == 200).all()
    steps = np.abs(np.diff(picture, axis=1))[:, 10:].mean(axis=(0, 2))
    assert steps.max() < 0.3 * (200 - 64)  # -0.5 is 64 of 255, 136 away
    assert (np.diff(picture[0, 11:, 0]) < 0).all()


def test_codes_of_kept_cells_stay(pipeline, photo, mask, monkeypatch) -> None:
    seen = painted_codes(monkeypatch, pipeline)
    pipeline.complete(photo, mask, seeds=[0, 1, 2], steps=3)
    known = pipeline._known_codes({"known": _known(pipeline, photo, mask)}, (4, 6))[0]
    kept = known != -1
    assert int(kept.sum()) == 8  # 15 columns kept: cells 0 to 2, less the one beside the hole
    assert (torch.cat(seen)[:, kept] == known[kept]).all()


def _known(pipeline: Pipeline, photo: np.ndarray, mask: np.ndarray) -> torch.Tensor:
    return pipeline.model.conditions["known"].read((photo, mask), SIZE)


@pytest.mark.parametrize("pixels", [1, SIZE[0] * SIZE[1] - 1])
def test_masks_of_nearly_everything_and_nearly_nothing(pipeline, photo, pixels) -> None:
    mask = np.zeros(SIZE, dtype=bool)
    mask.flat[:pixels] = True
    picture = np.asarray(pipeline.complete(photo, mask, steps=3)[0])
    assert np.array_equal(picture[mask], photo[mask])


@pytest.mark.parametrize(("value", "told"), [(0, "keeps nothing"), (255, "keeps the whole")])
def test_masks_of_everything_or_nothing_are_refused(pipeline, photo, value, told) -> None:
    with pytest.raises(ValueError, match=told):
        pipeline.complete(photo, np.full(SIZE, value, np.uint8))


# --- other tasks ---------------------------------------------------------------------------------


def test_upscaling_multiplies_the_sides(pipeline, photo) -> None:
    small = np.ascontiguousarray(photo[::4, ::4])
    assert pipeline.upscale(small, 4, steps=2)[0].size == (24, 16)


@pytest.mark.parametrize(("shape", "factor"), [((5, 7), 2), ((5, 7), 3), ((4, 6), 4)])
def test_small_pictures_of_any_size_are_enlarged(pipeline, photo, shape, factor, tmp_path) -> None:
    small = np.ascontiguousarray(photo[: shape[0], : shape[1]])
    (large,) = pipeline.upscale(small, factor, steps=2)
    assert large.size == (shape[1] * factor, shape[0] * factor)
    path = save_png(large, tmp_path / "large.png")
    assert np.array_equal(pipeline.repaint(path), large)


@pytest.mark.parametrize("shape", [(7, 10), (5, 5), (8, 12)])
def test_without_a_size_a_small_picture_keeps_its_shape(pipeline, photo, shape) -> None:
    small = np.ascontiguousarray(photo[: shape[0], : shape[1]])
    width, height = pipeline.paint(lowres=small, steps=1)[0].size
    assert abs(height / shape[0] - width / shape[1]) < 0.3
    assert 2 <= height / shape[0] <= 8


def test_enlarged_pictures_shrink_to_what_was_given(pipeline, photo) -> None:
    given = np.asarray(Image.fromarray(photo).resize((12, 8), Image.Resampling.BICUBIC))
    for seed in range(2):
        large = pipeline.paint(lowres=given, size=SIZE, steps=2, seeds=seed)[0]
        again = np.asarray(large.resize((12, 8), Image.Resampling.BICUBIC))
        assert np.abs(again.astype(int) - given).mean() < 4


def test_reconstructions_are_what_the_codes_say(pipeline, photo) -> None:
    (picture,) = pipeline.reconstruct(photo)
    codes = pipeline.first_stage.indices(torch.from_numpy(photo).permute(2, 0, 1)[None] / 127.5 - 1)
    decoded = pipeline.first_stage.decode_code(codes)[0].permute(1, 2, 0)
    expected = ((decoded + 1) * 127.5).round().clamp(0, 255)
    assert np.abs(np.asarray(picture) - expected.detach().numpy()).max() <= 1
    assert len(pipeline.reconstruct([photo, photo])) == 2


@pytest.mark.parametrize(("height", "width"), [(15, 24), (16, 21), (13, 3)])
def test_pictures_of_any_size_are_reconstructed(pipeline, photo, height, width) -> None:
    part = photo[:height, :width]
    (picture,) = pipeline.reconstruct(part)
    assert picture.size == (width, height)
    below, beside = -height % 4, -width % 4
    padded = np.pad(part, ((0, below), (0, beside), (0, 0)), mode="edge")
    (whole,) = pipeline.reconstruct(padded)
    assert np.array_equal(np.asarray(picture), np.asarray(whole)[:height, :width])


@pytest.mark.parametrize(("share", "anew"), [(0.01, 1), (0.5, 12), (1.0, 24)])
def test_varying_repaints_that_share_of_the_codes(
    pipeline, photo, share, anew, monkeypatch
) -> None:
    forgotten: list[int] = []
    from taming import pipeline as module

    forget = module._forget

    def count(*args: Any) -> torch.Tensor:
        known = forget(*args)
        forgotten.extend((known == -1).flatten(1).sum(1).tolist())
        return known

    monkeypatch.setattr(module, "_forget", count)
    seen = painted_codes(monkeypatch, pipeline)
    pictures = pipeline.vary(photo, share, seeds=[0, 1], steps=3)
    assert forgotten == [anew, anew]
    original = pipeline.first_stage.indices(pipeline._for_first_stage(_float(photo)))
    assert ((torch.cat(seen) != original).flatten(1).sum(1) <= anew).all()
    assert len(pictures) == 2


def _float(photo: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(photo).permute(2, 0, 1) / 127.5 - 1


@pytest.mark.parametrize("share", [0.0, 1.5, -1])
def test_impossible_shares_are_refused(pipeline, photo, share) -> None:
    with pytest.raises(ValueError, match=f"share is {share}"):
        pipeline.vary(photo, share)


def test_a_first_stage_reconstructs_but_does_not_paint(pipeline, photo) -> None:
    alone = Pipeline(pipeline.first_stage, "tokenizer")
    assert alone.conditions == []
    assert np.array_equal(alone.reconstruct(photo)[0], pipeline.reconstruct(photo)[0])
    with pytest.raises(ValueError, match="tokenizer is a first stage"):
        alone.paint()
