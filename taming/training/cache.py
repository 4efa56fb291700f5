"""Codes of a training set, written once, read in every epoch.

Encoding a picture costs more than learning from its codes, so each picture is drawn and encoded a
few times before training. A record is one draw: codes, the crop as uint8, its maps, joints, caption
and whatever a condition computes once (the embedding of a caption), all after the same transform.
Records of the published second stage, which draws nothing when it reads, are tokens alone
(`sequences.py`). They lie in litdata shards, one folder for each set. The index holds a fingerprint
of the encoding weights and of the data settings: a cache that belongs to others is refused.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from taming.checkpoint import DECODING, tensor_hash
from taming.cond_stage.base import Condition
from taming.cond_stage.sources import to_pixels
from taming.data.mix import Mix
from taming.first_stage.prepared import PreparedFirstStage
from taming.first_stage.vqgan import VQModel

logger = logging.getLogger(__name__)

FORMAT = 2
INDEX = "cache.json"
PLAIN = re.compile(r"int|str|numpy|no_header_numpy:\d+")  # entries, as litdata calls them
CHUNK_BYTES = 64 << 20
REMEDY = "remove that folder, or name another with data.params.codes.cache"
Progress = Callable[[int, int], None]  # records done, records in all
Encode = Callable[
    [list[dict[str, Any]]], Iterator[dict[str, Any]]
]  # samples of one size -> records


class CacheError(ValueError):
    """A cache that is missing, damaged or made for something else; says what to do."""


def fingerprint(first_stage: nn.Module, settings: Mapping[str, Any]) -> str:
    """SHA-256 over everything that decides a record: settings, and weights that make codes.

    What turns codes into pictures is left out: it may learn on while records stay what they are.
    """
    weights = first_stage.state_dict()
    makers = {key: each for key, each in weights.items() if not key.startswith(DECODING)}
    described = {"format": FORMAT, "weights": tensor_hash(makers), **settings}
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


class CodesCache(Dataset):
    """Records of a cache, set after set; each item is a record as a sample.

    A sample has the keys of `data/batch.py` that the record has, and `codes` int64 (h, w).
    """

    sets: list[dict[str, Any]]  # name, folder, records, size and weight of each

    def __init__(self, folder: str | Path, expected: str | None = None) -> None:
        self.folder = Path(folder)
        path = self.folder / INDEX
        if not path.is_file():
            raise CacheError(f"{self.folder} is no cache of codes, {INDEX} is missing; {REMEDY}")
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            mark, self.sets = str(index["fingerprint"]), list(index["sets"])
        except (ValueError, KeyError, TypeError) as error:
            raise CacheError(f"{path} is damaged ({error!r}); {REMEDY}") from error
        if expected is not None and mark != expected:
            raise CacheError(
                f"the cache {self.folder} was made with another first stage, other pictures or "
                f"other data settings (fingerprint {mark[:12]}, expected {expected[:12]}); {REMEDY}"
            )
        self.offsets = np.cumsum([0, *self.lengths])
        self._shards: dict[int, Any] = {}

    @property
    def lengths(self) -> list[int]:
        return [each["records"] for each in self.sets]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [(each["size"][0], each["size"][1]) for each in self.sets]

    @property
    def weights(self) -> list[float]:
        return [each["weight"] for each in self.sets]

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return to_sample(self.record(index))

    def record(self, index: int) -> dict[str, Any]:
        """What was written, as it lies in the shard."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of a cache of {len(self)}")
        number = int(np.searchsorted(self.offsets, index, side="right")) - 1
        shards = self._open(number)
        return shards[int(index - self.offsets[number])]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_shards": {}}  # open files do not travel to workers

    def _open(self, number: int) -> Any:
        if number not in self._shards:
            folder = self.folder / self.sets[number]["folder"]
            _check_plain(folder)
            # One record at a time: a batch of neighbours would be decoded for nothing.
            self._shards[number] = _litdata().StreamingDataset(str(folder), batch_decode=0)
        return self._shards[number]


def _check_plain(folder: Path) -> None:
    """CacheError where shards hold anything but numbers and text: some kinds would run code."""
    path = folder / "index.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["config"]
        entries = [str(kind) for kind in config["data_format"]]
        record = json.loads(config["data_spec"])[1]  # how entries are put together
        kinds = [record["type"], *(part["type"] for part in record["children_spec"])]
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise CacheError(f"{path} is damaged ({error!r}); {REMEDY}") from error
    strange = {entry for entry in entries if PLAIN.fullmatch(entry) is None}
    strange |= {str(kind) for kind in kinds[1:] if kind is not None}
    strange |= {str(kind) for kind in kinds[:1] if kind != "builtins.dict"}
    if strange:
        raise CacheError(f"{path} holds {', '.join(sorted(strange))}, which no cache has; {REMEDY}")


