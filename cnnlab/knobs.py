"""Reads the knobs of a function from its signature and fills them from text. An experiment's keyword arguments *are* its flags.

A keyword-only parameter with a default is a knob; of a dataclass such as a Linen module, a field with a default is. A
parameter without a default is not: the caller of the function supplies it. The caller also supplies those that the annotation
of a choice names (`supplied` in values.py). `Choice[OPTIONS]` takes one function of a dict, whose own knobs then lie below it:
`--model=mlp --model.widths=256,128`; it also takes FILE.py:NAME, a
function of a user's own file. A parameter whose name is in the `context`, such as data_dir, is filled from there.

Naming another option of a choice takes that option's own numbers, since each optimiser has a learning rate that suits it.
The choices that the experiment made below its default stay, where the other option has them too: `--optimizer=rmsprop`
keeps a constant schedule. A knob that is given explicitly comes before both.
"""

import dataclasses
import functools
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from cnnlab import own
from cnnlab.digests import SHORT, json_digest
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.fitting import require_fit, require_named_knobs
from cnnlab.values import ChoiceOf, describe_type, is_readable, metadata, plain, read_value, takes_list

FOLDER = "the folder of the experiment's file"
"""Key of the context, which is no parameter's name: from there count the paths FILE.py:NAME among the experiment's defaults."""


@dataclasses.dataclass(frozen=True)
class Knob:
    """One resolved knob: its path, what it takes, its default and its value."""

    path: str
    kind: str
    """A description of what it takes: `int`, `float > 0`, `one of: a, b`."""
    default: Any
    value: Any
    """The value as JSON holds it: a number, text, None or a list; a choice by its name."""
    help: str
    is_choice: bool = False
    """Whether other knobs lie below it."""


class UnknownKnob(UsageError):
    """The error for a name that is no knob; it holds the `name` and the `paths` of the knobs that there are."""

    def __init__(self, name: str, knobs: Mapping[str, Knob], function: Callable[..., Any]) -> None:
        super().__init__(_unknown(name, knobs, function))
        self.name, self.paths = name, tuple(knobs)


class Repeated(str):
    """The text of a knob that was given several times: the texts joined by commas, for a knob that takes a list."""

    texts: tuple[str, ...]

    def __new__(cls, *texts: str) -> "Repeated":
        """Joins the texts."""
        made = super().__new__(cls, ",".join(texts))
        made.texts = texts
        return made


