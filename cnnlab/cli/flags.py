"""Makes the run flags of a verb from its signature, and the call from the words of a command. Imports no jax.

A verb is a function. Its keyword-only parameters are its run flags; one that is annotated with a dataclass stands for the
fields of that dataclass. A positional-only parameter takes the experiment's knobs, {name: text}, and `*folders` the words
that are no flags. The flags are defined with absl, in FlagValues of their own for every call.
"""

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from cnnlab import home, knobs
from cnnlab.choices import parameters
from cnnlab.cli import flag_files
from cnnlab.cli.groups import Console
from cnnlab.errors import UsageError
from cnnlab.files import expand_home
from cnnlab.text import split_items
from cnnlab.values import Entries, describe_type, read_value, takes_list

Verb = Callable[..., int]
WIDTH = 118
"""Columns of the help."""


@dataclasses.dataclass(frozen=True)
class RunFlag:
    """One run flag of a verb."""

    name: str
    annotation: Any
    default: Any
    help: str
    parameter: str
    """The verb's parameter that it fills."""
    group: type | None
    """The dataclass of which it is a field; None: it is the parameter itself."""

    @property
    def is_switch(self) -> bool:
        """Whether it may be given without a value, and be switched off by --noNAME."""
        return self.annotation in (bool, bool | None)

    @property
    def takes_list(self) -> bool:
        """Whether it may be given several times."""
        return takes_list(self.annotation)

    def read(self, text: Any) -> Any:
        """Returns its value from text; raises UsageError with what was expected."""
        if not isinstance(text, str):
            return text
        if self.annotation is Entries:
            return (text,)
        if self.annotation == tuple[str, ...]:
            return tuple(split_items(text, ","))  # at commas alone: a launcher's options may hold spaces
        return read_value(self.name, self.annotation, text, self.default)


@dataclasses.dataclass(frozen=True)
class Call:
    """The words of a command as arguments of its verb."""

    verb: Verb
    folders: tuple[str, ...]
    values: dict[str, str]
    """Words that are no flags of the verb: knobs."""
    arguments: dict[str, Any]

    @property
    def console(self) -> Console:
        """What is shown."""
        return self.arguments.get("console", Console())

    def run(self) -> int:
        """Calls the verb; returns its exit code."""
        first = (self.values,) if takes_knobs(self.verb) else ()
        return self.verb(*first, *self.folders, **self.arguments)


def takes_knobs(verb: Verb) -> bool:
    """Returns whether an experiment's knobs may be among the words."""
    return any(p.kind is p.POSITIONAL_ONLY for p in inspect.signature(verb).parameters.values())


def takes_folders(verb: Verb) -> bool:
    """Returns whether words that are no flags may follow the verb."""
    return any(p.kind is p.VAR_POSITIONAL for p in inspect.signature(verb).parameters.values())


def flags_of(verb: Verb) -> dict[str, RunFlag]:
    """Returns {name: flag} of a verb, its own flags before those of its groups."""
    hints = typing.get_type_hints(verb, include_extras=True)
    helps = knobs.argument_help(verb)
    own: dict[str, RunFlag] = {}
    grouped: dict[str, RunFlag] = {}
    for parameter in inspect.signature(verb).parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            continue
        annotation = hints[parameter.name]
        if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
            texts = knobs.argument_help(annotation)
            for name, kind, default in parameters(annotation):
                grouped[name] = RunFlag(name, kind, default, texts[name], parameter.name, annotation)
        else:
            name = parameter.name.rstrip("_")  # `class_` is the flag --class
            own[name] = RunFlag(name, annotation, parameter.default, helps[parameter.name], parameter.name, None)
    return own | grouped


class _Parser(flags.ArgumentParser):
    """absl's view of what a flag takes."""

    def __init__(self, flag: RunFlag) -> None:
        self._flag = flag
        self.syntactic_help = describe(flag)

    def parse(self, argument: Any) -> Any:
        return self._flag.read(argument)


class _Flag(flags.Flag):
    """A flag that is given once, or a list to which every occurrence adds."""

    def __init__(self, flag: RunFlag) -> None:
        self._flag, self._given = flag, ""
        super().__init__(
            _Parser(flag),
            None,
            flag.name,
            flag.default,
            flag.help,
            short_name="h" if flag.name == "help" else None,
            boolean=flag.is_switch,
        )

    def parse(self, argument: Any) -> None:
        if self.present and not self._flag.takes_list:
            raise UsageError(f"--{self.name} is given twice: {self._given} and {argument}. Keep one of them.")
        value: Any = self._flag.read(argument)
        self.value = (*(self.value or ()), *value) if self._flag.takes_list and self.present else value
        self._given, self.present = argument, self.present + 1


