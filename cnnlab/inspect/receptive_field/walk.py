"""Derives the views of marked arrays from a traced program, in one pass over its equations; nothing is computed.

The result of a primitive without a rule has an unknown view: no number is better than a wrong one. All taps of a convolution's
kernel count, also where a mask has set them to zero.
"""

import enum
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Literal

from cnnlab.inspect.receptive_field import rules, views
from cnnlab.inspect.receptive_field.views import UNKNOWN, View
from cnnlab.ops.programs import CALLS, inner_program

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
        program: the traced network; its last argument is images [B, H, W, C], or characters [B, T], the others are weights.
        image: (H, W), or (T, 1).
    """
    found: dict[int, Pair] = {}
    given: list[Traced] = [Origin.WEIGHTS] * (len(program.jaxpr.invars) - 1)
    has_width = program.jaxpr.invars[-1].aval.ndim > 2
    _run(program, [*given, (views.pixels(1), views.pixels(2) if has_width else views.Fixed(views.WHOLE))], image, found)
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


def _results(equation: Any, operands: list[Traced], image: tuple[int, int], found: dict[int, Pair]) -> list[Traced]:
    """Returns what is known of the results of one equation."""
    name, params = equation.primitive.name, equation.params
    if name in CALLS:
        return _run(inner_program(params), operands, image, found)
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
    """Returns the views of the results of `scan`, by running its body until the views of the carry stay as they are.

    Along an axis of the image that the scan iterates over, views are those of turn 0, and move with each turn. Where a carry
    sees more with every turn, its view reaches back without end, as if the image continued beyond its border. Nothing is known
    where views go on to change otherwise, or where an operand that moves with the turns meets one that stays.
    """
    consts, carries = equation.params["num_consts"], equation.params["num_carry"]
    length, is_reversed = equation.params["length"], equation.params["reverse"]
    stacked = operands[consts + carries :]
    steps = [_step_of_turns([_pair(traced)[which] for traced in stacked]) for which in (0, 1)]
    back = [(step if is_reversed else -step) for step in steps]  # pixels from a turn to the one before it
    fixed = [_mapped(traced, _still, steps) for traced in operands[: consts + carries]]
    turns = [_inside(traced, steps) for traced in stacked]
    before: list[Traced] = [traced if isinstance(traced, tuple) else _origin(traced) for traced in fixed[consts:]]
    carry = before
    for turn in range(2 * MOST_TURNS):
        marks = dict[int, Pair]()
        after = _run(equation.params["jaxpr"], [*fixed[:consts], *carry, *turns], image, marks)
        seen = [_reaching(traced, back) if turn >= MOST_TURNS else traced for traced in after[:carries]]
        again = [
            _joined(first, _moved(now, back), atom.aval.shape, image)
            for first, now, atom in zip(before, seen, equation.invars[consts:], strict=False)
        ]
        if list(map(_pair, again)) == list(map(_pair, carry)):
            break
        carry = again
    else:
        found.update({place: found.get(place, LOST) for place in marks})
        return [LOST] * len(after)
    found.update({place: found.get(place, LOST if any(steps) else pair) for place, pair in marks.items()})
    last = 0 if is_reversed else length - 1
    ends = [_moved(traced, [step * last for step in steps]) for traced in seen]
    return [*(_cut_off(traced, image) for traced in ends), *(_outside(traced, steps) for traced in after[carries:])]


MOST_TURNS = 4
"""Turns for which views of a carry may change, as those of a delay do, before they count as growing without end."""


def _step_of_turns(given: list[View | None]) -> int:
    """Returns by how many pixels the views of stacked operands move from turn to turn; 0 if none does, or not all alike."""
    grids = [view for view in given if views.touches(view, 0)]
    steps = {view.step for view in grids if isinstance(view, views.Grid) and len(view.windows) == 1}
    return steps.pop() if len(steps) == 1 else 0


def _pair(traced: Traced) -> Pair:
    """Returns the views of an array; none if it does not depend on the image."""
    return traced if isinstance(traced, tuple) else NOTHING


def _mapped(traced: Traced, change: Callable[[View | None, int], View | None], by: Sequence[int]) -> Traced:
    """Returns what is known after `change(view, by)` along each axis of the image."""
    if not isinstance(traced, tuple):
        return traced
    height, width = (change(view, each) for view, each in zip(traced, by, strict=True))
    return height, width


def _still(view: View | None, step: int) -> View | None:
    """Returns a view that stays while others move by a step with every turn: unknown where it shows a part of the image."""
    return UNKNOWN if step and view not in (None, views.Fixed(views.WHOLE)) else view


def _inside(traced: Traced, steps: Sequence[int]) -> Traced:
    """Returns what turn 0 gets of an array [turns, …]."""

    def first(view: View | None, step: int) -> View | None:
        if isinstance(view, views.Grid) and view.axis == 0:
            return views.Fixed(view.at(0)) if (len(view.windows), view.step) == (1, step) else UNKNOWN
        return UNKNOWN if views.touches(view, 0) else views.moved(_still(view, step), -1)

    return _mapped(traced if isinstance(traced, tuple) else _origin(traced), first, steps)


def _reaching(traced: Traced, back: Sequence[int]) -> Traced:
    """Returns what a carry has seen after any number of turns, from what a turn adds to it."""

    def widened(view: View | None, step: int) -> View | None:
        if not step or not isinstance(view, views.Fixed) or view.window is None:
            return view
        low, high = view.window
        return views.Fixed((-math.inf, high) if step < 0 else (low, math.inf))

    return _mapped(traced, widened, back)


def _moved(traced: Traced, pixels: Sequence[int]) -> Traced:
    """Returns what is known of an array whose windows, all the same, moved by a number of pixels."""

    def change(view: View | None, by: int) -> View | None:
        if not by or not isinstance(view, views.Fixed) or view.window is None:
            return view
        return views.Fixed((view.window[0] + by, view.window[1] + by))

    return _mapped(traced, change, pixels)


def _joined(first: Traced, second: Traced, shape: tuple[int, ...], image: tuple[int, int]) -> Traced:
    """Returns what is known of an array of `shape` that is one of two arrays."""
    if not isinstance(first, tuple) and not isinstance(second, tuple):
        return max(_origin(first), _origin(second))
    pairs = (_pair(first), _pair(second))
    height, width = (rules.union([pair[which] for pair in pairs], shape, image[which]) for which in (0, 1))
    return height, width


def _cut_off(traced: Traced, image: tuple[int, int]) -> Traced:
    """Returns what is known of an array, where a window of all pixels is the whole image."""

    def change(view: View | None, size: int) -> View | None:
        return views.Fixed(views.extent(view, 1, size)) if isinstance(view, views.Fixed) else view

    return _mapped(traced, change, image)


def _outside(traced: Traced, steps: Sequence[int]) -> Traced:
    """Returns what is known of the results of all turns, stacked along a new first axis."""

    def all_turns(view: View | None, step: int) -> View | None:
        if not step or view in (None, views.Fixed(views.WHOLE)):
            return views.moved(view, 1)
        return views.Grid(0, (view.window,), step) if isinstance(view, views.Fixed) else UNKNOWN

    return _mapped(traced if isinstance(traced, tuple) else _origin(traced), all_turns, steps)
