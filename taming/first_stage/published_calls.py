"""What scripts call on a first stage because the published one was a LightningModule.

Reading published batches, pictures of them, freezing, loading by `load_from_checkpoint`, and the
script's own `torch.load` of a published file. Training needs none of it (it has readers and grids
of its own), and the model itself neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from taming.data.batch import channels_first
from taming.first_stage.plain_module import PlainModule

if TYPE_CHECKING:
    from typing_extensions import Self

SHOWN_AS_IT_IS = 3  # channels; more are planes of labels, shown in colours

# Lightning 1.0 wrote classes as keys of a dictionary, and `torch.load` refuses a file that names
# what it does not know. A key needs no more than a name: empty classes that bear it.
KEYS = {"model_checkpoint": "ModelCheckpoint", "early_stopping": "EarlyStopping"}
torch.serialization.add_safe_globals(
    [
        type(name, (), {"__module__": f"pytorch_lightning.callbacks.{module}"})
        for module, name in KEYS.items()
    ]
)


class PublishedCalls(PlainModule):
    """For `VQModel` and what derives from it."""

    def get_input(self, batch: Mapping[str, Any], k: str) -> Tensor:
        """The pictures of a batch under this key, float32 (B,C,H,W); (B,H,W,C) as published too."""
        model: Any = self
        return channels_first(torch.as_tensor(batch[k]), model.config.in_channels).contiguous()

    @torch.no_grad()
    def log_images(self, batch: Mapping[str, Any], split: str = "train") -> dict[str, Tensor]:
        """`inputs` and `reconstructions` (B,C,H,W), about [-1, 1]; label maps in colours.

        `split` is what the published logger says; nothing depends on it.
        """
        model: Any = self
        x = self.get_input(batch, model.image_key).to(self.device)
        reconstruction, _ = self(x)
        if x.shape[1] > SHOWN_AS_IT_IS:
            best = F.one_hot(reconstruction.argmax(dim=1), x.shape[1])
            decided = rearrange(best, "b h w c -> b c h w").to(x)
            x, reconstruction = model.to_rgb(x), model.to_rgb(decided)
        return {"inputs": x, "reconstructions": reconstruction}

    def freeze(self) -> None:
        """In evaluation mode, and nothing of it learns."""
        self.eval().requires_grad_(False)

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: str | Path,
        map_location: Any = None,  # where the model goes; the CPU without it
        strict: bool = True,  # what does not fit is an error in either case
        **params: Any,  # the model's own, as its YAML has them
    ) -> Self:
        """A model of these parameters with the weights of a file, from which no code is run."""
        model: Any = cls(**params)
        model.init_from_ckpt(str(checkpoint_path))
        return model if map_location is None else model.to(map_location)
