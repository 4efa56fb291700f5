"""Laws of files: nothing half-written, nothing executed, nothing silently dropped."""

import logging
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from taming.checkpoint import (
    DTYPES,
    CheckpointError,
    atomic_write,
    load_weights,
    read_metadata,
    read_shapes,
    read_state_dict,
    save_weights,
    tensor_hash,
    without_prefix,
)


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def interrupt(path: Path, error: BaseException) -> None:
    with atomic_write(path) as partial:
        partial.write_bytes(b"half")
        raise error


# --- writing -------------------------------------------------------------------------------------


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        interrupt(path, KeyboardInterrupt())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_a_finished_write_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.npy"
    for content in (b"old", b"new"):
        with atomic_write(path) as partial:
            assert partial.suffix == ".npy"
            partial.write_bytes(content)
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["file.npy"]


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("I/O error: No space left on device")],
)
def test_a_full_disk_is_said_plainly(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(CheckpointError, match="no space left"):
        interrupt(tmp_path / "a", error)
    assert os.listdir(tmp_path) == []


def test_weights_and_metadata_survive_a_file(tmp_path: Path) -> None:
    path, state = tmp_path / "weights.safetensors", model().state_dict()
    state["alias"] = state["0.weight"]
    state["turned"] = state["0.weight"].T
    save_weights(path, state, {"model": "small"})
    assert tensor_hash(read_state_dict(path)) == tensor_hash(state)
    assert read_metadata(path)["model"] == "small"


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_survives_safetensors(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {"odd": torch.ones(3, dtype=torch.uint8), "t": torch.tensor([[0, 1, 1]]).to(dtype)}
    save_weights(
        tmp_path / "w.safetensors", {**state, "empty": torch.empty(0, 2), "one": torch.tensor(1.0)}
    )
    read = read_state_dict(tmp_path / "w.safetensors")
    assert read["t"].dtype == dtype
    assert torch.equal(read["t"], state["t"])
    assert (read["empty"].shape, read["one"].shape) == ((0, 2), ())


def test_types_that_safetensors_lacks_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"w is of type torch.complex128"):
        save_weights(tmp_path / "w.safetensors", {"w": torch.ones(1, dtype=torch.complex128)})
    assert os.listdir(tmp_path) == []


def test_writing_tells_how_far_it_is(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    state = {name: torch.zeros(1 << 18) for name in "abc"}
    save_weights(tmp_path / "w.safetensors", state, progress=lambda *now: told.append(now))
    assert told == [(1, 3), (2, 3), (3, 3)]


# --- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth"])
@pytest.mark.parametrize("nested", [True, False])
def test_torch_files_are_read(tmp_path: Path, suffix: str, nested: bool) -> None:
    state = model().state_dict()
    content = {"state_dict": state, "epoch": 3, "callbacks": {}} if nested else state
    path = tmp_path / f"weights{suffix}"
    torch.save(content, path)
    assert tensor_hash(read_state_dict(path)) == tensor_hash(state)


class Trap:
    sprung: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> tuple:
        return (Trap.sprung.append, ("!",))


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    path = tmp_path / "trap.ckpt"
    torch.save({"state_dict": model().state_dict(), "extra": Trap()}, path)
    assert tensor_hash(read_state_dict(path)) == tensor_hash(model().state_dict())
    assert Trap.sprung == []


def test_what_is_no_tensor_among_weights_is_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save({**model().state_dict(), "version": 3}, tmp_path / "a.ckpt")
    with caplog.at_level(logging.INFO, logger="taming.checkpoint"):
        state = read_state_dict(tmp_path / "a.ckpt")
    assert state.keys() == model().state_dict().keys()
    assert "1 entries are not tensors: version" in caplog.text


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.ckpt"])
@pytest.mark.parametrize("length", [0, 5, 200])
def test_a_truncated_file_is_named(tmp_path: Path, name: str, length: int) -> None:
    path, state = tmp_path / name, model().state_dict()
    if path.suffix == ".ckpt":
        torch.save(state, path)
    else:
        save_weights(path, state)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CheckpointError, match=rf"{name}.*(damaged|not a checkpoint)"):
        read_state_dict(path)


def test_files_without_tensors_are_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 1}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="no tensors"):
        read_state_dict(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="does not exist"):
        read_state_dict(tmp_path / "b.ckpt")
    (tmp_path / "c.zip").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="no known format"):
        read_state_dict(tmp_path / "c.zip")


def test_shapes_are_read_without_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_weights(path, model().state_dict())
    read = read_shapes(path)
    assert {k: v.shape for k, v in read.items()} == {
        k: v.shape for k, v in model().state_dict().items()
    }
    assert all(tensor.is_meta for tensor in read.values())
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="damaged"):
        read_shapes(path)


