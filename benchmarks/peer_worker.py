"""The peer's process: reads jobs from standard input, a line of JSON each, until it ends.

    python peer_worker.py FOLDER PREFIX BUILDER

FOLDER holds the installed package. Jobs are those of `client_code` and `peer_timing`, and `write`:
build a model, give it weights that show differences, and write them as the Lightning of its time
did.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# --- the published package -----------------------------------------------------------------------


class PeerSide:
    """How `client_code` reaches the published package."""

    def __init__(self, prefix: str, builder: str) -> None:
        self.prefix = prefix
        self.builder = builder

    def find(self, path: str) -> Any:
        module, name = (self.prefix + path).rsplit(".", 1)
        return getattr(importlib.import_module(module), name)

    def build(self, config: Mapping[str, Any]) -> Any:
        module, name = self.builder.rsplit(".", 1)
        # The download of the metric's weights: here they are random.
        self.find("taming.modules.losses.lpips.LPIPS").load_from_pretrained = lambda self: None
        # Two names that the moving-average quantizer uses and nothing defines.
        quantizers = importlib.import_module(f"{self.prefix}taming.modules.vqvae.quantize")
        params = config["params"]
        vars(quantizers).update(
            num_tokens=params.get("n_embed"), codebook_dim=params.get("embed_dim")
        )
        model = getattr(importlib.import_module(module), name)(config)
        if config["target"].endswith("EMAVQ") and "ckpt_path" in params:
            model.init_from_ckpt(params["ckpt_path"])  # it forgets to
        return model

    def load(self, model: nn.Module, path: str) -> None:
        model.load_state_dict(torch.load(path)["state_dict"])


# --- checkpoints ---------------------------------------------------------------------------------


def write(
    side: PeerSide, tensors: Mapping[str, Tensor], config: Any, path: str, zipped: bool = True
) -> dict[str, Tensor]:
    """A new model of this config, as a checkpoint file of Lightning 1.0."""
    torch.manual_seed(0)
    model = side.build(config)
    spread_weights(model)
    optimizer = torch.optim.Adam(list(model.parameters())[:1], lr=1e-4)
    checkpoint_callback = importlib.import_module("pytorch_lightning.callbacks.model_checkpoint")
    state = {
        "monitor": "val/rec_loss",
        "best_model_score": torch.tensor(0.5),
        "best_model_path": "",
    }
    content = {
        "epoch": 3,
        "global_step": 1234,
        "pytorch-lightning_version": "1.0.8",
        "callbacks": {checkpoint_callback.ModelCheckpoint: state},  # the class itself is the key
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [],
        "state_dict": model.state_dict(),
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return {}


@torch.no_grad()
def spread_weights(model: nn.Module) -> None:
    """Fresh transformers, codebooks and judges are nearly zero, and so then is every difference."""
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if name == "cluster_size":
                weight.uniform_(0.5, 1.5)
            elif not weight.requires_grad:
                continue  # the perceptual network has its scale
            elif isinstance(module, nn.Embedding) or name == "pos_emb":
                weight.normal_(0, 0.5)
            elif isinstance(module, nn.Linear | nn.Conv2d) and name == "weight":
                weight.normal_(0, weight[0].numel() ** -0.5)
            elif weight.ndim == 1:
                weight.add_(torch.randn_like(weight), alpha=0.1)


def windows(
    side: PeerSide, tensors: Mapping[str, Tensor], config: Any, window: int
) -> dict[str, Tensor]:
    """The published rule for large pictures as its notebook has it, greedy, no code of ours.

    Every cell is asked for in the middle of its window, or nearer to the border where it is.
    """
    model = side.build(config).eval()
    codes = tensors["known"].clone()
    _, height, width = codes.shape
    prefix = model.encode_to_c(tensors["cond"])[1].reshape(codes.shape)
    half = window // 2

    def local(index: int, limit: int) -> int:
        if index <= half:
            return index
        return window - (limit - index) if limit - index < half else half

    with torch.no_grad():
        for i in range(height):
            for j in range(width):
                if codes[0, i, j] >= 0:
                    continue
                row, column = local(i, height), local(j, width)
                rows = slice(i - row, i - row + window)
                columns = slice(j - column, j - column + window)
                # What is not painted yet is behind the cell: any code will do.
                patch = codes[:, rows, columns].clamp(min=0).flatten(1)
                sequence = torch.cat([prefix[:, rows, columns].flatten(1), patch], dim=1)
                logits, _ = model.transformer(sequence[:, :-1])
                logits = logits[:, -window * window :].unflatten(1, (window, window))
                codes[:, i, j] = logits[:, row, column].argmax(-1)
    return {"codes": codes}


# --- the loop ------------------------------------------------------------------------------------


def main() -> None:
    folder, prefix, builder = sys.argv[1:]
    import client_code
    import peer_stubs
    import peer_timing
    from safetensors.torch import load_file, save_file

    # Answers go where the jobs came from; what the package prints goes to the errors.
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    peer_stubs.install_stubs()
    sys.path.insert(0, folder)
    side = PeerSide(prefix, builder)
    first = importlib.import_module(prefix.rstrip(".") or "taming")
    assert first.__file__ is not None
    assert Path(folder) in Path(first.__file__).parents, f"{first.__file__} is not the peer"
    load = torch.load  # the packages were written when a file was allowed to hold any object
    torch.load = lambda *args, **kwargs: load(*args, **{"weights_only": False, **kwargs})
    jobs = {**client_code.JOBS, **peer_timing.JOBS, "write": write, "windows": windows}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            result = jobs[request["job"]](side, load_file(request["given"]), **request["arguments"])
            save_file(
                {k: v.detach().contiguous().clone() for k, v in result.items()}, request["result"]
            )
            answer = {"done": request["job"]}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
