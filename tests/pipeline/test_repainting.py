"""Laws of pictures that repaint themselves, and of models of other precision or conditions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from taming import provenance
from taming.pipeline import Pipeline
from taming.provenance import read_record, save_png

SIZE = (16, 24)


# --- pictures that repaint themselves ------------------------------------------------------------


def test_a_saved_picture_repaints_itself(pipeline, labels, depth, tmp_path) -> None:
    pictures = pipeline.paint(
        labels=labels, depth=depth, class_label="night", seeds=[8, 9], steps=4,
        guidance={"labels": 2.0, "class_label": 1.5}, temperature=0.9, top_k=12, top_p=0.95,
    )  # fmt: skip
    for picture in pictures:
        path = save_png(picture, tmp_path / "picture.png")
        assert np.array_equal(pipeline.repaint(path), picture)
        assert np.array_equal(pipeline.repaint(Image.open(path)), picture)


def test_a_completed_picture_repaints_itself(pipeline, photo, mask, tmp_path) -> None:
    picture = pipeline.complete(photo, mask, seeds=5, steps=3, class_label="day")[0]
    assert np.array_equal(pipeline.repaint(save_png(picture, tmp_path / "a.png")), picture)


def test_a_varied_picture_repaints_itself(pipeline, photo, labels, tmp_path) -> None:
    pictures = pipeline.vary(photo, 0.4, seeds=[5, 6], steps=3, labels=labels)
    for picture in pictures:
        assert np.array_equal(pipeline.repaint(save_png(picture, tmp_path / "a.png")), picture)


def test_a_panorama_repaints_itself(pipeline, tmp_path) -> None:
    picture = pipeline.paint(size=(16, 48), seeds=[1, 2], steps=None)[1]
    assert np.array_equal(pipeline.repaint(save_png(picture, tmp_path / "a.png")), picture)


def test_a_condition_too_large_to_keep_is_to_be_given_again(
    pipeline, depth, labels, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(provenance, "LARGEST_CONDITION", 200)
    picture = pipeline.paint(depth=depth, labels=labels, steps=3)[0]
    path = save_png(picture, tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"give depth=\.\.\. again"):
        pipeline.repaint(path)
    assert np.array_equal(pipeline.repaint(path, depth=depth), picture)
    with pytest.raises(ValueError, match="depth is not the one"):
        pipeline.repaint(path, depth=depth[::-1].copy())


def test_an_enlarged_picture_is_painted_again_from_its_small_one(
    pipeline, photo, tmp_path, monkeypatch
) -> None:
    """The small picture was padded when it was enlarged, and not when it was given again."""
    monkeypatch.setattr(provenance, "LARGEST_CONDITION", 200)
    small = np.ascontiguousarray(photo[:5, :7])
    large = pipeline.upscale(small, 3, steps=2)[0]
    path = save_png(large, tmp_path / "large.png")
    assert np.array_equal(pipeline.repaint(path, lowres=small), large)
    with pytest.raises(ValueError, match="lowres is not the one"):
        pipeline.repaint(path, lowres=np.ascontiguousarray(photo[1:6, :7]))


def test_a_completed_picture_is_painted_again_from_its_whole_one(
    pipeline, photo, mask, tmp_path, monkeypatch
) -> None:
    """Where no mask had been given, none could be given again."""
    monkeypatch.setattr(provenance, "LARGEST_CONDITION", 200)
    for given in (mask, None):
        picture = pipeline.complete(photo, given, steps=2)[0]
        path = save_png(picture, tmp_path / "a.png")
        known = photo if given is None else (photo, given)
        assert np.array_equal(pipeline.repaint(path, known=known), picture)


def test_a_condition_that_a_picture_was_not_painted_from_is_refused(
    pipeline, depth, labels
) -> None:
    picture = pipeline.paint(depth=depth, steps=2)[0]
    with pytest.raises(ValueError, match="labels is not the one"):
        pipeline.repaint(picture, labels=labels)


def test_another_model_refuses_to_repaint(pipeline, second_stage, tmp_path, lively) -> None:
    path = save_png(pipeline.paint(steps=2)[0], tmp_path / "a.png")
    other = Pipeline(lively(second_stage(), seed=1), "other")
    with pytest.raises(ValueError, match=r'a.png was painted by the model \w{12} \("tiny"\)'):
        other.repaint(path)


# --- precision -----------------------------------------------------------------------------------


def test_a_model_in_bf16_does_every_task(second_stage, photo, labels, depth, mask, lively) -> None:
    pipeline = Pipeline(lively(second_stage()).to(torch.bfloat16))
    options: dict[str, Any] = {"steps": 2, "guidance": 2.0}
    pictures = [
        *pipeline.paint(labels=labels, depth=depth, class_label="day", **options),
        *pipeline.complete(photo, mask, **options),
        *pipeline.upscale(np.ascontiguousarray(photo[::4, ::4]), 4, **options),
        *pipeline.vary(photo, 0.5, steps=2),
        *pipeline.reconstruct(photo),
    ]
    assert [picture.size for picture in pictures] == [(24, 16)] * 5
    assert np.array_equal(pipeline.repaint(pictures[1]), pictures[1])


def test_a_model_without_conditions_paints(second_stage, lively) -> None:
    pipeline = Pipeline(lively(second_stage(())))
    assert pipeline.conditions == []
    assert pipeline.paint(steps=2, guidance=3.0)[0].size == (24, 16)


def test_pictures_remember_where_they_are_from(pipeline, tmp_path: Path) -> None:
    record = read_record(save_png(pipeline.paint(steps=2, seeds=4)[0], tmp_path / "a.png"))
    assert record["name"] == "tiny"
    assert record["seed"] == 4
    assert record["settings"]["size"] == [16, 24]
    assert record["model"] == pipeline.fingerprint


@pytest.mark.parametrize(
    ("painted_in", "loaded_in", "told"),
    [
        ("float32", "bf16", "was painted in float32, .* in bf16; leave precision out"),
        ("bf16", "float32", "was painted in bf16, .* in float32; load it in bf16"),
    ],
)
def test_a_picture_of_another_precision_says_so(
    painted_in, loaded_in, told, second_stage, lively, tmp_path
) -> None:
    """It was told to be of another model, with the same name."""

    def load(precision: str) -> Pipeline:
        model = lively(second_stage())
        kind = {"float32": torch.float32, "bf16": torch.bfloat16}[precision]
        return Pipeline(model.to(kind), "tiny", precision)

    path = save_png(load(painted_in).paint(steps=1)[0], tmp_path / "a.png")
    assert load(painted_in).repaint(path)
    with pytest.raises(ValueError, match=told):
        load(loaded_in).repaint(path)


def test_a_picture_of_another_device_is_told_of(pipeline, tmp_path, caplog) -> None:
    picture = pipeline.paint(steps=1)[0]
    record = read_record(picture)
    for device, told in ((record.pop("device"), 0), (None, 0), ("cuda", 1)):
        kept = record if device is None else record | {"device": device}
        path = save_png(provenance.attach(picture, kept), tmp_path / "a.png")
        caplog.clear()
        assert pipeline.repaint(path)
        assert (
            sum("was painted on cuda, this model is on cpu" in m for m in caplog.messages) == told
        )


# --- weights that change -------------------------------------------------------------------------


def test_nothing_is_kept_of_weights_that_were_loaded_or_cast(second_stage, lively) -> None:
    """A picture told of the weights that had been there before, and was decoded with some."""
    pipeline, other = (Pipeline(lively(second_stage(), seed=seed)) for seed in (0, 1))
    before = pipeline.paint(steps=1)[0]
    pipeline.model.load_state_dict(other.model.state_dict())
    after, expected = pipeline.paint(steps=1)[0], other.paint(steps=1)[0]
    assert not np.array_equal(after, before)
    assert np.array_equal(after, expected)
    assert read_record(after)["model"] == read_record(expected)["model"]
    pipeline.model.bfloat16()
    assert read_record(pipeline.paint(steps=1)[0])["model"] != read_record(after)["model"]


def test_weights_are_hashed_once(second_stage, lively, monkeypatch) -> None:
    hashed: list[Any] = []
    monkeypatch.setattr("taming.painting.tensor_hash", lambda state: hashed.append(0) or "hash")
    pipeline = Pipeline(lively(second_stage()))
    pipeline.paint(steps=1, seeds=[0, 1])
    pipeline.reconstruct(pipeline.paint(steps=1))
    assert pipeline.fingerprint == "hash"
    assert len(hashed) == 1


@pytest.mark.parametrize("foreign", ["[1, 2]", '{"hello": 1}', '{"model": "x", "seed": 0}'])
def test_a_text_of_another_program_is_no_record(pipeline, foreign) -> None:
    """It ended in a KeyError."""
    picture = Image.new("RGB", (24, 16))
    picture.info["taming"] = foreign
    with pytest.raises(ValueError, match="written by another program"):
        pipeline.repaint(picture)


def test_a_page_of_pictures_says_where_settings_are(pipeline, tmp_path) -> None:
    Image.new("RGB", (24, 16)).save(tmp_path / "grid.png")
    with pytest.raises(ValueError, match=r"grid\.png does not say .* \(--grid\)"):
        pipeline.repaint(tmp_path / "grid.png")
