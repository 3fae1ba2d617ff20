"""Checks that a function of a user's own fits the place of a choice: that it takes what the caller of the choice passes.

What is passed is read from the functions of the choice's dict, which all stand in the same place. Imports no jax.
"""

import dataclasses
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from cnnlab.errors import UsageError
from cnnlab.values import ChoiceOf, below_partials

GUIDE = "docs/own.md shows one of each kind."
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclasses.dataclass(frozen=True)
class Passed:
    """What the caller of a choice passes to the chosen function."""

    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    sometimes: frozenset[str]
    """Keywords that are passed to a function that takes them."""
    takes_classes: bool
    """Whether one of the functions is a class, such as a Linen module."""
    example: str
    """The first lines of a function of the dict."""

    def __str__(self) -> str:
        listed = ", ".join([*self.positional, *(f"{name}=…" for name in self.keywords)]) or "nothing"
        return f"{listed} and, if it takes them, {', '.join(sorted(self.sometimes))}" if self.sometimes else listed


def passed_to(choice: ChoiceOf, context: Collection[str]) -> Passed:
    """Returns what the functions of a choice's dict are called with.

    Args:
        choice: the choice; what it names as supplied is passed too.
        context: names of parameters that are filled from elsewhere, such as data_dir.
    """
    found = [
        option for option in choice.options.values() if inspect.isfunction(_inner(option)) or inspect.isclass(_inner(option))
    ]
    signatures = {option: inspect.signature(option).parameters for option in found}
    functions = [option for option in found if inspect.isfunction(_inner(option))]
    # Where one function takes nothing by place, what is positional-only in others is what follows the colon of NAME:ARGUMENT.
    by_place = [[p.name for p in signatures[option].values() if p.kind in _BY_PLACE] for option in functions]
    positional = tuple(min(by_place, key=lambda names: len(list(names)))) if by_place else ()
    required = {
        p.name
        for option, parameters in signatures.items()
        for p in parameters.values()
        if p.default is p.empty
        and (p.kind is p.KEYWORD_ONLY or (p.kind is p.POSITIONAL_OR_KEYWORD and option not in functions))
    }
    # What one of them does not take is passed only to those that take it, such as the columns of an augmentation.
    always = {name for name in required if all(name in parameters for parameters in signatures.values())}
    example = found[0] if found else next(iter(choice.options.values()))
    return Passed(
        positional,
        tuple(sorted((always | choice.supplied) - set(context))),
        frozenset(required - always),
        len(found) > len(functions),
        _first_lines(example),
    )


def require_fit(where: str, function: Callable[..., Any], choice: ChoiceOf, context: Mapping[str, Any]) -> None:
    """Raises UsageError where a function cannot be called as the functions of a choice are.

    Args:
        where: what was given, such as --loss=mine.py:focal; it begins the error.
        function: the function, class or partial of the user's own.
        choice: the choice whose place it takes.
        context: {name: value} of parameters that are filled from elsewhere.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a built-in function does not say what it takes
        return
    passed = passed_to(choice, context)
    own = signature.parameters
    problem = _problem(function, signature, passed, [name for name in own if name in context])
    if problem:
        name = getattr(_inner(function), "__name__", str(function))
        takes = ", ".join(name for name in own if name not in ("parent", "name"))
        raise UsageError(
            f"{where}: {name}({takes}) does not fit: {problem}.\n"
            f"It is called with {passed}. Expected for example: {passed.example}\n{GUIDE}"
        )


def _problem(
    function: Callable[..., Any], signature: inspect.Signature, passed: Passed, from_context: Collection[str]
) -> str | None:
    """Returns what is wrong with a signature, or None."""
    parameters = signature.parameters.values()
    variadic = [str(p) for p in parameters if p.kind in _VARIADIC]
    if variadic:
        return f"no flag can fill {' and '.join(variadic)}; name every parameter"
    if inspect.isclass(_inner(function)) and not passed.takes_classes:
        return "it is a class, and a function is expected"
    colon = [p for p in parameters if p.kind is p.POSITIONAL_ONLY and p.name not in passed.positional]
    places = [object()] * (len(passed.positional) + len(colon) * (not passed.positional))
    keywords = [*passed.keywords, *passed.sometimes.intersection(signature.parameters), *from_context]
    try:
        bound = signature.bind(*places, **dict.fromkeys(keywords))
    except TypeError as error:
        return str(error)
    if inspect.isclass(_inner(function)):
        return None
    hidden = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name not in bound.arguments]
    return f"{' and '.join(hidden)} would be no knob; write *, before the first of them" if hidden else None


def require_named_knobs(function: Callable[..., Any], context: Collection[str]) -> None:
    """Raises UsageError for an experiment's function with parameters that no flag can fill, which would be left out.

    Args:
        function: the function whose keyword-only parameters are the knobs.
        context: names of parameters that are filled from elsewhere.
    """
    if not inspect.isfunction(_inner(function)):
        return
    name = getattr(_inner(function), "__name__", "")
    for p in inspect.signature(function).parameters.values():
        if p.kind in _VARIADIC:
            raise UsageError(
                f"{name}({p}): no flag can fill {p}, so what was meant for it would be left out.\n"
                "Name every knob in the signature, or fill in a recipe with functools.partial, which keeps the recipe's knobs."
            )
        if p.kind is not p.KEYWORD_ONLY and p.name not in context:
            raise UsageError(f"{name}({p.name}): a knob stands after a *, as in def {name}(*, {p.name}=…). Write the * first.")
        if p.default is p.empty and p.name not in context:
            raise UsageError(f"{name}(*, {p.name}): the knob has no default. Write {p.name}=VALUE in the signature.")


def _inner(function: Any) -> Any:
    """Returns the function or class below partials and wrappers such as jax.jit."""
    function = below_partials(function)
    return function if inspect.isclass(function) else inspect.unwrap(function)


def _first_lines(function: Callable[..., Any]) -> str:
    """Returns `def NAME(PARAMETERS)`, or `class NAME(BASE)` with its fields without defaults."""
    inner = _inner(function)
    name = getattr(inner, "__name__", str(inner))
    parameters = [
        p.replace(annotation=p.empty) for p in inspect.signature(inner).parameters.values() if p.name not in ("parent", "name")
    ]
    if inspect.isclass(inner):
        needed = "; ".join(f"{p.name}: …" for p in parameters if p.default is p.empty)
        return f"class {name}({'nn.Module'}): {needed or '…'}"
    short = [
        p.replace(default=getattr(p.default, "__name__", p.default)) if inspect.isfunction(p.default) else p for p in parameters
    ]
    return f"def {name}{inspect.Signature(short)}"