# --- fitting -------------------------------------------------------------------------------------


def test_everything_matches_or_is_reported() -> None:
    report = load_weights(model(), model().state_dict())
    assert len(report.matched) == 7
    assert (report.missing, report.left_over, report.other_shape) == ([], [], [])


def test_misfits_name_keys_and_shapes_and_change_nothing() -> None:
    target, state = model(), model().state_dict()
    before = tensor_hash(target.state_dict())
    state["0.weight"] = torch.zeros(3, 4)
    state["2.weight"] = torch.zeros(1)
    del state["1.running_mean"]
    with pytest.raises(CheckpointError) as caught:
        load_weights(target, state, source="a.ckpt")
    message = str(caught.value)
    for words in ("a.ckpt", "0.weight 3x4 here 3x2", "1.running_mean", "2.weight", "ignore_keys"):
        assert words in message
    assert tensor_hash(target.state_dict()) == before


def test_ignored_keys_are_neither_read_nor_asked_for() -> None:
    target, state = model(), {k: v + 1 for k, v in model().state_dict().items()}
    state["0.weight"] = torch.zeros(9, 9)
    state["2.weight"] = torch.zeros(1)
    del state["1.bias"]
    report = load_weights(target, state, ignore=["0.weight", "1.bias", "2."])
    assert torch.equal(target.state_dict()["0.weight"], model().state_dict()["0.weight"])
    assert torch.equal(target.state_dict()["0.bias"], state["0.bias"])
    assert report.other_shape == ["0.weight"]


def test_one_key_to_ignore_is_no_list_of_letters() -> None:
    """Everything that began with one of them stayed as it was, without a word."""
    target, state = model(), {k: v + 1 for k, v in model().state_dict().items()}
    load_weights(target, state, ignore="0.weight")
    kept = {k for k, v in target.state_dict().items() if torch.equal(v, model().state_dict()[k])}
    assert kept == {"0.weight"}


@pytest.mark.parametrize(
    "key",
    [
        "loss.discriminator.main.0.weight",
        "first_stage_model.loss.perceptual_loss.lin0.model.1.weight",
        "colorize",
        "cond_stage_model.colorize",
        "transformer.blocks.0.attn.mask",
        "quantize.used",
    ],
)
def test_old_left_overs_are_listed_once(key: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="taming.checkpoint"):
        report = load_weights(model(), {**model().state_dict(), key: torch.zeros(1)})
    assert report.left_over == [key]
    assert caplog.text.count(key) == 1


def test_a_file_without_losses_starts_them_afresh() -> None:
    target = nn.ModuleDict({"net": nn.Linear(2, 2), "loss": nn.Linear(1, 1)})
    state = {k: v for k, v in target.state_dict().items() if k.startswith("net.")}
    assert load_weights(target, state).missing == ["loss.weight", "loss.bias"]
    with pytest.raises(CheckpointError, match=r"missing from the file: loss\.bias"):
        load_weights(target, {**state, "loss.weight": torch.zeros(1, 1)})


def test_what_does_not_fit_reads_as_one_sentence_too() -> None:
    """The command line joins lines; the parts ran into each other."""
    with pytest.raises(CheckpointError) as caught:
        load_weights(nn.Linear(2, 1), {"weight": torch.zeros(1, 3), "more": torch.zeros(1)})
    said = " ".join(str(caught.value).split())
    assert "fit this Linear (2 tensors): 1 missing from the file: bias; 1 of another" in said
    assert "not known to the model: more; check that" in said


def test_modules_without_memory_take_the_tensors_over() -> None:
    with torch.device("meta"):
        target = model()
    load_weights(target, model().state_dict())
    assert tensor_hash(target.state_dict()) == tensor_hash(model().state_dict())


def test_prefixes_are_cut() -> None:
    state = {"first_stage_model.a": torch.zeros(1), "transformer.a": torch.ones(1)}
    assert list(without_prefix(state, "first_stage_model.")) == ["a"]


# --- hashes --------------------------------------------------------------------------------------


def test_hash_knows_names_types_shapes_and_bytes_but_no_order() -> None:
    state = {"a": torch.arange(4.0), "b": torch.tensor(True)}
    same = tensor_hash(dict(reversed(state.items())))
    assert same == tensor_hash(state)
    for other in (
        {"c": state["a"], "b": state["b"]},
        {**state, "a": state["a"].double()},
        {**state, "a": state["a"].reshape(2, 2)},
        {**state, "a": state["a"] + 1},
    ):
        assert tensor_hash(other) != same
