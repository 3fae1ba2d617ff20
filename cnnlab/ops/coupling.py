"""Derives from a traced network which numbers of its parameters belong to the same channel; nothing is computed.

Every position of every axis of a parameter starts with a label of its own. A product ties the labels of the axes that it sums
over, an addition those of the terms, a depth-wise convolution its inputs with its outputs, a flattened image every pixel of a
channel. In the end, positions with the same label can be taken away only together (Fang, Ma, Song, Mi and Wang 2023, DepGraph:
Towards any structural pruning, arXiv 2301.12900, who follow layers; here the equations of the program are followed).
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from cnnlab.ops.programs import CALLS, inner_program

Axes = tuple[np.ndarray | None, ...]
"""Labels i64 [n] of the positions of each axis of an array; None: no channel is followed along this axis."""
Traced = Axes | np.ndarray
"""What is known of an array of the program: its labels, or its value where it is a constant."""

FREE = -1
"""The label of positions that are 0 by construction, as those of a shortcut that is padded: they tie nothing."""


class Labels:
    """Labels of positions, which of them are tied to each other, and which belong to channels that have to stay."""

    def __init__(self) -> None:
        self._above: list[int] = []
        self._stay: dict[int, str] = {}

    def new(self, count: int) -> np.ndarray:
        """Returns labels i64 [count] that nothing is tied to."""
        first = len(self._above)
        self._above.extend(range(first, first + count))
        return np.arange(first, first + count)

    def tie(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Ties two arrays of labels [n], position by position; returns labels [n] of both."""
        for one, other in zip(first.tolist(), second.tolist(), strict=True):
            if FREE not in (one, other):
                self._above[self.root(one)] = self.root(other)
        return np.where(first == FREE, second, first)

    def stay(self, labels: np.ndarray | None, why: str = "") -> None:
        """Keeps the channels of labels.

        Args:
            labels: labels [n], or None for none.
            why: what cannot be followed, in words; empty where a channel stays by its nature, as a class does.
        """
        for label in [] if labels is None else labels.tolist():
            if label != FREE and not self._stay.get(label):
                self._stay[label] = why

    def root(self, label: int) -> int:
        """Returns the label that stands for all that are tied to this one."""
        above = self._above
        while above[label] != label:
            above[label] = above[above[label]]
            label = above[label]
        return label

    def kept(self) -> dict[int, str]:
        """Returns {root: why it stays} of the channels that have to."""
        found: dict[int, str] = {}
        for label, why in self._stay.items():
            found[self.root(label)] = found.get(self.root(label)) or why
        return found


@dataclasses.dataclass(frozen=True)
class Step:
    """One equation of a program, with what is known of its operands."""

    name: str
    params: Mapping[str, Any]
    shapes: Sequence[tuple[int, ...]]
    """Shapes of the operands."""
    results: Sequence[tuple[int, ...]]
    """Shapes of the results."""
    operands: Sequence[Axes]
    values: Sequence[np.ndarray | None]
    """Values of the operands that are constants, None for the others."""
    labels: Labels
    place: str
    """Path of the module whose equation it is."""

    def lose(self, labels: np.ndarray | None, what: str = "") -> None:
        """Keeps channels that cannot be followed through the equation; `what` it does to them, in words."""
        self.labels.stay(labels, f"{self.place or 'the network'} {what or f'computes {self.name} of them'}")


Rule = Callable[[Step], list[Axes]]
"""A function from an equation to the labels of its results."""


def walk(program: ClosedJaxpr, rules: Mapping[str, Rule], unknown: Rule) -> tuple[Labels, list[Axes]]:
    """Follows the labels of all arguments but the last one, the images, through a program.

    Args:
        program: the traced network; its last argument is images, the others are parameters.
        rules: the rule of each primitive.
        unknown: the rule of primitives without one.

    Returns (labels, those of the axes of every parameter). Channels of the results stay.
    """
    labels = Labels()
    *leaves, images = program.jaxpr.invars
    given: list[Axes] = [tuple(labels.new(side) for side in leaf.aval.shape) for leaf in leaves]
    walker = _Walker(labels, rules, unknown)
    for found in walker.run(program, [*given, (None,) * images.aval.ndim], ""):
        for each in found if isinstance(found, tuple) else ():
            labels.stay(each)
    return labels, given


@dataclasses.dataclass(frozen=True)
class _Walker:
    labels: Labels
    rules: Mapping[str, Rule]
    unknown: Rule

    def run(self, program: ClosedJaxpr, given: Iterable[Traced], above: str) -> list[Traced]:
        """Returns what is known of the results of a program, whose equations belong to the module `above` or those below."""
        jaxpr = program.jaxpr
        known: dict[Any, Traced] = dict(zip(jaxpr.invars, given, strict=True))
        known |= {var: _constant(value) for var, value in zip(jaxpr.constvars, program.consts, strict=True)}

        def read(atom: Any) -> Traced:
            return np.asarray(atom.val) if isinstance(atom, Literal) else known[atom]

        for equation in jaxpr.eqns:
            place = "/".join(filter(None, (above, str(equation.source_info.name_stack))))
            known.update(zip(equation.outvars, self.results(equation, list(map(read, equation.invars)), place), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def results(self, equation: Any, operands: list[Traced], place: str) -> Sequence[Traced]:
        """Returns what is known of the results of one equation."""
        name = equation.primitive.name
        if name in CALLS:
            return self.run(inner_program(equation.params), operands, place)
        results = [var.aval.shape for var in equation.outvars]
        if name == "convert_element_type" and isinstance(operands[0], np.ndarray):
            return [operands[0]]
        step = Step(
            name,
            equation.params,
            [atom.aval.shape for atom in equation.invars],
            results,
            [(None,) * np.ndim(one) if isinstance(one, np.ndarray) else one for one in operands],
            [one if isinstance(one, np.ndarray) else None for one in operands],
            self.labels,
            _module(place),
        )
        if all(axis is None for axes in step.operands for axis in axes):
            return [(None,) * len(shape) for shape in results]
        return self.rules.get(name, self.unknown)(step)


def _constant(value: Any) -> Traced:
    """Returns a constant of the program as NumPy array; a PRNG key, which NumPy cannot hold, has no labels."""
    is_key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.extended)
    return (None,) * value.ndim if is_key else np.asarray(value)


def _module(place: str) -> str:
    """Returns the path of the module of a stack of names such as ResNet/ResNet._stem/stem/norm: stem/norm."""
    return "/".join(name for name in place.split("/")[1:] if "." not in name and "(" not in name)
