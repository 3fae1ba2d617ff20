"""Derives the views of marked arrays from a traced program, in one pass over its equations; nothing is computed.

The result of a primitive without a rule has an unknown view: no number is better than a wrong one. All taps of a convolution's
kernel count, also where a mask has set them to zero.
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
    """The origin of an array that does not depend on the image; an array computed from several has the highest of theirs."""

    PLAIN = 0
    """A constant without zeros."""
    MASK = 1
    """Positions, or a constant with zeros: a sum that is weighted by it may leave positions out."""
    WEIGHTS = 2
    """Parameters and random numbers."""


Pair = tuple[View | None, View | None]
"""The views of an array along the image's height and along its width; None: it does not depend on the image."""

Traced = Pair | Origin | np.ndarray
"""What is known of an array of the program: its views, its origin, or its value if it is a constant."""

LOST: Pair = (UNKNOWN, UNKNOWN)
NOTHING: Pair = (None, None)


def mark(array: jax.Array, place: int) -> None:
    """Marks an array in the program that is being traced, so that `walk` returns its views under `place`."""
    checkpoint_name(array, f"{PREFIX}{place}")


def walk(program: ClosedJaxpr, image: tuple[int, int]) -> dict[int, Pair]:
    """Returns the views of the marked arrays, by their marks.

    Args:
        program: the traced network; its last argument is images [B, H, W, C], the others are weights.
        image: (H, W).
    """
    found: dict[int, Pair] = {}
    given: list[Traced] = [Origin.WEIGHTS] * (len(program.jaxpr.invars) - 1)
    _run(program, [*given, (views.pixels(1), views.pixels(2))], image, found)
    return found


def _run(program: ClosedJaxpr, given: Iterable[Traced], image: tuple[int, int], found: dict[int, Pair]) -> list[Traced]:
    """Returns what is known of the results of a program, from what is `given` of its arguments; adds marks to `found`."""
    jaxpr = program.jaxpr
    known: dict[Any, Traced] = dict(zip(jaxpr.invars, given, strict=True))
    known |= {var: _constant(value) for var, value in zip(jaxpr.constvars, program.consts, strict=True)}

    def read(atom: Any) -> Traced:
        return np.asarray(atom.val) if isinstance(atom, Literal) else known[atom]

    for equation in jaxpr.eqns:
        # Equations are in order of dependence, so that one pass knows every operand before it is read.
        results = _results(equation, [read(atom) for atom in equation.invars], image, found)
        if equation.primitive.name == "name" and equation.params["name"].startswith(PREFIX):
            traced = results[0]
            found.setdefault(
                int(equation.params["name"].removeprefix(PREFIX)), traced if isinstance(traced, tuple) else NOTHING
            )
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _constant(value: Any) -> Traced:
    """Returns a constant of the program as NumPy array; a PRNG key, which NumPy cannot hold, counts as weights."""
    is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended)
    return Origin.WEIGHTS if is_key else np.asarray(value)


def _origin(traced: Traced) -> Origin:
    """Returns the origin of an array; a constant array with a zero is a mask, and what depends on the image no mask."""
    if isinstance(traced, np.ndarray):
        return Origin.MASK if traced.ndim and not traced.all() else Origin.PLAIN
    return traced if isinstance(traced, Origin) else Origin.WEIGHTS


CALLS = {"jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2", "custom_jvp_call", "custom_vjp_call"}
"""Primitives that call an inner program with the same arguments and results."""


def _results(equation: Any, operands: list[Traced], image: tuple[int, int], found: dict[int, Pair]) -> list[Traced]:
    """Returns what is known of the results of one equation."""
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        inner = next(params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params)
        return _run(_closed(inner), operands, image, found)
    # Without the image among the operands only the origin is followed; it decides how a later weighted sum is read.
    if not any(isinstance(traced, tuple) for traced in operands):
        own = Origin.WEIGHTS if name.startswith("random_") else Origin.MASK if name == "iota" else Origin.PLAIN
        return [max([own, *map(_origin, operands)])] * len(equation.outvars)
    if name == "cond":
        return _branches(equation, operands, image, found)
    if name == "scan":
        return _loop(equation, operands, image, found)
    height, width = (_views(equation, operands, which, size) for which, size in enumerate(image))
    return list(zip(height, width, strict=True))


def _closed(inner: ClosedJaxpr | Jaxpr) -> ClosedJaxpr:
    """Returns an inner program with its constants; one without is closed over none."""
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def _views(equation: Any, operands: list[Traced], which: int, size: int) -> list[View | None]:
    """Returns the views of an equation's results along one axis of the image, by the primitive's rule.

    Args:
        which: 0 for the height, 1 for the width.
        size: pixels of the image along that axis.
    """
    step = rules.Step(
        params=equation.params,
        shapes=[atom.aval.shape for atom in equation.invars],
        result=equation.outvars[0].aval.shape,
        operands=[traced[which] if isinstance(traced, tuple) else None for traced in operands],
        size=size,
        values=[traced if isinstance(traced, np.ndarray) else None for traced in operands],
        masks=[not isinstance(traced, tuple) and _origin(traced) is Origin.MASK for traced in operands],
    )
    view = rules.RULES.get(equation.primitive.name, rules.unknown)(step)
    return view if isinstance(view, list) else [view] * len(equation.outvars)


def _branches(equation: Any, operands: list[Traced], image: tuple[int, int], found: dict[int, Pair]) -> list[Traced]:
    """Returns the views of the results of `cond`: the union over its branches and over the condition."""
    choice, *rest = operands
    outcomes = [_run(branch, rest, image, found) for branch in equation.params["branches"]]
    results: list[Traced] = []
    for var, *several in zip(equation.outvars, *outcomes, strict=True):
        pairs = [traced if isinstance(traced, tuple) else NOTHING for traced in (choice, *several)]
        height, width = (rules.union([pair[which] for pair in pairs], var.aval.shape, image[which]) for which in (0, 1))
        results.append((height, width))
    return results


def _loop(equation: Any, operands: list[Traced], image: tuple[int, int], found: dict[int, Pair]) -> list[Traced]:
    """Returns the views of the results of `scan`, by running its body once.

    They are known if an iteration leaves the views of the carry unchanged, since then all iterations have the same views, and
    if the scan does not iterate over an axis of the image.
    """
    start, stop = equation.params["num_consts"], equation.params["num_consts"] + equation.params["num_carry"]
    before, marks = operands[start:stop], dict[int, Pair]()
    turns = [_inside(traced) for traced in operands[stop:]]
    after = _run(equation.params["jaxpr"], [*operands[:stop], *turns], image, marks)
    same = all(_pair(one) == _pair(other) for one, other in zip(before, after, strict=False))
    for place, pair in marks.items():
        found.setdefault(place, pair if same else LOST)
    if not same:
        return [LOST] * len(after)
    return [*after[: len(before)], *(_outside(traced) for traced in after[len(before) :])]


def _pair(traced: Traced) -> Pair:
    """Returns the views of an array; none if it does not depend on the image."""
    return traced if isinstance(traced, tuple) else NOTHING


def _inside(traced: Traced) -> Traced:
    """Returns what one iteration gets of an array [iterations, …]."""
    height, width = (UNKNOWN if views.touches(view, 0) else views.moved(view, -1) for view in _pair(traced))
    return (height, width) if isinstance(traced, tuple) else _origin(traced)


def _outside(traced: Traced) -> Traced:
    """Returns what is known of the results of all iterations, stacked along a new first axis."""
    height, width = (views.moved(view, 1) for view in _pair(traced))
    return (height, width) if isinstance(traced, tuple) else _origin(traced)
