"""Reads a choice: the function that a text names, from the dict of the choice or from a user's own file. Imports no jax."""

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cnnlab import own
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.fitting import require_fit
from cnnlab.text import split_items
from cnnlab.values import ChoiceOf, below_partials, metadata, read_value


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Returns (name, annotation, default or Parameter.empty) of the parameters that knobs can fill, in order of definition."""
    inner = below_partials(function)
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


def choose(path: str, choice: ChoiceOf, raw: Any, context: Mapping[str, Any]) -> tuple[str, Callable[..., Any]]:
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
    partials = {name: option for name, option in choice.options.items() if isinstance(option, functools.partial)}
    if extended := {name: len(option.keywords) for name, option in partials.items() if _extends(raw, option)}:
        return max(extended, key=extended.__getitem__), raw
    raise UsageError(f"--{path}={raw!r}: not one of the functions {', '.join(choice.options)}.")


def _extends(raw: Any, option: functools.partial[Any]) -> bool:
    """Returns whether a function is a partial of an option that is a partial itself: Python makes one partial of the two."""
    if not isinstance(raw, functools.partial) or raw.func is not option.func or raw.args != option.args:
        return False
    return all(name in raw.keywords and raw.keywords[name] == value for name, value in option.keywords.items())


def choose_list(path: str, choice: ChoiceOf, raw: Any, context: Mapping[str, Any]) -> dict[str, tuple[str, Callable[..., Any]]]:
    """Returns {name below the knob: (printable name, function)} of a list, in its order.

    The name of a user's own function is the one that its file gives it.

    Args:
        path: path of the knob.
        choice: the choice of each.
        raw: names joined by commas, `none` for an empty list; or one function, or a sequence of names and functions.
        context: {name: value} of parameters that are filled from elsewhere.

    Raises UsageError for an unknown name, and for one that is given twice.
    """
    if isinstance(raw, str):
        raw = [] if raw.strip().lower() in ("", "none") else split_items(raw, ",")
    found: dict[str, tuple[str, Callable[..., Any]]] = {}
    for item in raw if isinstance(raw, Sequence) else [raw]:
        label, function = choose(path, choice, item, context)
        part = own.split_part(label)
        name = part[1] if part else label.partition(":")[0]
        if name in found:
            one, other = found[name][0], label
            text = f"{one} stands there twice" if one == other else f"{one} and {other} have one name, by which their knobs go"
            raise UsageError(
                f"--{path}={list_label([*(label for label, _ in found.values()), other])}: {text}.\nKeep one of them."
            )
        found[name] = (label, function)
    return found


def list_label(labels: Sequence[str]) -> str:
    """Returns the text of a list of names, which gives that list again: `flip,pad_crop`; `none` for an empty one."""
    return ",".join(f'"{label}"' if "," in label else label for label in labels) or "none"


def keep_choices(option: Callable[..., Any], default: Any) -> Callable[..., Any]:
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
