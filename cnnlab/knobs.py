"""Reads the knobs of a function from its signature and fills them from text. An experiment's keyword arguments *are* its flags.

A keyword-only parameter with a default is a knob; of a dataclass such as a Linen module, a field with a default is. A
parameter without a default is not: the caller of the function supplies it. The caller also supplies those that the annotation
of a choice names (`supplied` in values.py). `Choice[OPTIONS]` takes one function of a dict, whose own knobs then lie below it:
`--model=mlp --model.widths=256,128`; it also takes FILE.py:NAME, a
function of a user's own file. `Choices[OPTIONS]` takes a list of them, and the knobs of each lie below its name:
`--augment=flip,pad_crop --augment.pad_crop.pad=2`. A path may be shortened where it is unique: `--augment.pad`, `--pad`.
A parameter whose name is in the `context`, such as data_dir, is filled from there.

Naming another option of a choice takes that option's own numbers, since each optimiser has a learning rate that suits it.
The choices that the experiment made below its default stay, where the other option has them too: `--optimizer=rmsprop`
keeps a constant schedule. A knob that is given explicitly comes before both.
"""

import dataclasses
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from cnnlab import own
from cnnlab.choices import choose, choose_list, keep_choices, list_label, parameters
from cnnlab.digests import SHORT, json_digest
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.fitting import require_named_knobs
from cnnlab.values import ChoiceOf, below_partials, describe_type, is_readable, metadata, plain, read_value, takes_list

RENAMED = {"images": "draws"}
"""{path of a knob that an older version recorded: its path today}, where a run flag took the name: `predict --images`."""
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
    """A value for a knob that is passed on unread and unchecked, such as a tracer in place of a number.

    In place of a choice it is the function itself, with nothing filled in.
    """

    value: Any


