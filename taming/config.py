"""From YAML to objects: load, override, check, build.

A section `{target: package.module.Name, params: {...}}` describes one object; a frozen dataclass
describes the options of one part. Whatever is misspelt is an error that names the nearest known
word, because a silently ignored key costs a training run. Knows nothing of what it builds.

A configuration may come from a stranger together with weights. A target is only followed into
packages on a short list, and only to classes that belong to its section: a model is made of layers,
losses and schedules, whose making touches nothing outside of them.
"""

import dataclasses
import difflib
import importlib
import inspect
import logging
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from taming import _old_paths

logger = logging.getLogger(__name__)

LIGHTNING = tuple(f"pytorch_lightning.{part}." for part in ("callbacks", "loggers", "profilers"))
PREFIXES = ("taming.", "torch.nn.", *LIGHTNING)  # of paths
# Where classes live: those of a model, and all
PARTS = ("cond_stage", "first_stage", "transformer", "training.schedules")
MODELS = (*(f"taming.{part}." for part in PARTS), "torch.nn.modules.")
TRAININGS = (*MODELS, "taming.data.", "taming.training.", *LIGHTNING)
PREFIXES_VARIABLE = "TAMING_TARGETS"  # "mine.,lab.models." adds packages of one's own
RATES = (
    "learning_rate",
    "base_learning_rate",
)  # of a model, beside its target; training reads them

T = TypeVar("T")

_is_trusted: ContextVar[bool] = ContextVar("a program builds its own config", default=False)


class ConfigError(ValueError):
    """A configuration that cannot mean what its author wants; says where, what, and the remedy."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause for an error message: the known word closest to `name`, or the whole short list."""
    words = sorted(str(word) for word in known)
    if not words:
        return "nothing is accepted here"
    close = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    listed = ", ".join(words[:20]) + (", ..." if len(words) > 20 else "")
    return f"known are: {listed}"


def load_config(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    overrides: Iterable[str] = (),
) -> DictConfig:
    """Merges YAML files in order, then dotted overrides such as `model.params.n_embed=4096`.

    Overrides may add keys: whether a key exists is known to whoever builds the section, and
    `from_mapping` and `instantiate_from_config` refuse strangers there.
    """
    files = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    config = OmegaConf.create({})
    for file in map(Path, files):
        config = OmegaConf.merge(config, _read_yaml(file))
    assert isinstance(config, DictConfig)
    for override in overrides:
        _apply_override(config, override)
    return config


def _read_yaml(path: Path) -> DictConfig:
    if not path.is_file():
        siblings = [p.name for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        hint = nearest(path.name, siblings) if siblings else f"no YAML files in {path.parent}"
        raise ConfigError(f"configuration {path} does not exist; {hint}")
    try:
        loaded = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} is not readable as YAML: {error}") from error
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path} holds a list; a configuration is a mapping of sections")
    return loaded


