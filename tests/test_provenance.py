"""Laws of what a picture says of itself."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from taming.provenance import (
    PIECE,
    attach,
    describe_tensor,
    read_record,
    restore_tensor,
    save_png,
)


def picture() -> Image.Image:
    return Image.new("RGB", (8, 8), (1, 2, 3))


@pytest.mark.parametrize("kind", [torch.float32, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_tensors_come_back_as_they_were(kind: torch.dtype, shape: tuple[int, ...]) -> None:
    value = (torch.randn(shape) * 3).to(kind)
    record = json.loads(json.dumps(describe_tensor(value)))
    restored = restore_tensor(record, "depth")
    assert restored.dtype == kind
    assert torch.equal(restored, value)


def test_a_view_is_kept_as_what_it_shows() -> None:
    value = torch.arange(24).reshape(4, 6).T[1:, ::2]
    assert torch.equal(restore_tensor(describe_tensor(value), "x"), value)


def test_what_is_too_large_is_kept_as_its_hash() -> None:
    noise = torch.randn(600_000)
    record = describe_tensor(noise)
    assert "data" not in record
    assert record["sha256"] == describe_tensor(noise.clone())["sha256"]
    with pytest.raises(ValueError, match=r"SHA-256 .*depth.*give depth"):
        restore_tensor(record, "depth")


@pytest.mark.parametrize("damage", ["short", "other", "letters"])
def test_damaged_conditions_say_so(damage: str) -> None:
    record = describe_tensor(torch.arange(100))
    other = describe_tensor(torch.arange(1, 101))["data"]
    record["data"] = {"short": record["data"][:-8], "other": other, "letters": "AAAA"}[damage]
    with pytest.raises(ValueError, match=r'condition "depth" .* is damaged'):
        restore_tensor(record, "depth")


def test_a_record_survives_the_file(tmp_path: Path) -> None:
    record = {"seed": 3, "name": "äöü ∂ 雪", "settings": {"steps": None}}
    path = save_png(attach(picture(), record), tmp_path / "a.png")
    assert read_record(path) == record
    assert np.array_equal(np.asarray(Image.open(path)), np.asarray(picture()))


@pytest.mark.parametrize("length", [PIECE - 20, PIECE, 3 * PIECE + 7, 5 << 20])
def test_long_records_can_be_opened(tmp_path: Path, length: int) -> None:
    """Pillow refuses to open a PNG with more than a megabyte in one text chunk."""
    record = {"conditions": "x" * length}
    path = save_png(attach(picture(), record), tmp_path / "a.png")
    assert read_record(path) == record


def test_a_picture_that_was_opened_can_be_saved_again(tmp_path: Path) -> None:
    record = {"conditions": "y" * (2 * PIECE)}
    first = save_png(attach(picture(), record), tmp_path / "a.png")
    again = save_png(Image.open(first), tmp_path / "b.png")
    assert read_record(again) == record


def test_pictures_without_a_record_are_saved_too(tmp_path: Path) -> None:
    path = save_png(picture(), tmp_path / "plain.png")
    with pytest.raises(ValueError, match=r"plain\.png does not say how it was made"):
        read_record(path)


def test_a_damaged_record_names_the_file(tmp_path: Path) -> None:
    image = picture()
    image.info["taming"] = '{"seed": 1'
    path = save_png(image, tmp_path / "cut.png")
    with pytest.raises(ValueError, match=r"cut\.png: .*damaged"):
        read_record(path)


def test_only_png_keeps_the_record(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.jpg: .*\.png"):
        save_png(picture(), tmp_path / "a.jpg")


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = save_png(attach(picture(), {"seed": 1}), tmp_path / "a.png")

    def break_off(self: Image.Image, target: Path, **options: object) -> None:
        Path(target).write_bytes(b"half a pict")
        raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", break_off)
    with pytest.raises(KeyboardInterrupt):
        save_png(attach(picture(), {"seed": 2}), path)
    assert read_record(path) == {"seed": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]
