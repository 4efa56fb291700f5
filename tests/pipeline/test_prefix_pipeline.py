"""Laws of painting with a published second stage: seeds, conditions, windows, completion."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from taming.prefix_pipeline import PrefixPipeline
from taming.provenance import read_record, save_png
from taming.sampling import UNKNOWN, Filters, draw
from taming.transformer.net2net import Net2NetTransformer

LABELS = (np.mgrid[:16, :16][1] // 3).astype(np.uint8)
DEPTH = np.linspace(1.0, 5.0, 256, dtype=np.float32).reshape(16, 16)
PHOTO = (np.mgrid[:16, :16][0][..., None] * np.array([9, 5, 1]) % 256).astype(np.uint8)
BOXES = {"categories": ["dog", "tree"], "boxes": [{"category": "tree", "bbox": [0, 0, 0.5, 1]}]}
POSE = np.random.default_rng(0).uniform(0.1, 1.0, (1, 19, 3))
GIVEN: dict[str, dict[str, Any]] = {
    "none": {},
    "class": {"class_label": 5},
    "coord": {},
    "labels": {"labels": LABELS},
    "depth": {"depth": DEPTH},
    "sketch": {"sketch": PHOTO},
    "lowres": {"lowres": PHOTO[::4, ::4].copy()},
    "boxes": {"boxes": BOXES},
    "pose": {"pose": POSE},
}


@pytest.fixture(scope="module", params=list(GIVEN))
def each(request: pytest.FixtureRequest, prefix_pipeline) -> tuple[Any, dict[str, Any]]:
    return prefix_pipeline(request.param), GIVEN[request.param]


def painted_codes(monkeypatch: pytest.MonkeyPatch, pipeline: Any) -> list[Tensor]:
    """What the pipeline hands to the first stage from now on."""
    seen: list[Tensor] = []
    decode = pipeline.prepared.decode_code

    def keep(codes: Tensor) -> Tensor:
        seen.append(codes[0].clone())
        return decode(codes)

    monkeypatch.setattr(pipeline.prepared, "decode_code", keep)
    return seen


# --- every kind of model -------------------------------------------------------------------------


def test_picture_i_depends_on_seed_i_and_never_on_its_neighbours(each) -> None:
    pipeline, given = each
    together = pipeline.paint(**given, seeds=[3, 4, 5])
    for picture, seed in zip(together, (3, 4, 5), strict=True):
        assert np.array_equal(pipeline.paint(**given, seeds=seed)[0], picture)
    assert not np.array_equal(together[0], together[1])


def test_a_saved_picture_repaints_itself(each, tmp_path) -> None:
    pipeline, given = each
    options = {"temperature": 0.9, "top_k": 12, "top_p": 0.95, "size": (24, 20)}
    for window in ("published", "block"):
        picture = pipeline.paint(**given, **options, window=window, seeds=[8, 9])[1]
        assert picture.size == (20, 24)
        path = save_png(picture, tmp_path / "picture.png")
        assert np.array_equal(pipeline.repaint(path), picture)
        assert read_record(path)["settings"]["window"] == window


def test_a_picture_of_the_trained_size_is_what_the_model_itself_samples(each, monkeypatch) -> None:
    """Greedily, by the published method, from the condition as the model encodes it."""
    pipeline, given = each
    seen = painted_codes(monkeypatch, pipeline)
    pipeline.paint(**given, temperature=0)
    model: Net2NetTransformer = pipeline.model
    values, size = pipeline._read(given, None)
    assert size == (16, 16)
    _, prefix = model.encode_to_c(pipeline._condition(values, size))
    expected = model.sample(torch.empty(1, 0, dtype=torch.int64), prefix, 16)
    assert torch.equal(seen[0].flatten(), expected[0])


def test_nothing_is_kept_of_weights_that_were_loaded(prefix_pipeline) -> None:
    """Several pictures at once were painted with a copy of those before."""
    pipeline = prefix_pipeline("none")
    pipeline.paint(seeds=[0, 1])
    other = copy.deepcopy(pipeline.model)
    with torch.no_grad():
        for weight in other.transformer.parameters():
            weight.copy_(weight.flip(0))
    pipeline.model.load_state_dict(other.state_dict())
    expected = PrefixPipeline(other, "tiny").paint(seeds=[0, 1])
    for picture, painted_anew in zip(pipeline.paint(seeds=[0, 1]), expected, strict=True):
        assert np.array_equal(picture, painted_anew)


# --- windows -------------------------------------------------------------------------------------


def full_forward(model: Net2NetTransformer, prefix: Tensor, size: int, seed: int) -> Tensor:
    """The slow twin: for every cell the whole window through the transformer, no cache."""
    height, width = prefix.shape[1:]
    codes, noise = torch.full((1, height, width), UNKNOWN), torch.Generator().manual_seed(seed)
    half = size // 2
    for i in range(height):
        local_i = i if i <= half else size - (height - i) if height - i < half else half
        for j in range(width):
            local_j = j if j <= half else size - (width - j) if width - j < half else half
            rows = slice(i - local_i, i - local_i + size)
            columns = slice(j - local_j, j - local_j + size)
            patch = codes[:, rows, columns].flatten(1).clamp(min=0)
            front = prefix[:, rows, columns].flatten(1)
            logits, _ = model.transformer(torch.cat([front, patch], dim=1)[:, :-1])
            logits = logits[:, -size * size :].unflatten(1, (size, size))
            codes[:, i, j] = draw(
                logits[:, local_i, local_j][:, None, :16], Filters(0.9, 10), [noise]
            )[:, 0]
    return codes[0]


@pytest.mark.parametrize("kind", ["coord", "labels", "depth"])
def test_large_pictures_equal_full_forwards_of_windows(prefix_pipeline, kind, monkeypatch) -> None:
    pipeline = prefix_pipeline(kind)
    seen = painted_codes(monkeypatch, pipeline)
    pipeline.paint(**GIVEN[kind], size=(24, 28), temperature=0.9, top_k=10, seeds=[1, 2])
    values, size = pipeline._read(GIVEN[kind], (24, 28))
    _, tokens = pipeline.model.encode_to_c(pipeline._condition(values, size))
    assert len(tokens.unique()) > 4, "nothing to tell windows apart"
    with torch.inference_mode():
        expected = full_forward(pipeline.model, tokens.unflatten(1, (6, 7)), 4, seed=2)
    assert torch.equal(seen[1], expected)


def test_a_map_scaled_down_before_it_is_encoded_is_cut_before(prefix_pipeline, monkeypatch) -> None:
    pipeline = prefix_pipeline("labels", downsample_cond_size=8)
    model, sizes = pipeline.model, []
    encode = model.cond_stage_model.encode
    monkeypatch.setattr(
        model.cond_stage_model, "encode", lambda c: (sizes.append(c.shape[-2:]), encode(c))[1]
    )
    assert pipeline.paint(labels=LABELS, size=(16, 24), window="block")[0].size == (24, 16)
    assert set(sizes) == {(8, 8)}
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("size", "told"),
    [
        ((16, 22), r"no multiple of 4.*size=\(16, 24\).*--size 16x24"),
        ((8, 24), "8x24 has no room for .* window of 16x16; give at least 16x24"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(prefix_pipeline, size, told) -> None:
    with pytest.raises(ValueError, match=told):
        prefix_pipeline("none").paint(size=size)


def test_what_is_smaller_than_was_trained_is_refused_where_that_is_known(prefix_pipeline) -> None:
    """Every place of the sequence would mean another one."""
    pipeline = PrefixPipeline(prefix_pipeline("none").model, sizes=[(8, 8), (16, 16)])
    assert pipeline.paint()[0].size == (8, 8)
    with pytest.raises(ValueError, match=r"8x4 has no room for .* window"):
        pipeline.paint(size=(8, 4))


def test_a_wide_map_is_painted_wide(prefix_pipeline) -> None:
    wide = np.tile(LABELS, (2, 4))
    assert prefix_pipeline("labels").paint(labels=wide, window="block")[0].size == (32, 16)


# --- conditions ----------------------------------------------------------------------------------


def test_conditions_matter(prefix_pipeline) -> None:
    changed = {
        "class": {"class_label": 6},
        "labels": {"labels": LABELS.T.copy()},
        "depth": {"depth": DEPTH.T.copy()},
        "sketch": {"sketch": PHOTO[::-1].copy()},
        "lowres": {"lowres": PHOTO[::-4, ::4].copy()},
        "pose": {"pose": POSE[:, ::-1].copy()},
        "boxes": {"boxes": {**BOXES, "categories": ["tree", "dog"]}},
    }
    for kind, other in changed.items():
        pipeline = prefix_pipeline(kind)
        one, two = (pipeline.paint(**given)[0] for given in (GIVEN[kind], other))
        assert not np.array_equal(one, two), kind


def test_many_classes_in_one_call_are_each_painted_for_every_seed(prefix_pipeline) -> None:
    pipeline = prefix_pipeline("class")
    seen: list[tuple[int, int]] = []
    pictures = pipeline.paint(
        class_label=[5, 2], seeds=[0, 1], progress=lambda *at: seen.append(at)
    )
    assert len(pictures) == 4
    assert np.array_equal(pictures[3], pipeline.paint(class_label=2, seeds=1)[0])
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("labels", {}, "paints from labels and not without"),
        ("none", {"labels": LABELS}, "does not paint from labels; it takes known"),
        ("depth", {"depth": DEPTH, "guidance": 3}, "guidance.*without guidance.*any-order"),
        ("labels", {"labels": LABELS + 1}, "label 6, .* 0 to 5"),
        ("class", {"class_label": 8}, "class 8 does not exist; .* 0 to 7"),
        ("class", {"class_label": "dog"}, "know their classes by whole numbers"),
        ("class", {"class_label": []}, "no classes"),
        ("none", {"top_p": 0.0}, "top_p is 0"),
        ("none", {"window": "blocks"}, "window rule 'blocks'"),
    ],
)
def test_what_does_not_fit_is_told(prefix_pipeline, kind, given, told) -> None:
    with pytest.raises(ValueError, match=told):
        prefix_pipeline(kind).paint(**given)


def test_a_small_picture_is_painted_large_and_a_drawing_comes_under_the_same_key(
    prefix_pipeline,
) -> None:
    pipeline = prefix_pipeline("lowres")
    small = PHOTO[::2, ::2].copy()
    (large,) = pipeline.upscale(small, 2)
    assert large.size == (16, 16)
    assert np.array_equal(pipeline.paint(edges=small, size=16)[0], large)


def test_coordinates_tell_a_window_where_it_is(prefix_pipeline) -> None:
    """The lower half of a tall picture has other condition tokens than the upper one."""
    pipeline = prefix_pipeline("coord")
    condition = pipeline._condition({}, (32, 16))
    _, tokens = pipeline.model.encode_to_c(condition)
    assert tokens[0].tolist() == sorted(tokens[0].tolist())
    assert tokens[0, 0] == 1
    assert tokens[0, -1] == 15


# --- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (24, 16)])
def test_half_completion_keeps_the_upper_half(prefix_pipeline, size, tmp_path) -> None:
    pipeline = prefix_pipeline("coord")
    photo = np.tile(PHOTO, (2, 2, 1))[: size[0], : size[1]]
    pictures = pipeline.complete(photo, seeds=[0, 1])
    half = size[0] // 2
    for picture in pictures:
        assert np.array_equal(np.asarray(picture)[:half], photo[:half])
    one, other = (np.asarray(picture)[half:] for picture in pictures)
    assert not np.array_equal(one, other)
    assert np.array_equal(pipeline.repaint(save_png(pictures[1], tmp_path / "a.png")), pictures[1])


def test_codes_of_what_is_kept_go_before_those_that_are_drawn(prefix_pipeline, monkeypatch) -> None:
    """The row next to the hole is painted anew, as its codes would describe the fill."""
    pipeline = prefix_pipeline("none")
    seen = painted_codes(monkeypatch, pipeline)
    mask = np.zeros((16, 16), dtype=bool)
    mask[:12] = True
    pipeline.complete(PHOTO, mask, seeds=[0, 1])
    values, _ = pipeline._read({"known": (PHOTO, mask)}, (16, 16))
    known = pipeline._known_codes(values, (4, 4))[0]
    assert (known[:2] >= 0).all()
    assert (known[2:] == UNKNOWN).all()
    for codes in seen:
        assert torch.equal(codes[:2], known[:2])
    assert not torch.equal(seen[0][2:], seen[1][2:])


def test_varying_names_the_model_that_can(prefix_pipeline) -> None:
    """It was an AttributeError."""
    with pytest.raises(ValueError, match=r"one order .*any-order"):
        prefix_pipeline("none").vary(PHOTO, 0.3, seeds=[0, 1])


@pytest.mark.parametrize("part", [np.s_[8:], np.s_[:, :8], np.s_[:, 8:]])
def test_a_mask_that_keeps_what_comes_later_names_the_model_that_can(prefix_pipeline, part) -> None:
    mask = np.zeros((16, 16), dtype=bool)
    mask[part] = True
    with pytest.raises(ValueError, match=r"one order.*keep upper rows alone, or .*any-order"):
        prefix_pipeline("none").complete(PHOTO, mask)


def test_a_model_of_another_order_completes_along_it(prefix_pipeline) -> None:
    """Spiralling inwards, a kept border comes first and a kept upper half does not."""
    spiral = {"target": "taming.transformer.permuter.SpiralIn", "params": {"H": 8, "W": 8}}
    model = prefix_pipeline("none", cells=64, permuter_config=spiral).model
    pipeline = PrefixPipeline(model, sizes=[(32, 32)])
    photo, mask = np.tile(PHOTO, (2, 2, 1)), np.ones((32, 32), dtype=bool)
    mask[8:24, 8:24] = False
    picture = np.asarray(pipeline.complete(photo, mask)[0])
    assert np.array_equal(picture[mask], photo[mask])
    with pytest.raises(ValueError, match="one order"):
        pipeline.complete(photo)


# --- precision -----------------------------------------------------------------------------------


def test_a_model_in_bf16_does_every_task(each) -> None:
    given = each[1]
    pipeline = PrefixPipeline(copy.deepcopy(each[0].model).to(torch.bfloat16))
    pictures = [
        *pipeline.paint(**given),
        *pipeline.complete(PHOTO, **given),
        *pipeline.reconstruct(PHOTO),
    ]
    assert [picture.size for picture in pictures] == [(16, 16)] * 3
    assert pipeline.repaint(pictures[1]).tobytes() == pictures[1].tobytes()
