"""Words of the published `main.py` -> words of `taming train`, before these are parsed.

    --base A.yaml B.yaml -t True --gpus 0, --max_epochs 5 -n name -s 23 a.b=c
    A.yaml B.yaml trainer.accelerator=gpu trainer.devices=[0] trainer.max_epochs=5 --name name
    seed=23 a.b=c

A pure function. Each old spelling is told once, with the one of today; words of today pass as they
are. Trainer options are translated by the table that also translates old configs.
"""

from collections.abc import Sequence
from pathlib import PurePath
from typing import NamedTuple

COMMAND = "train"
OURS = ("--name", "--resume", "--dry-run", "--help")  # spelt today as they were, or new
SHORT = {
    "-b": "--base",
    "-t": "--train",
    "-n": "--name",
    "-r": "--resume",
    "-p": "--project",
    "-d": "--debug",
    "-s": "--seed",
    "-f": "--postfix",
}
SWITCHES = ("--train", "--no-test", "--debug")  # with a truth value, or alone
OLD = (*SWITCHES, "--base", "--project", "--seed", "--postfix")
TRUE, FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
# Trainer options that meant `true` where nothing followed.
FLAGS = (
    *("fast_dev_run", "benchmark", "deterministic", "sync_batchnorm", "auto_select_gpus"),
    *("auto_lr_find", "auto_scale_batch_size", "terminate_on_nan", "checkpoint_callback"),
    *("replace_sampler_ddp", "prepare_data_per_node", "reload_dataloaders_every_epoch"),
    *("logger", "detect_anomaly"),
)


class Translated(NamedTuple):
    words: list[str]
    notes: list[str]  # one for each old spelling


def modern_words(words: Sequence[str]) -> Translated:
    """The words of any command; those of `train` in the spelling of today."""
    command = next((word for word in words if not word.startswith("-")), None)
    if command != COMMAND:
        return Translated(list(words), [])
    start = list(words).index(COMMAND) + 1
    translation = _Translation(list(words[start:]))
    return Translated([*words[:start], *translation.words()], translation.notes)


class _Translation:
    """One pass over the words behind `train`."""

    def __init__(self, words: list[str]) -> None:
        self.left = words
        self.kept: list[str] = []
        self.notes: list[str] = []
        self.name: str | None = None
        self.postfix = ""
        while self.left:
            self._take()

    def words(self) -> list[str]:
        name = self.name
        if name is None and self.postfix:
            files = (word for word in self.kept if "=" not in word and not word.startswith("-"))
            name = PurePath(next(files, "run")).stem
        if name is not None:
            self.kept += ["--name", name + self.postfix]
        return self.kept

    def _take(self) -> None:
        word = self.left.pop(0)
        if not word.startswith("-") or word in ("-", "--"):
            self.kept.append(word)
            return
        option, equals, text = word.partition("=")
        if not option.startswith("--") and option[:2] in SHORT and not equals:
            option, text = option[:2], option[2:]  # also -s23
            equals = text
        spelt, option = option, SHORT.get(option, option)
        value = text if equals else None
        if option in SWITCHES:
            self._switch(spelt, option, value)
        elif option in ("--name", "--resume"):
            self._own(spelt, option, value)
        elif option in OLD:
            self._old(spelt, option, value)
        elif option in OURS or not option.startswith("--"):
            self.kept.append(word)
        else:
            self._trainer(option, value)

    def _next(self) -> str | None:
        """The value of an option, if the next word can be one."""
        if self.left and (not self.left[0].startswith("-") or _is_number(self.left[0])):
            return self.left.pop(0)
        return None

    def _tell(self, old: str, new: str) -> None:
        self.notes.append(f"{old} is now: {new}")

    def _switch(self, spelt: str, option: str, value: str | None) -> None:
        if value is None and self.left and self.left[0].lower() in TRUE + FALSE:
            value = self.left.pop(0)
        if value is not None and value.lower() not in TRUE + FALSE:
            raise ValueError(f"{spelt} {value}: give true or false")
        is_on = value is None or value.lower() in TRUE
        told = spelt if value is None else f"{spelt} {value}"
        if option == "--train" and not is_on:
            self.kept.append("--dry-run")
            self._tell(told, "--dry-run")
        elif option == "--train":
            self._tell(told, "nothing to say, taming train trains")
        elif option == "--debug":
            self._tell(told, "TAMING_TRACEBACK=1 in the environment")
        else:
            self._tell(told, "nothing to say, training ends without a test")

    def _own(self, spelt: str, option: str, value: str | None) -> None:
        is_old = spelt != option
        value = self._next() if value is None else value
        if value is None and not is_old:
            self.kept.append(option)  # whose value is missing, as the parser will say
        elif value is None:
            self._tell(spelt, f"nothing to say; {option} takes a value")
        elif option == "--name":
            self.name = value
        else:
            self.kept += [option, value]
        if is_old and value is not None:
            self._tell(f"{spelt} {value}", f"{option} {value}")

    def _old(self, spelt: str, option: str, value: str | None) -> None:
        if option == "--base":
            if value is not None:
                self.left.insert(0, value)
            self._tell(spelt, "the YAML files alone")
            return
        value = self._next() if value is None else value
        if value is None:
            raise ValueError(f"{spelt} is given without a value")
        if option == "--seed":
            self.kept.append(f"seed={value}")
            self._tell(f"{spelt} {value}", f"seed={value}")
        elif option == "--postfix":
            self.postfix = value
            self._tell(f"{spelt} {value}", f"{value} at the end of --name")
        else:
            self._tell(f"{spelt} {value}", "nothing to say; it never did anything")

    def _trainer(self, option: str, value: str | None) -> None:
        from taming.config import nearest
        from taming.training.old_trainer import modern_option, option_names, words_of

        key = option.removeprefix("--")
        if key not in option_names():
            known = [*OURS, *OLD, *(f"--{name}" for name in option_names())]
            raise ValueError(f"unknown option '{option}'; {nearest(option, known)}")
        if value is None and key in FLAGS:
            is_config = bool(self.left) and ("=" in self.left[0] or "." in self.left[0])
            value = (None if is_config else self._next()) or "true"
        value = self._next() if value is None else value
        if value is None:
            raise ValueError(f"{option} is given without a value")
        modern = modern_option(key, value)
        self.kept += words_of(modern.settings)
        self._tell(f"{option} {value}", str(modern))


def _is_number(text: str) -> bool:
    try:
        float(text.strip(","))
    except ValueError:
        return False
    return True