def _apply_override(config: DictConfig, override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise ConfigError(f"override '{override}' is not of the form section.key=value")
    try:
        value = OmegaConf.from_dotlist([f"value={text}"])["value"]
        OmegaConf.update(config, key, value, merge=True, force_add=True)
    except (OmegaConfBaseException, yaml.YAMLError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"override '{override}' cannot be applied: {reason}") from error


def plain(config: Any) -> Any:
    """The same content as ordinary dicts and lists, interpolations resolved."""
    if OmegaConf.is_config(config):
        try:
            return OmegaConf.to_container(config, resolve=True)
        except OmegaConfBaseException as error:
            raise ConfigError(f"configuration cannot be resolved: {error}") from error
    return config


def to_yaml(config: Any) -> str:
    """YAML text of a config, a mapping or a dataclass; `load_config` reads it back unchanged."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        config = dataclasses.asdict(config)
    return yaml.safe_dump(_listed(plain(config)), sort_keys=False, allow_unicode=True, width=100)


def _listed(value: Any) -> Any:
    """Tuples as lists and paths as text: safe YAML has neither."""
    if isinstance(value, Mapping):
        return {key: _listed(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_listed(entry) for entry in value]
    return str(value) if isinstance(value, os.PathLike) else value


# --- targets -------------------------------------------------------------------------------------


def own_prefixes() -> tuple[str, ...]:
    """Packages that the user trusts."""
    own = os.environ.get(PREFIXES_VARIABLE, "").split(",")
    return tuple(prefix.strip() for prefix in own if prefix.strip())


def get_obj_from_str(path: str) -> Any:
    """The class or function that `package.module.Name` names; ConfigError with the nearest name.

    Paths of CompVis taming-transformers, `main.Name` included, mean what lives elsewhere now.
    """
    return _find(path, TRAININGS)


def get_model_class(path: str) -> Any:
    """The same, of what a model is made of; within `instantiate_trusted` from any package."""
    return _find(path, None if _is_trusted.get() else MODELS)


def get_trusted(path: str, reload: bool = False) -> Any:
    """The same from any package, for a program that names what it knows; the published form.

    Never for a path out of a file that somebody else wrote. `reload` imports the module anew.
    """
    if reload:
        importlib.reload(importlib.import_module(_translated(path).rpartition(".")[0]))
    return _find(path, None)


def _find(path: str, homes: tuple[str, ...] | None) -> Any:
    """`homes` are where something may live, beside the user's own packages; None: anywhere."""
    if not isinstance(path, str) or "." not in path:
        raise ConfigError(f"target {path!r} is not of the form package.module.Name")
    path = _translated(path)
    prefixes = (*PREFIXES, *own_prefixes())
    if homes is not None and not path.startswith(prefixes):
        raise ConfigError(
            f"target '{path}' is outside the packages a configuration may name "
            f"({', '.join(prefixes)}); to trust your own package, set {PREFIXES_VARIABLE}="
            f"{path.split('.')[0]}."
        )
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Only the path itself may be misspelt; a missing third package is a different story.
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        hint = nearest(error.name.rpartition(".")[2], _submodules(error.name.rpartition(".")[0]))
        raise ConfigError(f"target '{path}': there is no module '{error.name}'; {hint}") from error
    found = getattr(module, name, None)
    if found is None:
        public = (n for n, v in vars(module).items() if inspect.isclass(v) and n[0] != "_")
        raise ConfigError(f"target '{path}': no '{name}' in {module_name}; {nearest(name, public)}")
    if homes is not None:
        _check_origin(path, found, homes)
    return found


def _translated(path: str) -> str:
    """An old path as the new one, without importing what else may go by the old name."""
    try:
        return _old_paths.new_target(path) or path
    except KeyError:
        module, _, name = path.rpartition(".")
        hint = nearest(name, _old_paths.OLD_PATHS[module])
        raise ConfigError(f"target '{path}': no '{name}' in {module}; {hint}") from None


def _submodules(package_name: str) -> list[str]:
    package = importlib.import_module(package_name) if package_name else None
    folders = getattr(package, "__path__", [])
    files = [p for folder in folders for p in Path(folder).glob("[!_.]*") if p.suffix != ".pyi"]
    return [p.stem for p in files] + _old_paths.submodules(package_name)


def _check_origin(path: str, found: Any, homes: tuple[str, ...]) -> None:
    """Refuses what a module merely imports, library functions, and classes of other sections.

    Many classes of large libraries act when they are made: they open files, or start processes.
    """
    home = f"{getattr(found, '__module__', None) or ''}."
    own = ("taming.", *own_prefixes())
    is_one = inspect.isclass(found) or (inspect.isfunction(found) and home.startswith(own))
    if not is_one or not home.startswith((*homes, *own_prefixes())):
        raise ConfigError(f"target '{path}' is not a class that a configuration may build here")


def instantiate_from_config(config: Any, **extra: Any) -> Any:
    """Builds `{target, params}`; `extra` are arguments that only the caller can give.

    Parameters arrive as plain dicts and lists. An unknown or missing one is a ConfigError.
    """
    return _build(config, extra, get_obj_from_str)


def instantiate_model(config: Any, **extra: Any) -> Any:
    """The same for a model or a part of one, whose config may be a stranger's."""
    return _build(config, extra, get_model_class)


def trusting() -> bool:
    """Whether what is built now may name any package: for what builds more of it later."""
    return _is_trusted.get()


def instantiate_trusted(config: Any, **extra: Any) -> Any:
    """The same from any package, for a program's own config; what the original's function did.

    Sections within sections too. Never for a file that somebody else wrote: it could name whatever
    runs a command.
    """
    token = _is_trusted.set(True)
    try:
        return _build(config, extra, get_trusted)
    finally:
        _is_trusted.reset(token)


def _build(config: Any, extra: Mapping[str, Any], find: Callable[[str], Any]) -> Any:
    config = plain(config)
    if not isinstance(config, Mapping) or "target" not in config:
        keys = sorted(config) if isinstance(config, Mapping) else repr(config)
        raise ConfigError(f"expected a section with 'target' and 'params', found {keys}")
    target = config["target"]
    for key in config:
        if key not in ("target", "params", *RATES):
            raise ConfigError(
                f"unknown key '{key}' beside target '{target}'; its arguments go under 'params'"
            )
    params = config.get("params") or {}
    if not isinstance(params, Mapping):
        raise ConfigError(f"params of '{target}' must be a mapping, not {params!r}")
    build = find(target)
    if inspect.isfunction(build) and build.__module__.startswith("taming."):
        # Ours write files, download, and trust their caller: nothing a file should start
        raise ConfigError(f"target '{target}' is a function; a configuration builds classes")
    arguments = {**params, **extra}
    check_arguments(build, arguments, where=f"params of {target}")
    return build(**arguments)


def check_arguments(build: Callable[..., Any], arguments: Mapping[str, Any], where: str) -> None:
    """ConfigError if `build(**arguments)` would meet an unknown or lack a required argument."""
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):  # built in C, without a signature: the call itself will judge
        logger.debug("%s has no signature to check", where)
        return
    kinds = inspect.Parameter
    named = {
        name: p
        for name, p in parameters.items()
        if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    }
    if not any(p.kind is kinds.VAR_KEYWORD for p in parameters.values()):
        for key in arguments:
            if key not in named:
                raise ConfigError(f"{where}: unknown key '{key}'; {nearest(str(key), named)}")
    missing = [n for n, p in named.items() if p.default is kinds.empty and n not in arguments]
    if missing:
        raise ConfigError(f"{where}: missing {', '.join(repr(name) for name in missing)}")


