"""Laws of which files make a model: our runs, the original's runs, published files, the hub."""

from pathlib import Path

import pytest

from taming import finding
from taming.checkpoint import CheckpointError
from taming.finding import Found, find


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def names(found: Found, folder: Path) -> tuple[str, str]:
    """Relative to the folder, whatever link leads there."""
    root = folder.resolve()
    config, weights = (path.resolve().relative_to(root) for path in found[1:])
    return config.as_posix(), weights.as_posix()


OLD_RUN = [
    "configs/2020-11-20T12-54-32-lightning.yaml",
    "configs/2020-11-20T12-54-32-project.yaml",
    "configs/2021-01-03T08-00-00-project.yaml",  # after a resume
    "checkpoints/epoch=000012.ckpt",
    "checkpoints/last.ckpt",
]


@pytest.mark.parametrize("what", ["", "checkpoints/last.ckpt", OLD_RUN[2]])
def test_runs_of_the_original_are_found(tmp_path: Path, what: str) -> None:
    run = tmp_path / "2020-11-20T12-54-32_drin"
    make(run, *OLD_RUN)
    found = find(run / what)
    assert names(found, run) == (OLD_RUN[2], "checkpoints/last.ckpt")
    assert found.name == run.name


def test_an_older_checkpoint_of_a_run_may_be_named(tmp_path: Path) -> None:
    make(tmp_path, *OLD_RUN)
    assert names(find(tmp_path / OLD_RUN[3]), tmp_path) == (OLD_RUN[2], OLD_RUN[3])


@pytest.mark.parametrize(
    ("files", "what", "config", "weights", "name"),
    [
        (["f16.yaml", "f16.ckpt", "f8.yaml", "f8.ckpt"], "f8.ckpt", "f8.yaml", "f8.ckpt", "f8"),
        (["f16.yaml", "f16.ckpt", "f8.yaml", "f8.ckpt"], "f8.yaml", "f8.yaml", "f8.ckpt", "f8"),
        (["config.yaml", "a.ckpt"], "a.ckpt", "config.yaml", "a.ckpt", "files"),
        (["config.yaml", "a.ckpt"], "", "config.yaml", "a.ckpt", "files"),
        (["model.yaml", "last.ckpt"], "", "model.yaml", "last.ckpt", "files"),
        (["configs/model.yaml", "checkpoints/last.ckpt"], "", "configs/model.yaml",
         "checkpoints/last.ckpt", "files"),
        (["configs/model.yaml", "ckpts/last.ckpt"], "", "configs/model.yaml", "ckpts/last.ckpt",
         "files"),
        (["configs/model.yaml", "ckpts/last.ckpt"], "ckpts/last.ckpt", "configs/model.yaml",
         "ckpts/last.ckpt", "files"),
        (["config.json", "model.safetensors"], "", "config.json", "model.safetensors", "files"),
        (["config.yaml", "weights.safetensors", "checkpoints/last.ckpt"], "", "config.yaml",
         "weights.safetensors", "files"),
    ],
)  # fmt: skip
def test_files_that_belong_together_find_each_other(
    tmp_path: Path, files: list[str], what: str, config: str, weights: str, name: str
) -> None:
    folder = tmp_path / "files"
    make(folder, *files)
    found = find(folder / what)
    assert (*names(found, folder), found.name) == (config, weights, name)


def test_a_path_relative_to_here_finds_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *OLD_RUN)
    monkeypatch.chdir(tmp_path / "checkpoints")
    assert names(find("last.ckpt"), tmp_path) == (OLD_RUN[2], "checkpoints/last.ckpt")


def test_a_configuration_from_elsewhere_may_be_named(tmp_path: Path) -> None:
    make(tmp_path, "a/last.ckpt", "a/model.yaml", "b/mine.yaml")
    found = find(tmp_path / "a", config=tmp_path / "b/mine.yaml")
    assert names(found, tmp_path) == ("b/mine.yaml", "a/last.ckpt")


def test_a_checkpoint_alone_asks_for_its_configuration(tmp_path: Path) -> None:
    make(tmp_path, "vqgan.ckpt")
    with pytest.raises(CheckpointError, match=r"put its YAML beside it as vqgan\.yaml"):
        find(tmp_path / "vqgan.ckpt")


def test_of_several_checkpoints_one_has_to_be_named(tmp_path: Path) -> None:
    make(tmp_path, "config.yaml", "a.ckpt", "checkpoints/b.ckpt")
    with pytest.raises(CheckpointError, match=r"name one of them: a\.ckpt, checkpoints/b\.ckpt"):
        find(tmp_path)


def test_a_name_that_is_not_there_is_never_its_neighbour(tmp_path: Path) -> None:
    make(tmp_path, "config.yaml", "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"last\.ckpt is no model"):
        find(tmp_path / "last.ckpt")


@pytest.mark.parametrize("what", ["runs/strets", "logs/a", "here/b", "./c/d", "~/model", "a/b/c"])
def test_a_run_that_is_misspelt_is_not_asked_for_from_strangers(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may be called "runs" on the hub."""
    make(tmp_path, "here/config.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(finding, "_download", lambda *_: pytest.fail("the hub was asked"))
    with pytest.raises(CheckpointError, match="is no model"):
        find(what)


def test_a_run_that_is_misspelt_names_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "runs/streets/config.yaml")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"did you mean runs.streets\?"):
        find("runs/strets")


def test_where_nothing_is_bundled_a_model_has_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "BUNDLED", tmp_path / "bundled")
    with pytest.raises(CheckpointError, match=r"no model is bundled .* --model runs/mine"):
        find("bundled")
