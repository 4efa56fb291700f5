"""Archives unpack inside their folder alone; batches of published samples."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from taming.data.objects import Annotation
from taming.data.unpacking import (
    custom_collate,
    is_prepared,
    mark_prepared,
    quadratic_crop,
    unpack,
    unpack_whole,
)


def tar(path: Path, *names: str, link: str | None = None, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 2
            if link is not None:
                entry.type, entry.linkname, entry.size = tarfile.SYMTYPE, link, 0
            archive.addfile(entry, io.BytesIO(b"hi"))
    return path


def test_archives_unpack_beside_themselves(tmp_path: Path) -> None:
    unpack(str(tar(tmp_path / "a.tar", "one/x.txt")))
    unpack(tar(tmp_path / "b.tar.gz", "two/x.txt", mode="w:gz"))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("three/x.txt", "hi")
    unpack(tmp_path / "c.zip")
    assert all((tmp_path / n / "x.txt").read_text() == "hi" for n in ("one", "two", "three"))


@pytest.mark.parametrize("name", ["../evil.txt", "/evil.txt", "a/../../evil.txt", "C:\\evil.txt"])
def test_no_entry_is_written_outside(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("fine.txt", "hi")
        archive.writestr(name, "hi")
    for path in (tar(folder / "a.tar", "fine.txt", name), folder / "a.zip"):
        with pytest.raises(ValueError, match="outside; nothing was unpacked"):
            unpack(path)
    assert {p.name for p in tmp_path.rglob("*.txt")} == set()


def test_links_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a link"):
        unpack(tar(tmp_path / "a.tar", "x", link="/etc"))


def test_a_broken_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"no archive at all")
    with pytest.raises(ValueError, match=r"a.tar is broken"):
        unpack(tmp_path / "a.tar")
    with pytest.raises(ValueError, match=r"a.rar is no archive"):
        unpack(tmp_path / "a.rar")


def test_a_folder_appears_when_all_is_done(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar", "x.txt")

    def fails(folder: Path) -> None:
        assert (folder / "x.txt").is_file()
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        unpack_whole(archive, tmp_path / "data", fails)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar"]
    unpack_whole(archive, tmp_path / "data")
    assert (tmp_path / "data/x.txt").is_file()


def test_a_folder_is_prepared_when_marked(tmp_path: Path) -> None:
    assert not is_prepared(tmp_path)
    mark_prepared(str(tmp_path))
    assert is_prepared(tmp_path)


def test_a_square_around_a_box_is_mirrored_at_the_border() -> None:
    x = np.arange(100).reshape(10, 10)
    assert np.array_equal(quadratic_crop(x, (4, 4, 6, 6)), x[4:6, 4:6])
    corner = quadratic_crop(x, (0, 0, 2, 2), alpha=2)
    assert corner.shape == (4, 4)
    assert corner[1, 1] == 0
    assert corner[0, 0] == corner[2, 2] == 11


def test_batches_stack_arrays_and_keep_objects() -> None:
    thing = Annotation(1.0, "a", (0, 0, 1, 1), 0, "b")
    samples = [{"x": np.ones(3), "class": n, "name": "a", "it": [thing] * n} for n in range(2)]
    batch = custom_collate(samples)
    assert batch["x"].shape == (2, 3)
    assert torch.equal(batch["class"], torch.tensor([0, 1]))
    assert batch["name"] == ["a", "a"]
    assert batch["it"] == [[], [thing]]


def test_captions_are_grouped_by_their_place() -> None:
    assert custom_collate([{"caption": ["a"]}, {"caption": ["b"]}]) == {"caption": [["a", "b"]]}
    with pytest.raises(RuntimeError, match="different lengths"):
        custom_collate([["a"], ["b", "c"]])