def parse(verb: Verb, words: Sequence[str]) -> Call:
    """Reads the words that follow a verb. Raises UsageError for a value that its flag does not take."""
    known = flags_of(verb)
    values = flags.FlagValues()
    for flag in known.values():
        values[flag.name] = _Flag(flag)
    try:
        rest = values([home.COMMAND, *flag_files.expand(words)], known_only=True)[1:]
    except (flags.Error, ValueError) as error:
        raise UsageError(f"{error}\n`{home.COMMAND} VERB --help` lists the flags of a verb.") from None
    words, given = _split(rest)
    folders = tuple(str(expand_home(word)) if word.startswith("~") else word for word in words)
    arguments: dict[str, Any] = {}
    for flag in known.values():
        place = arguments.setdefault(flag.parameter, {}) if flag.group else arguments
        place[flag.name if flag.group else flag.parameter] = values[flag.name].value
    groups = {flag.parameter: flag.group for flag in known.values() if flag.group}
    arguments |= {name: group(**arguments[name]) for name, group in groups.items()}
    return Call(verb, folders, given, arguments)


def _split(rest: Sequence[str]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Splits what absl left into (words that are no flags, {name: text}); a name that is given twice holds both texts."""
    folders: list[str] = []
    given: dict[str, list[str]] = {}
    left = list(rest)
    while left:
        word = left.pop(0)
        if not word.startswith("--") or word == "--":
            folders.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        if not equals:
            value = left.pop(0) if left and not left[0].startswith("--") else "true"
        given.setdefault(name, []).append(value)
    return tuple(folders), {name: texts[0] if len(texts) == 1 else knobs.Repeated(*texts) for name, texts in given.items()}


def describe(flag: RunFlag) -> str:
    """Returns what a flag takes, in words; empty where its name is enough."""
    if flag.is_switch or flag.annotation in (str, str | None):
        return ""
    if flag.annotation is Entries:
        return "give the flag once for each"
    kind = describe_type(flag.annotation).removesuffix(" or none").replace("finite and ", "")
    kind = kind.replace("int", "whole number").replace("float", "number").removeprefix("duration ")
    return "comma-separated" if flag.takes_list else kind


def help_of(name: str, verb: Verb) -> str:
    """Returns the help of a verb: what it does, and its flags by group."""
    known = flags_of(verb)
    words = f"{' [FOLDER …]' if takes_folders(verb) else ''}{' [--knob=value …]' if takes_knobs(verb) else ''}"
    text = (inspect.getdoc(verb) or "").partition("\nArgs:")[0].strip()
    lines = [f"{home.COMMAND} {name}{words} [flags]", "", text]
    titles: Mapping[type | None, str] = {None: f"Flags of {name}."} | {
        flag.group: (inspect.getdoc(flag.group) or "").partition("\n")[0] for flag in known.values() if flag.group
    }
    width = max(len(_left(flag)) for flag in known.values()) + 2
    for group in sorted(titles, key=lambda one: one is Console):
        members = [flag for flag in known.values() if flag.group is group]
        lines += ["", titles[group].rstrip(".")] if members else []
        for flag in members:
            about = "; ".join(part for part in (flag.help.rstrip("."), describe(flag)) if part)
            about = about.replace(">= ", ">=\N{NO-BREAK SPACE}").replace(
                "> ", ">\N{NO-BREAK SPACE}"
            )  # keeps bounds on one line
            wrapped = textwrap.wrap(about, WIDTH - width, break_on_hyphens=False)
            first, *more = (line.replace("\N{NO-BREAK SPACE}", " ") for line in wrapped)
            lines += [_left(flag).ljust(width) + first, *(" " * width + line for line in more)]
    return "\n".join(lines)


def _left(flag: RunFlag) -> str:
    """Returns `--name=default`, or the name alone where there is no default to show."""
    shown = "" if flag.default is None or flag.default is False or flag.default == () else f"={flag.default}"
    return f"  --{flag.name}{shown}{', -h' if flag.name == 'help' else ''}"
