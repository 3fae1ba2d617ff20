"""From a traced program to what its marked arrays see of the image, in one pass over the equations; nothing is computed.

A primitive without a rule makes unknown what depends on the image through it: no number is better than a wrong one. All taps
of a convolution's kernel count, also where a mask has made them zero.
"""

import enum
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from cnnlab.inspect.receptive_field import rules, views
from cnnlab.inspect.receptive_field.views import UNKNOWN, View

PREFIX = "cnnlab.inspect/"


class Origin(enum.IntEnum):
    """Where an array comes from that does not depend on the image; of an array computed from several, the highest."""

    PLAIN = 0
    """A constant without zeros."""
    MASK = 1
    """Positions, or a constant with zeros: a sum weighted by it may leave positions out."""
    WEIGHTS = 2
    """Parameters, and whatever is drawn."""


Pair = tuple[View | None, View | None]
"""What an array sees of the image's height and of its width; None: it does not depend on the image."""

Seen = Pair | Origin | np.ndarray
"""Of an array in the program; an array stands for itself, a constant."""

LOST: Pair = (UNKNOWN, UNKNOWN)
NOTHING: Pair = (None, None)


def mark(array: jax.Array, place: int) -> None:
    """Leaves a mark in the program that is being traced; nothing needs to use it."""
    checkpoint_name(array, f"{PREFIX}{place}")


def walk(program: ClosedJaxpr, image: tuple[int, int]) -> dict[int, Pair]:
    """What the marked arrays see; the last argument of the program is images [B, H, W, C], the others are weights."""
    found: dict[int, Pair] = {}
    given: list[Seen] = [Origin.WEIGHTS] * (len(program.jaxpr.invars) - 1)
    _run(program, [*given, (views.pixels(1), views.pixels(2))], image, found)
    return found


def _run(program: ClosedJaxpr, given: Iterable[Seen], image: tuple[int, int], found: dict[int, Pair]) -> list[Seen]:
    """What the results of a program see; the marks that it meets go to `found`."""
    jaxpr = program.jaxpr
    known: dict[Any, Seen] = dict(zip(jaxpr.invars, given, strict=True))
    known |= {var: _constant(value) for var, value in zip(jaxpr.constvars, program.consts, strict=True)}

    def read(atom: Any) -> Seen:
        return np.asarray(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        results = _results(equation, [read(atom) for atom in equation.invars], image, found)
        if equation.primitive.name == "name" and equation.params["name"].startswith(PREFIX):
            seen = results[0]
            found.setdefault(int(equation.params["name"].removeprefix(PREFIX)), seen if isinstance(seen, tuple) else NOTHING)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(value: Any) -> Seen:
    is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended)
    return Origin.WEIGHTS if is_key else np.asarray(value)


def _origin(seen: Seen) -> Origin:
    if isinstance(seen, np.ndarray):
        return Origin.MASK if seen.ndim and not seen.all() else Origin.PLAIN
    return seen if isinstance(seen, Origin) else Origin.WEIGHTS


CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2", "custom_jvp_call", "custom_vjp_call"}
"""Equations that stand for a program of their own with the same arguments and results."""


def _results(equation: Any, operands: list[Seen], image: tuple[int, int], found: dict[int, Pair]) -> list[Seen]:
    """What the results of one equation see."""
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        inner = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
        return _run(_closed(inner), operands, image, found)
    if not any(isinstance(seen, tuple) for seen in operands):
        own = Origin.WEIGHTS if name.startswith("random_") else Origin.MASK if name == "iota" else Origin.PLAIN
        return [max([own, *map(_origin, operands)])] * len(equation.outvars)
    if name == "cond":
        return _branches(equation, operands, image, found)
    if name == "scan":
        return _loop(equation, operands, image, found)
    height, width = (_views(equation, operands, which, size) for which, size in enumerate(image))
    return list(zip(height, width, strict=True))


def _closed(inner: ClosedJaxpr | Jaxpr) -> ClosedJaxpr:
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def _views(equation: Any, operands: list[Seen], which: int, size: int) -> list[View | None]:
    """What the results of one equation see of one axis of the image, by the primitive's rule."""
    step = rules.Step(
        params=equation.params,
        shapes=[atom.aval.shape for atom in equation.invars],
        result=equation.outvars[0].aval.shape,
        sees=[seen[which] if isinstance(seen, tuple) else None for seen in operands],
        size=size,
        values=[seen if isinstance(seen, np.ndarray) else None for seen in operands],
        masks=[not isinstance(seen, tuple) and _origin(seen) is Origin.MASK for seen in operands],
    )
    view = rules.RULES.get(equation.primitive.name, rules.unknown)(step)
    return view if isinstance(view, list) else [view] * len(equation.outvars)


def _branches(equation: Any, operands: list[Seen], image: tuple[int, int], found: dict[int, Pair]) -> list[Seen]:
    """Of `cond`: what any of its branches sees, and the choice between them."""
    choice, *rest = operands
    outcomes = [_run(branch, rest, image, found) for branch in equation.params["branches"]]
    results: list[Seen] = []
    for var, *several in zip(equation.outvars, *outcomes, strict=True):
        pairs = [seen if isinstance(seen, tuple) else NOTHING for seen in (choice, *several)]
        height, width = (rules.union([pair[which] for pair in pairs], var.aval.shape, image[which]) for which in (0, 1))
        results.append((height, width))
    return results


def _loop(equation: Any, operands: list[Seen], image: tuple[int, int], found: dict[int, Pair]) -> list[Seen]:
    """Of `scan`: known where a turn sees what the turn before it saw, and no axis of the image is cut into turns."""
    start, stop = equation.params["num_consts"], equation.params["num_consts"] + equation.params["num_carry"]
    before, marks = operands[start:stop], dict[int, Pair]()
    turns = [_inside(seen) for seen in operands[stop:]]
    after = _run(equation.params["jaxpr"], [*operands[:stop], *turns], image, marks)
    same = all(_pair(one) == _pair(other) for one, other in zip(before, after, strict=False))
    for place, pair in marks.items():
        found.setdefault(place, pair if same else LOST)
    if not same:
        return [LOST] * len(after)
    return [*after[: len(before)], *(_outside(seen) for seen in after[len(before) :])]


def _pair(seen: Seen) -> Pair:
    return seen if isinstance(seen, tuple) else NOTHING


def _inside(seen: Seen) -> Seen:
    """One turn's part of an array, whose first axis are the turns."""
    height, width = (UNKNOWN if views.touches(view, 0) else views.moved(view, -1) for view in _pair(seen))
    return (height, width) if isinstance(seen, tuple) else _origin(seen)


def _outside(seen: Seen) -> Seen:
    """The stack of all turns' results."""
    height, width = (views.moved(view, 1) for view in _pair(seen))
    return (height, width) if isinstance(seen, tuple) else _origin(seen)
