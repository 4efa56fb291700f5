"""Whatever kind of picture people have becomes upright RGB bytes, or one clear sentence."""

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from taming.data.pictures import UnreadableImage, find_pictures, listed_pictures, read_image


def saved(picture: Image.Image, path: Path, **options) -> Path:
    picture.save(path, **options)
    return path


def halves(left: tuple, right: tuple, mode: str) -> Image.Image:
    picture = Image.new(mode, (4, 2), left)
    picture.paste(right, (2, 0, 4, 2))
    return picture


def test_rgb_comes_as_it_is(tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    read = read_image(saved(Image.fromarray(pixels), tmp_path / "a.png"))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, pixels)


def test_exif_orientation_turns_the_picture(tmp_path) -> None:
    picture = halves((255, 0, 0), (0, 0, 255), "RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate clockwise by a quarter
    read = read_image(saved(picture, tmp_path / "a.png", exif=exif))
    assert read.shape == (4, 2, 3)
    assert read[0, 0].tolist() == [255, 0, 0]
    assert read[3, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("number", range(1, 9))
def test_every_orientation_is_turned_as_pillow_does(tmp_path, number: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = number
    path = saved(Image.fromarray(pixels), tmp_path / "a.png", exif=exif)
    with Image.open(path) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    np.testing.assert_array_equal(read_image(path), expected)


def test_odd_tags_beside_the_orientation_do_not_matter(tmp_path, monkeypatch) -> None:
    """To write the EXIF anew ended an encoding of hours at one photograph."""

    def odd(self: Image.Exif, offset: int = 8) -> bytes:
        raise struct.error("required argument is not an integer")

    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(halves((255, 0, 0), (0, 0, 255), "RGB"), tmp_path / "a.png", exif=exif)
    monkeypatch.setattr(Image.Exif, "tobytes", odd)
    assert read_image(path).shape == (4, 2, 3)


@pytest.mark.parametrize("error", [struct.error, TypeError, IndexError, EOFError, SyntaxError])
def test_exif_that_cannot_be_read_means_upright(tmp_path, monkeypatch, error) -> None:
    def broken(self: Image.Image) -> Image.Exif:
        raise error("broken")

    path = saved(Image.new("RGB", (4, 2)), tmp_path / "a.png")
    monkeypatch.setattr(Image.Image, "getexif", broken)
    assert read_image(path).shape == (2, 4, 3)


@pytest.mark.parametrize("error", [struct.error, TypeError, IndexError, EOFError, SyntaxError])
def test_whatever_decoding_raises_names_the_picture(tmp_path, monkeypatch, error) -> None:
    def broken(self: ImageFile.ImageFile) -> None:
        raise error("broken")

    path = saved(Image.new("RGB", (4, 2)), tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", broken)
    with pytest.raises(UnreadableImage, match=r"a\.png"):
        read_image(path)


def test_transparency_lies_over_white(tmp_path) -> None:
    read = read_image(saved(halves((255, 0, 0, 255), (0, 0, 0, 0), "RGBA"), tmp_path / "a.png"))
    assert read[0, 0].tolist() == [255, 0, 0]
    assert read[0, 3].tolist() == [255, 255, 255]


def test_transparent_palette_entries_lie_over_white(tmp_path) -> None:
    picture = Image.new("P", (2, 1), 0)
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    read = read_image(saved(picture, tmp_path / "a.png", transparency=0))
    assert read[0].tolist() == [[255, 255, 255], [40, 50, 60]]


def test_sixteen_bits_are_scaled_not_clipped(tmp_path) -> None:
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    read = read_image(saved(Image.fromarray(values), tmp_path / "a.png"))
    assert read[0, :, 0].tolist() == [0, 100, 255]


def test_cmyk_and_grey_become_rgb(tmp_path) -> None:
    cmyk = read_image(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), tmp_path / "a.jpg"))
    red, green, blue = cmyk[4, 4].astype(int)
    assert red > 200
    assert max(green, blue) < 60
    grey = read_image(saved(Image.new("L", (3, 2), 7), tmp_path / "b.png"))
    assert grey.shape == (2, 3, 3)
    assert (grey == 7).all()


def test_large_jpegs_may_come_smaller_but_never_too_small(tmp_path) -> None:
    path = saved(Image.new("RGB", (640, 480)), tmp_path / "a.jpg")
    height, width, _ = read_image(path, at_least=(60, 70)).shape
    assert 70 <= height < 480
    assert height * 640 == width * 480
    assert read_image(path).shape == (480, 640, 3)


def test_truncated_pictures_are_named(tmp_path) -> None:
    path = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(UnreadableImage, match=r"cut\.jpg"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\nbroken"])
def test_files_that_are_no_pictures_are_named(tmp_path, content: bytes) -> None:
    path = tmp_path / "no.png"
    path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"no\.png"):
        read_image(path)
    with pytest.raises(UnreadableImage, match="does not exist"):
        read_image(tmp_path / "nowhere.png")


def test_folders_are_searched_through_without_hidden_files(tmp_path) -> None:
    for name in ("b.JPG", "inner/deep/a.png", ".hidden.png", ".cache/c.png", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)]
    assert found == ["b.JPG", "inner/deep/a.png"]


def test_pictures_of_kinds_that_are_not_read_are_told(tmp_path, caplog) -> None:
    for name in ("a.jpg", "b.HEIC", "inner/c.nef", "._b.heic", "notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert find_pictures(tmp_path) == [tmp_path / "a.jpg"]
    assert "2 files are of kinds that are not read, such as 'b.HEIC'" in caplog.text


def test_links_are_followed_but_not_in_circles(tmp_path) -> None:
    """A link to its own folder listed every picture 41 times."""
    (tmp_path / "set" / "inner").mkdir(parents=True)
    (tmp_path / "else").mkdir()
    for name in ("set/a.png", "set/inner/b.png", "else/c.png"):
        (tmp_path / name).touch()
    try:
        (tmp_path / "set/inner/back").symlink_to(tmp_path / "set")
        (tmp_path / "set/there").symlink_to(tmp_path / "else")
    except OSError:
        pytest.skip("no links here")
    found = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path / "set")]
    assert found == ["set/a.png", "set/inner/b.png", "set/there/c.png"]


def test_lists_are_relative_to_themselves_and_name_what_is_missing(tmp_path, caplog) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    file = tmp_path / "list.txt"
    file.write_text("# mine\n\npictures/a.png\npictures/gone.png\n")
    assert listed_pictures(file) == [tmp_path / "pictures" / "a.png"]
    # As editors on Windows begin a file
    file.write_text("pictures/a.png", encoding="utf-8-sig")
    assert listed_pictures(file) == [tmp_path / "pictures" / "a.png"]
    assert "gone.png" in caplog.text


def test_a_picture_given_as_a_list_is_an_error(tmp_path) -> None:
    path = saved(Image.new("RGB", (4, 4)), tmp_path / "a.png")
    with pytest.raises(ValueError, match="one picture path a line"):
        listed_pictures(path)