@dataclasses.dataclass(frozen=True)
class AsItIs:
    """A value for a knob that is passed on unread and unchecked, such as a tracer in place of a number."""

    value: Any


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A function with all its knobs filled in."""

    call: Callable[..., Any]
    knobs: dict[str, Knob]
    function: Callable[..., Any]
    context: Mapping[str, Any]

    def call_with(self, numbers: Mapping[str, Any]) -> Any:
        """Returns what `call` returns with other values for some knobs, {path: value}, which may be tracers."""
        given = {**self.values, **{path: AsItIs(value) for path, value in numbers.items()}}
        return _fill(self.function, "", given, self.context, {})()

    @property
    def values(self) -> dict[str, Any]:
        """Returns every knob's JSON-like value by path."""
        return {path: knob.value for path, knob in self.knobs.items()}

    def path_of(self, name: str) -> str:
        """Returns the path of the knob `name`, a path or a unique last part of one; UsageError where there is none."""
        matches = [name] if name in self.knobs else _ending_in(name, self.knobs)
        if len(matches) != 1:
            raise UnknownKnob(name, self.knobs, self.function)
        return matches[0]

    def reread(self, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """Resolves recorded knobs, {path: value}, as this function has them today; UsageError where it no longer takes one."""
        return resolve(self.function, recorded, self.context).values

    @property
    def digest(self) -> str:
        """Returns eight hex digits that change with any knob's value."""
        return json_digest(self.values)[:SHORT]


def resolve(function: Callable[..., Any], values: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> Resolved:
    """Fills the knobs of `function` from `values`, {path or unique last name: text or value}.

    Raises UsageError for an unknown or ambiguous name, and for a value of the wrong type or out of its range.
    """
    require_named_knobs(function, context or {})
    given = dict(values)
    aliases: dict[str, str] = {}
    # Each pass fills what is known; a choice that is found by its last name adds the knobs below it to the next pass.
    while True:
        knobs: dict[str, Knob] = {}
        call = _fill(function, "", given, context or {}, knobs)
        negated = {name: path for name in given if name not in knobs and (path := _negated(name, given[name], knobs))}
        for name, path in negated.items():
            del given[name]
            given[path] = "false"
        if negated:
            continue
        matched = {name: _ending_in(name, knobs) for name in given if name not in knobs}
        new = {name: paths[0] for name, paths in matched.items() if len(paths) == 1}
        # Choices first: what they choose decides which names there are below.
        new = {name: path for name, path in new.items() if knobs[path].is_choice} or new
        if not new:
            break
        for name, path in new.items():
            if path in given:
                raise UsageError(f"--{name} and --{path} are one knob, given twice. Keep one of them.")
            given[path] = given.pop(name)
        aliases |= new
    for name in [*aliases, *(n for n in given if n not in knobs)]:
        matches = _ending_in(name, knobs)
        if len(matches) > 1:
            raise UsageError(f"--{name} could be {' or '.join('--' + m for m in matches)}. Write the whole name.")
        if not matches and name not in aliases:
            raise UnknownKnob(name, knobs, function)
    return Resolved(call, knobs, function, context or {})


def _ending_in(name: str, knobs: Iterable[str]) -> list[str]:
    return [path for path in knobs if path.endswith(f".{name}")]


def _negated(name: str, value: Any, knobs: Mapping[str, Knob]) -> str | None:
    """Returns the boolean knob that `--noNAME` switches off, as in absl; None for any other name."""
    positive = name.removeprefix("no")
    matches = [positive] if positive in knobs else _ending_in(positive, knobs)
    is_one = positive != name and value == "true" and len(matches) == 1 and not _ending_in(name, knobs)
    return matches[0] if is_one and knobs[matches[0]].kind == "bool" else None


def closest(name: str, paths: Iterable[str]) -> str:
    """Returns ` Did you mean --PATH?` for the path whose whole name or last part is nearest, or an empty string."""
    by_name = {path.rsplit(".", 1)[-1]: path for path in paths} | {path: path for path in paths}
    guess = did_you_mean(name, list(by_name)).removeprefix(" Did you mean ").removesuffix("?")
    return f" Did you mean --{by_name[guess]}?" if guess else ""


def _owners(name: str, function: Callable[..., Any], path: str = "") -> Iterator[str]:
    """Yields `PATH=OPTION` for every choice, at any depth, and each of its options whose function takes `name`."""
    for parameter, annotation, default in parameters(function):
        if (choice := metadata(annotation, ChoiceOf)) is None or default is inspect.Parameter.empty:
            continue
        full = f"{path}.{parameter}" if path else parameter
        yield from (
            f"{full}={option}" for option, chosen in choice.options.items() if name in [own for own, _, _ in parameters(chosen)]
        )
        yield from _owners(name, _choose(full, choice, default, {})[1], full)


def _unknown(name: str, knobs: Mapping[str, Knob], function: Callable[..., Any]) -> str:
    owners = list(_owners(name.rpartition(".")[2], function))
    guess = closest(name, knobs)
    if owners:
        more = f", or with {len(owners) - 3} others" if len(owners) > 3 else ""
        guess = f" It is one with {', '.join(f'--{owner}' for owner in owners[:3])}{more}."
    listing = textwrap.fill(", ".join(knobs), 110, initial_indent="  ", subsequent_indent="  ")
    return f"no knob --{name} here.{guess}\nKnobs (--help shows what they take):\n{listing}"


def _fill(
    function: Callable[..., Any],
    path: str,
    given: Mapping[str, Any],
    context: Mapping[str, Any],
    knobs: dict[str, Knob],
    supplied: frozenset[str] = frozenset(),
    *,
    is_own: bool = False,
) -> Callable[..., Any]:
    """Binds the knobs of one function and, below its choices, of the chosen ones; records them in `knobs`.

    Parameters in `supplied` are left to the caller; those of a user's own part (`is_own`) that no text can give keep their
    defaults; TypeError where a `functools.partial` sets one of them.
    """
    if isinstance(function, functools.partial) and (both := supplied & set(function.keywords)):
        raise TypeError(f"{path} sets {', '.join(sorted(both))}, which the recipe supplies. Leave it out of the partial.")
    bound: dict[str, Any] = {}
    helps = argument_help(function)
    for name, annotation, default in parameters(function):
        if name in context:
            bound[name] = context[name]
            continue
        if default is inspect.Parameter.empty or name in supplied:
            continue
        full = f"{path}.{name}" if path else name
        choice = metadata(annotation, ChoiceOf)
        if is_own and choice is None and not is_readable(annotation):
            continue  # such as a Linen module's dtype: Any, which keeps its default
        if choice is not None and isinstance(default, str):
            default = own.canonical(default, context.get(FOLDER))
        raw = given.get(full, default)
        if isinstance(raw, Repeated) and not takes_list(annotation):
            raise UsageError(f"--{full} is given twice: {' and '.join(raw.texts)}. Keep one of them.")
        if choice is not None:
            usual, usual_function = _choose(full, choice, default, context)
            # Naming what is chosen already leaves the experiment's own defaults below it.
            label, chosen = (usual, usual_function) if raw == usual else _choose(full, choice, raw, context)
            if isinstance(raw, str) and raw != usual:
                chosen = _keep_choices(chosen, default)
            kind, value, default = f"one of: {', '.join(choice.options)}", label, usual
        else:
            chosen = raw.value if isinstance(raw, AsItIs) else read_value(full, annotation, raw, default)
            kind, value, default = describe_type(annotation), plain(chosen), plain(default)
        knobs[full] = Knob(full, kind, default, value, helps.get(name, ""), is_choice=choice is not None)
        if choice is not None:
            chosen = _fill(chosen, full, given, context, knobs, choice.supplied, is_own=own.is_part(label))
        bound[name] = chosen
    return functools.partial(function, **bound) if bound else function


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Returns (name, annotation, default or Parameter.empty) of the parameters that knobs can fill, in order of definition."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if inspect.isclass(inner) and dataclasses.is_dataclass(inner):
        hints = _hints(inner)
        wanted = {f.name for f in dataclasses.fields(inner) if f.init} - {"parent", "name"}
    elif inspect.isfunction(unwrapped := inspect.unwrap(inner)):  # of a function under jax.jit
        hints = _hints(unwrapped)
        wanted = {p.name for p in inspect.signature(inner).parameters.values() if p.kind is p.KEYWORD_ONLY}
    else:  # built-in functions: nothing to set
        return []
    signature = inspect.signature(function)
    return [
        (p.name, hints.get(p.name, _type_of(p.default)), p.default) for p in signature.parameters.values() if p.name in wanted
    ]


def _hints(function: Any) -> dict[str, Any]:
    """Returns {parameter: annotation}; raises UsageError where one names something that is not defined."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise UsageError(f"{function.__module__}.{function.__name__}: an annotation cannot be read: {error}.") from None


def _type_of(default: Any) -> type:
    """Returns the type that a parameter without an annotation takes: that of its default, where a text can give it."""
    return type(default) if isinstance(default, bool | int | float) else str if default is None else type(default)


def _choose(path: str, choice: ChoiceOf, raw: Any, context: Mapping[str, Any]) -> tuple[str, Callable[..., Any]]:
    """Returns (printable name, function) for `name`, `name:argument`, FILE.py:NAME, a function of the dict, or its partial."""
    if isinstance(raw, str):
        name, colon, argument = raw.partition(":")
        if name not in choice.options and own.is_part(raw):
            label, function, given = own.load_part(raw, where=f"--{path}={raw}")
            require_fit(f"--{path}={raw}", function, choice, context)
            return label, _with_argument(path, raw, function, _read_argument(path, function, given) if given else given)
        if name not in choice.options:
            guess = did_you_mean(name, list(choice.options))
            raise UsageError(
                f"--{path}={raw}: unknown.{guess} It takes one of: {', '.join(choice.options)}.\n"
                "A function of your own is FILE.py:NAME (docs/own.md)."
            )
        argument = _read_argument(path, choice.options[name], argument) if argument else argument
        label = f"{name}:{argument}" if argument else raw
        return label, _with_argument(path, raw, choice.options[name], argument if colon else None)
    for name, option in choice.options.items():
        if raw is option or (isinstance(raw, functools.partial) and not raw.args and raw.func is option):
            return name, raw
    raise UsageError(f"--{path}={raw!r}: not one of the functions {', '.join(choice.options)}.")


def _keep_choices(option: Callable[..., Any], default: Any) -> Callable[..., Any]:
    """Returns the option with the choices that the replaced default, a partial, sets and that the option leaves open.

    A choice carries over only where both take it from the same dict, as optimisers take their schedules.
    """
    if not isinstance(default, functools.partial):
        return option
    dicts = {name: choice.options for name, annotation, _ in parameters(default) if (choice := metadata(annotation, ChoiceOf))}
    own = option.keywords if isinstance(option, functools.partial) else {}
    kept = {
        name: default.keywords[name]
        for name, annotation, _ in parameters(option)
        if name in default.keywords
        and name not in own
        and (choice := metadata(annotation, ChoiceOf)) is not None
        and choice.options is dicts.get(name)
    }
    return functools.partial(option, **kept) if kept else option


def _argument_of(option: Callable[..., Any]) -> inspect.Parameter | None:
    """Returns the positional-only parameter of an option, which takes the text after a colon; None where it has none."""
    signature = inspect.signature(option).parameters.values() if inspect.isfunction(option) else []
    return next((parameter for parameter in signature if parameter.kind is parameter.POSITIONAL_ONLY), None)


def _read_argument(path: str, option: Callable[..., Any], argument: str) -> str:
    """Returns the text after the colon as the option takes it: a path becomes absolute, any other text stays as it is."""
    parameter = _argument_of(option)
    if parameter is None:
        return argument
    annotation = typing.get_type_hints(option, include_extras=True).get(parameter.name, str)
    return str(read_value(path, annotation, argument, argument))


def _with_argument(path: str, raw: str, option: Callable[..., Any], argument: str | None) -> Callable[..., Any]:
    """Binds the text after the colon in `tfds:mnist` to the option's positional-only parameter, where it has one."""
    parameter = _argument_of(option)
    takes = parameter.name.upper() if parameter else None
    if takes is None and argument is None:
        return option
    if takes is None:
        raise UsageError(f"--{path}={raw}: {raw.partition(':')[0]} takes nothing after a colon.")
    if not argument:
        raise UsageError(f"--{path}={raw}: say which, as in --{path}={raw.rstrip(':')}:{takes}.")
    return functools.partial(option, argument)


def merged(common: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns both merged; `over` wins, whether a knob is written by its last name or by its whole path."""

    def is_one(name: str, other: str) -> bool:
        return name == other or name.endswith(f".{other}") or other.endswith(f".{name}")

    return {**{name: value for name, value in common.items() if not any(is_one(name, other) for other in over)}, **over}


def argument_help(function: Callable[..., Any]) -> dict[str, str]:
    """Returns {parameter: help} from the `Args:` or `Attributes:` section of the docstring."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    section = re.search(r"^(?:Args|Attributes):\n(.*?)(?=^\S|\Z)", inspect.getdoc(inner) or "", re.DOTALL | re.MULTILINE)
    if not section:
        return {}
    entries = re.findall(r"^ {4}(\w+)(?: \([^)]*\))?: (.*?)(?=^ {4}\w|\Z)", section[1], re.DOTALL | re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def as_text(resolved: Resolved) -> str:
    """Lists the knobs, grouped below their choices, each with its value, what it takes and its help."""
    lines = []
    for knob in resolved.knobs.values():
        value = ",".join(map(str, knob.value)) if isinstance(knob.value, list) else "none" if knob.value is None else knob.value
        indent = "  " * (1 + knob.path.count("."))
        changed = "" if knob.value == knob.default else f"default {knob.default}"
        text = "; ".join(part for part in (knob.help.rstrip("."), knob.kind, changed) if part)
        lines += [
            f"{indent}--{knob.path}={value}",
            *textwrap.wrap(text, 108, initial_indent=indent + "    ", subsequent_indent=indent + "    "),
        ]
    return "\n".join(lines)
