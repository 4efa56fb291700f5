"""First stages on the Hugging Face hub: `save_pretrained`, `from_pretrained`, `push_to_hub`.

    model.push_to_hub("owner/name")
    model = VQModel.from_pretrained("owner/name")

The methods, their options and the files, config.json and model.safetensors, are named as those of
`huggingface_hub.PyTorchModelHubMixin`. It is not inherited from, because it would be imported for
every use of a model, and because its `__new__` hides the signature that configurations are checked
against. config.json holds what the section `model` of a config.yaml does: `taming.load` opens such
a folder, and `from_pretrained` whatever holds a first stage and is opened by `taming.load`.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from taming.checkpoint import LOSS_KEYS, atomic_write, load_weights, read_first_stage, save_weights
from taming.config import ConfigError, get_model_class, instantiate_model, plain
from taming.finding import HUB_CONFIG, HUB_WEIGHTS, find, first_stage_section, for_inference

M = TypeVar("M", bound="HubMixin")

CARD = """---
library_name: taming
---

```python
from {module} import {name}

model = {name}.from_pretrained("{where}")
```
"""


class HubMixin(nn.Module):
    """A module that remembers what it was built from, and can be saved and sent by it."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _remembering(cls.__init__)

    @property
    def section(self) -> dict[str, Any]:
        """`{target, params}` that builds this model anew, without losses and weights."""
        kind = type(self)
        target = f"{kind.__module__}.{kind.__qualname__}"
        return for_inference({"target": target, "params": self.__dict__["_built_from"]})

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        repo_id: str | None = None,  # to push to; the folder's name without it
        push_to_hub: bool = False,
        **options: Any,  # of push_to_hub
    ) -> str | None:
        """Writes config.json and model.safetensors, and a README.md where there is none."""
        folder = Path(save_directory)
        config = json.dumps({"model": self.section}, indent=2, default=os.fspath)
        state = {k: v for k, v in self.state_dict().items() if not LOSS_KEYS.search(k)}
        save_weights(folder / HUB_WEIGHTS, state, {"format": "pt"})
        with atomic_write(folder / HUB_CONFIG) as partial:
            partial.write_text(config, encoding="utf-8")
        card = folder / "README.md"
        if not card.exists():
            kind, where = type(self), repo_id or folder.name
            text = CARD.format(module=kind.__module__, name=kind.__qualname__, where=where)
            card.write_text(text, encoding="utf-8")
        return self.push_to_hub(repo_id or folder.name, **options) if push_to_hub else None

    @classmethod
    def from_pretrained(
        cls: type[M],
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        **params: Any,  # instead of those that were saved, such as lossconfig
    ) -> M:
        """The model of a hub id, a folder, a file or "bundled", in evaluation mode.

        Of a second stage it is the first stage within.

        CheckpointError if there is none, or if its weights do not fit.
        """
        found = find(
            pretrained_model_name_or_path,
            force_download=force_download,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            revision=revision,
        )
        section = first_stage_section(found.config)
        kind = get_model_class(section["target"])
        if not (inspect.isclass(kind) and issubclass(kind, cls)):
            raise ConfigError(
                f"{found.config} describes a {section['target']}, which is no {cls.__name__}; "
                "taming.load opens models of any kind"
            )
        section["params"] |= params
        model = instantiate_model(section)
        load_weights(model, read_first_stage(found.weights), source=str(found.weights))
        return model.eval()

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str = "Model of taming",
        private: bool | None = None,
        token: str | None = None,
        branch: str | None = None,
        create_pr: bool | None = None,
        **patterns: Any,  # allow_patterns, ignore_patterns, delete_patterns
    ) -> str:
        """Uploads what `save_pretrained` writes, in one commit; returns its address."""
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        repo_id = api.create_repo(repo_id=repo_id, private=private, exist_ok=True).repo_id
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, repo_id=repo_id)
            return api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                commit_message=commit_message,
                revision=branch,
                create_pr=create_pr,
                **patterns,
            )


def _remembering(build: Callable[..., None]) -> Callable[..., None]:
    """An `__init__` that keeps its arguments, by name; the outermost class's are the model's."""
    signature = inspect.signature(build)

    @functools.wraps(build)
    def remember(self: HubMixin, *args: Any, **kwargs: Any) -> None:
        if "_built_from" not in self.__dict__:
            given = signature.bind(self, *args, **kwargs).arguments
            _, *named = given.items()
            params: dict[str, Any] = {}
            for name, value in named:
                is_rest = signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
                params |= value if is_rest else {name: value}
            self.__dict__["_built_from"] = deepcopy({k: plain(v) for k, v in params.items()})
        build(self, *args, **kwargs)

    return remember