@dataclasses.dataclass(frozen=True)
class Resolved:
    """A function with all its knobs filled in."""

    call: Callable[..., Any]
    knobs: dict[str, Knob]
    function: Callable[..., Any]
    context: Mapping[str, Any]

    def call_with(self, numbers: Mapping[str, Any]) -> Any:
        """Returns what `call` returns with other values for some knobs, {path: value}: tracers, or functions for choices."""
        given = {**self.values, **{path: AsItIs(value) for path, value in numbers.items()}}
        return _fill(self.function, "", given, self.context, {})()

    @property
    def values(self) -> dict[str, Any]:
        """Returns every knob's JSON-like value by path."""
        return {path: knob.value for path, knob in self.knobs.items()}

    @property
    def given(self) -> dict[str, Any]:
        """Returns the values of those knobs that are not as the function has them."""
        return {path: knob.value for path, knob in self.knobs.items() if knob.value != knob.default}

    def path_of(self, name: str) -> str:
        """Returns the path of the knob `name`, a path or a shorter one that is unique; UsageError where there is none."""
        matches = matching(name, self.knobs)
        if len(matches) != 1:
            raise UnknownKnob(name, self.knobs, self.function)
        return matches[0]

    def reread(self, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """Resolves recorded knobs, {path: value}, as this function has them today; UsageError where it no longer takes one."""
        old = {path: RENAMED[path] for path in recorded if path not in self.knobs and RENAMED.get(path) in self.knobs}
        return resolve(self.function, {old.get(path, path): value for path, value in recorded.items()}, self.context).values

    @property
    def digest(self) -> str:
        """Returns eight hex digits that change with any knob's value."""
        return json_digest(self.values)[:SHORT]


def resolve(function: Callable[..., Any], values: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> Resolved:
    """Fills the knobs of `function` from `values`, {path or unique shorter path: text or value}.

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
        matched = {name: matching(name, knobs) for name in given if name not in knobs}
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
        matches = matching(name, knobs)
        if len(matches) > 1:
            raise UsageError(f"--{name} could be {' or '.join('--' + m for m in matches)}. Write the whole name.")
        if not matches and name not in aliases:
            raise UnknownKnob(name, knobs, function)
    return Resolved(call, knobs, function, context or {})


def matching(name: str, paths: Collection[str]) -> list[str]:
    """Returns the paths that `name` can mean: itself; else those that end with it; else those that it shortens in the middle.

    A name shortens a path that has its parts in this order and ends with the last one: `augment.pad` shortens
    `data.augment.pad_crop.pad`.
    """
    if name in paths:
        return [name]
    return [path for path in paths if path.endswith(f".{name}")] or [path for path in paths if _shortens(name, path)]


def _shortens(name: str, path: str) -> bool:
    """Returns whether the parts of a name are some of the path's, in their order, and the last of both is the same."""
    *parts, last = name.split(".")
    *above, end = path.split(".")
    left = iter(above)
    return last == end and all(part in left for part in parts)


def _negated(name: str, value: Any, knobs: Mapping[str, Knob]) -> str | None:
    """Returns the boolean knob that `--noNAME` switches off, as in absl; None for any other name."""
    positive = name.removeprefix("no")
    matches = matching(positive, knobs)
    is_one = positive != name and value == "true" and len(matches) == 1 and not matching(name, knobs)
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
        if choice.is_list:
            for below, (_, chosen) in choose_list(full, choice, default, {}).items():
                yield from _owners(name, chosen, f"{full}.{below}")
        else:
            yield from _owners(name, choose(full, choice, default, {})[1], full)


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
        if choice is not None:
            default = _with_folder(default, context.get(FOLDER))
        raw = given.get(full, default)
        if choice is not None and isinstance(raw, AsItIs):
            bound[name] = raw.value
            continue
        if isinstance(raw, Repeated) and not takes_list(annotation):
            raise UsageError(f"--{full} is given twice: {' and '.join(raw.texts)}. Keep one of them.")
        if choice is not None:
            fill = _fill_list if choice.is_list else _fill_choice
            bound[name] = fill(full, choice, raw, default, given, context, knobs, helps.get(name, ""))
            continue
        value = raw.value if isinstance(raw, AsItIs) else read_value(full, annotation, raw, default)
        knobs[full] = Knob(full, describe_type(annotation), plain(default), plain(value), helps.get(name, ""))
        bound[name] = value
    return functools.partial(function, **bound) if bound else function


def _with_folder(default: Any, folder: Any) -> Any:
    """Returns a choice's default with the absolute paths of the own files that it names."""
    if isinstance(default, tuple):
        return tuple(_with_folder(item, folder) for item in default)
    return own.canonical(default, folder) if isinstance(default, str) else default


def _fill_choice(
    path: str,
    choice: ChoiceOf,
    raw: Any,
    default: Any,
    given: Mapping[str, Any],
    context: Mapping[str, Any],
    knobs: dict[str, Knob],
    help: str,
) -> Callable[..., Any]:
    """Returns the function that `raw` or else the default chooses, its knobs filled in; records it and them in `knobs`."""
    usual, usual_function = choose(path, choice, default, context)
    # Naming what is chosen already leaves the experiment's own defaults below it.
    label, chosen = (usual, usual_function) if raw == usual else choose(path, choice, raw, context)
    if isinstance(raw, str) and raw != usual:
        chosen = keep_choices(chosen, default)
    knobs[path] = Knob(path, f"one of: {', '.join(choice.options)}", usual, label, help, is_choice=True)
    return _fill(chosen, path, given, context, knobs, choice.supplied, is_own=own.is_part(label))


def _fill_list(
    path: str,
    choice: ChoiceOf,
    raw: Any,
    default: Any,
    given: Mapping[str, Any],
    context: Mapping[str, Any],
    knobs: dict[str, Knob],
    help: str,
) -> tuple[Callable[..., Any], ...]:
    """Returns the functions of a list in order, as `_fill_choice` does for one; the knobs of each lie below its own name."""
    usual = choose_list(path, choice, default, context)
    chosen = choose_list(path, choice, raw, context)
    # Naming what the default holds leaves the experiment's own defaults below it, whatever else the list holds.
    is_usual = {name: raw is not default and name in usual and usual[name][0] == one[0] for name, one in chosen.items()}
    named = {name: usual[name] if is_usual[name] else one for name, one in chosen.items()}
    kind = f"list of: {', '.join(choice.options)}, or none"
    default, value = (list_label([label for label, _ in functions.values()]) for functions in (usual, chosen))
    knobs[path] = Knob(path, kind, default, value, help, is_choice=True)
    return tuple(
        _fill(function, f"{path}.{name}", given, context, knobs, choice.supplied, is_own=own.is_part(label))
        for name, (label, function) in named.items()
    )


def merged(common: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Returns both merged; `over` wins, whether a knob is written by its whole path or by a shorter one."""
    replaced = {path for name in over for path in matching(name, common)}
    replaced |= {name for name in common if any(_shortens(name, path) for path in over)}
    return {**{name: value for name, value in common.items() if name not in replaced}, **over}


def argument_help(function: Callable[..., Any]) -> dict[str, str]:
    """Returns {parameter: help} from the `Args:` or `Attributes:` section of the docstring, or of those of a class's bases."""
    inner = below_partials(function)
    described = reversed(inner.__mro__) if isinstance(inner, type) else (inner,)
    return {name: text for each in described for name, text in _own_help(each).items()}


def _own_help(function: Callable[..., Any]) -> dict[str, str]:
    """Returns {parameter: help} from the docstring alone."""
    section = re.search(r"^(?:Args|Attributes):\n(.*?)(?=^\S|\Z)", inspect.getdoc(function) or "", re.DOTALL | re.MULTILINE)
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