def build_cache(
    folder: str | Path,
    mix: Mix,
    encode: Encode,
    *,
    draws: int,  # records of each picture
    mark: str,  # fingerprint
    batch_size: int = 32,
    num_workers: int = 1,
    progress: Progress | None = None,
) -> CodesCache:
    """Draw and encode every picture `draws` times. The folder appears whole or not at all."""
    folder = Path(folder)
    if draws < 1:
        raise ValueError(f"draws is {draws}; give at least 1")
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.partial")
    total, done = draws * len(mix), 0
    sets: list[dict[str, Any]] = []
    try:
        for number, part in enumerate(mix.sets):
            if not len(part):
                continue
            name = f"{number:02d}"
            writer = _litdata_writer()(str(_new_folder(partial / name)), chunk_bytes=CHUNK_BYTES)
            count = 0
            for samples in _drawn(mix, number, draws, batch_size, num_workers):
                for record in encode(samples):
                    writer[count] = record
                    count += 1
                done += len(samples)
                if progress is not None:
                    progress(done, total)
            writer.done()
            # merge() would wait for the other processes of a training to write as well.
            writer._merge_no_wait()
            size = mix.sizes[number]
            sets.append(
                {
                    "name": part.name,
                    "folder": name,
                    "records": count,
                    "size": list(size),
                    "weight": mix.weights[number],
                }
            )
        index = {"format": FORMAT, "fingerprint": mark, "draws": draws, "sets": sets}
        (partial / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")
        if (folder / INDEX).is_file():  # another process was faster; whose it is, is told below
            shutil.rmtree(partial)
        else:
            partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    logger.info("cached %d records of %d pictures in %s", done, len(mix), folder)
    return CodesCache(folder, mark)


@torch.no_grad()
def encode(
    samples: list[dict[str, Any]], first_stage: Any, conditions: Mapping[str, Condition]
) -> Iterator[dict[str, Any]]:
    """Records of samples of one size; empty arrays stand for what a sample lacks."""
    codes = encode_pictures(samples, first_stage)
    once = [each for each in conditions.values() if each.precomputed]
    computed = {each.name: each.derive_all(samples, np.random.default_rng(0)) for each in once}
    for place, (sample, grid) in enumerate(zip(samples, codes, strict=True)):
        yield {
            "codes": grid,
            "image": to_pixels(sample["image"]).transpose(2, 0, 1).copy(),  # (3, H, W)
            "labels": _array(sample.get("labels"), np.uint16, (0, 0)),
            "depth": _array(sample.get("depth"), np.float16, (0, 0, 0)),
            "keypoints": _array(sample.get("keypoints"), np.float32, (0, 0, 0)),
            "boxes": _array(sample.get("boxes"), np.float32, (0, 0)),
            "class_label": int(sample.get("class_label", -1)),
            "caption": str(sample.get("caption", "")),
            "name": os.fsencode(sample.get("name", "")).decode("utf-8", "replace"),
            "set": str(sample.get("set", "")),
            **{
                name: _array(values[place], np.float32, (0, 0), lift=True)
                for name, values in computed.items()
            },
        }


@torch.no_grad()
def encode_pictures(samples: list[dict[str, Any]], first_stage: VQModel) -> np.ndarray:
    """The codes of the pictures, uint16 (B, h, w)."""
    if first_stage.codebook_size > 65536:
        raise ValueError(f"codes are kept in 16 bits; {first_stage.codebook_size} are too many")
    device = next(first_stage.parameters()).device
    images = torch.stack([sample["image"] for sample in samples]).to(device)
    return PreparedFirstStage(first_stage).indices(images).cpu().numpy().astype(np.uint16)


def to_sample(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as the sample that it was made from, with `codes` int64 (h, w)."""
    sample: dict[str, Any] = {
        key: record[key] for key in ("name", "set", "caption") if record[key] != ""
    }
    sample["codes"] = torch.from_numpy(record["codes"].astype(np.int64))
    sample["image"] = torch.from_numpy(record["image"].astype(np.float32)) / 127.5 - 1.0
    if record["class_label"] >= 0:
        sample["class_label"] = torch.tensor(record["class_label"])
    types = {"labels": np.int64, "depth": np.float32}
    types |= {"keypoints": np.float32, "boxes": np.float32}
    for key, kind in types.items():
        if record[key].size:
            sample[key] = torch.from_numpy(record[key].astype(kind))
    for key in set(record) - set(sample) - set(types) - {"name", "set", "caption", "class_label"}:
        if record[key].size:
            sample[key] = torch.from_numpy(record[key][0].astype(np.float32))
    return sample


def _drawn(
    mix: Mix, number: int, draws: int, batch_size: int, num_workers: int
) -> Iterator[list[dict[str, Any]]]:
    """All draws of the pictures of one set, in batches."""
    start, stop = mix.offsets[number], mix.offsets[number + 1]
    indices = [(index, draw) for draw in range(draws) for index in range(start, stop)]
    batches = [indices[first : first + batch_size] for first in range(0, len(indices), batch_size)]
    loader: DataLoader[Any] = DataLoader(
        mix, batch_sampler=batches, num_workers=num_workers, collate_fn=list
    )
    yield from loader


def _array(
    value: Tensor | None, kind: type[np.generic], empty: tuple[int, ...], lift: bool = False
) -> np.ndarray:
    """A tensor as an array of this type; shards want one number of dimensions for a field."""
    if value is None:
        return np.zeros(empty, kind)
    array = value.detach().cpu().numpy().astype(kind)
    return array[None] if lift else array


def _new_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def _litdata() -> Any:
    try:
        import litdata
    except ImportError as error:
        raise ImportError('caches of codes need litdata: pip install "taming[train]"') from error
    return litdata


def _litdata_writer() -> Any:
    _litdata()
    from litdata.streaming.writer import BinaryWriter

    return BinaryWriter
