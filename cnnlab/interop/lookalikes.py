"""Compares the function of a loaded network with that of the library, as far as names and shapes do not show it.

Two networks can have the same names and shapes and differ in the place of a stride, the padding, an epsilon, the activation or
the groups of a norm. Every family declares such properties (`scheme.Unseen`). A load then proves the property by what the file
says about itself, or states in one line what cannot be known, or is refused because the file shows another function.
"""

import dataclasses
import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax

from cnnlab import knobs
from cnnlab.errors import CheckpointError, UsageError
from cnnlab.interop.scheme import NOT_HERE, Scheme, Source, Unseen
from cnnlab.models import MODELS
from cnnlab.models.norms import NORMS
from cnnlab.ops.activations import ACTIVATIONS
from cnnlab.values import Choice

TRAINING_ONLY = ("classes", "parent", "name", "initializer", "dropout", "block_dropout", "drop_path", "zero_init")
"""Fields of a network that do not change what it computes outside of training, or that its shapes show."""


def compared(model: nn.Module, scheme: Scheme, source: Source) -> list[str]:
    """Returns one line for each property in which the loaded network differs, or may differ, from that of the file.

    Raises CheckpointError where the file shows another function than that of the model.
    """
    lines = [line for unseen in scheme.unseen for line in _compared(model, scheme.library, unseen, source)]
    lines += [f"{scheme.library}'s networks differ in any case: {scheme.caveat}"] if scheme.caveat else []
    lines += [f"the published weights of {scheme.library} expect {scheme.inputs}"] if scheme.inputs else []
    return lines + list(_own_differences(model, source.knobs))


def _compared(model: nn.Module, library: str, unseen: Unseen, source: Source) -> Iterator[str]:
    """Yields a line where one property differs or cannot be known; nothing where it is proven equal."""
    if not unseen.applies(model):
        return
    here = _value(model, unseen.knob) if unseen.knob else None
    if unseen.knob and here is None:  # a norm without epsilon, or a value that is known inside the compiled step only
        return
    ours = f"--model.{unseen.knob}={_shown(here)}" if unseen.knob else type(model).__name__
    known = [form for form in unseen.forms if source.architecture and re.fullmatch(form.networks, source.architecture)]
    known = known[:1] if len(unseen.forms) > 1 else []
    fitting = [form for form in unseen.forms if form.value == here]
    if known and known[0] not in fitting:
        differs = f"{source.architecture} {known[0].has}, and the network here does not ({ours})"
        text = f"{differs}: {_remedy(model, unseen.knob, known[0].value)}"
        if unseen.changeable:
            yield text
            return
        raise CheckpointError(
            f"these weights fit {type(model).__name__} by names and shapes and compute something else: {differs}.\n"
            f"The network's name is given by {source.given_by}; {_remedy(model, unseen.knob, known[0].value)}."
        )
    if known:
        return
    if not fitting:
        (form, *_) = unseen.forms
        what = form.example or f"{library}'s network of these names"
        if all(each.value == NOT_HERE for each in unseen.forms):
            raise CheckpointError(
                f"these weights fit {type(model).__name__} by names and shapes and compute something else: {what} {form.has}.\n"
                f"{_remedy(model, unseen.knob, NOT_HERE).capitalize()}."
            )
        yield f"{what} {form.has}, and the network here does not ({ours}): {_remedy(model, unseen.knob, form.value)}"
        return
    for other in unseen.forms:
        if other not in fitting and not other.rare:
            yield (
                f"names and shapes do not tell whether it is {fitting[0].example}, which {fitting[0].has}, or "
                f"{other.example}, which {other.has}; you load it as the former ({ours}); if it is the latter, "
                f"{_remedy(model, unseen.knob, other.value)}"
            )


def _remedy(model: nn.Module, knob: str | None, value: Any) -> str:
    """Returns how to get the network that has `value`: the name of a model, or a flag."""
    if value == NOT_HERE or knob is None:
        return "no knob here makes them equal: take other weights, or expect other outputs"
    name = (
        _named(model.clone(**{knob: value}))
        if "." not in knob and not isinstance(getattr(model, knob), functools.partial)
        else ""
    )
    return f"take --model={name}" if name else f"take --model.{knob}={_shown(value)}"


def _named(model: nn.Module) -> str:
    """Returns the name in MODELS of a network; empty where none has exactly its knobs."""
    for name, make in MODELS.items():
        if not isinstance(make, functools.partial) or make.func is not type(model):
            continue
        if not list(_fields_that_differ(make(classes=1), model)):
            return name
    return ""


def _value(model: nn.Module, knob: str) -> Any:
    """Returns the value of a knob of a network, as a number, a tuple or a name; None where it has none that is known now."""
    first, *rest = knob.split(".")
    value = getattr(model, first, None)
    for part in rest:
        if value is None:
            return None
        function: Any = value.func if isinstance(value, functools.partial) else value
        parameters = inspect.signature(function).parameters
        if part not in parameters:
            return None
        given = value.keywords if isinstance(value, functools.partial) else {}
        value = given.get(part, parameters[part].default)
    if isinstance(value, jax.Array):
        return None
    return _name_of(value) if callable(value) else value


def _name_of(function: Any) -> str:
    """Returns the name of an activation or a norm in its dict."""
    function = function.func if isinstance(function, functools.partial) else function
    named = (name for table in (ACTIVATIONS, NORMS) for name, entry in table.items() if _function(entry) is function)
    return next(named, getattr(function, "__name__", str(function)))


def _function(entry: Any) -> Any:
    return entry.func if isinstance(entry, functools.partial) else entry


def _shown(value: Any) -> str:
    """Formats a value as on the command line."""
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _network(*, model: Choice[MODELS] = "lenet5") -> Any:
    """Returns the chosen model, so that knobs.resolve fills the knobs of the network and no others."""
    return model


def _own_differences(model: nn.Module, recorded: Mapping[str, str]) -> Iterator[str]:
    """Yields a line where the network here has other knobs than the one that was trained, without another shape."""
    below = {name: value for name, value in recorded.items() if name.partition(".")[0] == "model"}
    try:
        theirs = knobs.resolve(_network, below).call()(classes=1) if below else None
    except (UsageError, TypeError):  # a network that only its experiment knows
        return
    if type(theirs) is not type(model):
        return
    found = list(_fields_that_differ(theirs, model))
    if found:
        there, here = (", ".join(f"{name}={value[side]}" for name, *value in found) for side in (0, 1))
        yield f"the network that was trained had {there}, and the one here has {here}: the same weights compute something else"


def _fields_that_differ(theirs: nn.Module, ours: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Yields (knob, their value, our value) for the knobs that change the output and differ."""
    for field in dataclasses.fields(ours):
        if field.name in TRAINING_ONLY:
            continue
        values = [_flat(field.name, getattr(network, field.name)) for network in (theirs, ours)]
        for name in sorted(values[0].keys() | values[1].keys()):
            there, here = (value.get(name) for value in values)
            if there != here and name.rpartition(".")[2] != "momentum":
                yield name, _shown(there), _shown(here)


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Returns {knob: value} of a field and of the keyword arguments of the function that it holds."""
    if isinstance(value, jax.Array):
        return {}
    if not callable(value):
        return {name: tuple(value) if isinstance(value, list) else value}
    function, given = (value.func, value.keywords) if isinstance(value, functools.partial) else (value, {})
    below = {name: _name_of(value)}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return below
    for part, parameter in parameters.items():
        if part not in ("train", "name") and parameter.kind is parameter.KEYWORD_ONLY:
            below |= _flat(f"{name}.{part}", given.get(part, parameter.default))
    return below