# --- dataclasses ---------------------------------------------------------------------------------


def from_mapping(cls: type[T], mapping: Any, where: str = "") -> T:
    """A (frozen) dataclass from a mapping; `where` is the section's name in error messages.

    Lists become tuples where the field is a tuple; nested sections become nested dataclasses.
    """
    assert dataclasses.is_dataclass(cls)
    mapping = plain(mapping) or {}
    where = where or cls.__name__
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{where}: expected a mapping, found {mapping!r}")
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        if key not in fields:
            raise ConfigError(f"{where}: unknown key '{key}'; {nearest(str(key), fields)}")
        values[key] = _convert(value, hints[key], f"{where}.{key}")
    none = dataclasses.MISSING
    for name, field in fields.items():
        if name not in values and field.default is none and field.default_factory is none:
            raise ConfigError(f"{where}: missing '{name}'")
    try:
        return typing.cast(T, cls(**values))
    except ConfigError:
        raise
    except ValueError as error:  # a dataclass may check itself in __post_init__
        raise ConfigError(f"{where}: {error}") from error


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint` asks for, or a ConfigError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}: {value!r}; {nearest(str(value), map(str, arguments))}")
        return value
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return value if isinstance(value, hint) else from_mapping(hint, value, where)
    kind = origin or hint
    if kind in (tuple, list, Sequence):
        return _convert_sequence(value, kind, arguments, where)
    if kind in (dict, Mapping) and isinstance(value, Mapping):
        inner = arguments[1] if arguments else Any
        return {key: _convert(entry, inner, f"{where}.{key}") for key, entry in value.items()}
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(kind, type):
        return value
    if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {kind.__name__}, found {value!r}")
    return value


def _convert_union(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    real = [choice for choice in choices if choice is not type(None)]
    exact = [choice for choice in real if type(value) is choice]  # 1 stays int in `int | float`
    error: ConfigError | None = None
    for choice in exact + real:
        try:
            return _convert(value, choice, where)
        except ConfigError as failed:
            error = error or failed
    assert error is not None
    raise error


def _convert_sequence(value: Any, kind: Any, inner: tuple[Any, ...], where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: expected a list, found {value!r}")
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        if len(value) != len(inner):
            raise ConfigError(f"{where}: expected {len(inner)} values, found {list(value)!r}")
        hints: Sequence[Any] = inner
    else:
        hints = [inner[0] if inner else Any] * len(value)
    entries = [
        _convert(entry, hint, f"{where}[{i}]")
        for i, (entry, hint) in enumerate(zip(value, hints, strict=True))
    ]
    return entries if kind is list else tuple(entries)
