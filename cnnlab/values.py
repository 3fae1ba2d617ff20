"""The types of knobs: choices, bounded numbers and durations. They are annotations, which knobs.py reads. Imports no jax.

def dropout_net(*, activation: Choice[ACTIVATIONS] = jax.nn.relu, rate: Probability = 0.5, width: Count = 64): ...
"""

import dataclasses
import functools
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

from cnnlab.errors import UsageError


@dataclasses.dataclass(frozen=True, eq=False)
class ChoiceOf:
    """A choice of one function from a plain dict of functions; its own keyword arguments are knobs below this one."""

    options: Mapping[str, Callable[..., Any]]
    supplied: frozenset[str] = frozenset()
    """Parameters of the options that the function with this knob supplies itself, so that they are no knobs."""


class _ChoiceForm:
    def __getitem__(self, options: Mapping[str, Callable[..., Any]]) -> Any:
        return Annotated[Any, ChoiceOf(options)]

    def __call__(self, options: Mapping[str, Callable[..., Any]], *, supplied: Iterable[str]) -> Any:
        return Annotated[Any, ChoiceOf(options, frozenset(supplied))]


Choice: Any = _ChoiceForm()
"""`Choice[OPTIONS]` annotates a knob that takes one of the functions of the dict OPTIONS, by name.

The default is a name, the function itself, or a `functools.partial` of it (whose keywords are then the defaults below).
The choices among these keywords stay when another option is named that has them too; the numbers do not (knobs.py).
`name:argument` on the command line binds the function's positional-only parameter (`--dataset=tfds:mnist`).
`Choice(OPTIONS, supplied=("normalize",))` is the same without the knob `normalize`, which the caller of the chosen function
passes to it.
"""


def with_options(function: Callable[..., Any], **options: Mapping[str, Any]) -> Callable[..., Any]:
    """Returns the same function with other dicts in the annotations of some of its choices; the function is left as it is.

        experiment = partial(with_options(classification, model=NETWORKS), model="vgg")

    Signature, docstring and defaults stay, so a default that the new dict does not hold has to be replaced, as above.
    Raises TypeError for a parameter that is no choice.

    Args:
        function: a function whose knobs are keyword arguments, or a `functools.partial` of one.
        options: the new dict of functions for each choice, by the name of its parameter.
    """
    if isinstance(function, functools.partial):
        return functools.partial(with_options(function.func, **options), *function.args, **function.keywords)
    assert isinstance(function, types.FunctionType)
    # Not a wrapper: the knobs are read from the function's own signature, so the copy needs annotations of its own.
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__, copy.__annotations__ = function.__kwdefaults__, dict(function.__annotations__)
    copy.__doc__, copy.__module__, copy.__qualname__ = function.__doc__, function.__module__, function.__qualname__
    for name, chosen in options.items():
        found = [m for m in getattr(copy.__annotations__.get(name), "__metadata__", ()) if isinstance(m, ChoiceOf)]
        if not found:
            raise TypeError(f"{function.__name__} has no parameter {name!r} that is a Choice.")
        copy.__annotations__[name] = Annotated[Any, dataclasses.replace(found[0], options=chosen)]
    return copy


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


@dataclasses.dataclass(frozen=True)
class Range:
    """Bounds of a number; `open_low`/`open_high` exclude the end point. NaN and infinities never pass."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        if self.high == math.inf:
            return "finite" if self.low == -math.inf else f"finite and {'>' if self.open_low else '>='} {_number(self.low)}"
        return f"in {'(' if self.open_low else '['}{_number(self.low)}, {_number(self.high)}{')' if self.open_high else ']'}"


Positive = Annotated[float, Range(0, open_low=True)]
NonNegative = Annotated[float, Range(0)]
Probability = Annotated[float, Range(0, 1)]
Fraction = Annotated[float, Range(0, 1, open_high=True)]
Count = Annotated[int, Range(1)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Entries = Annotated[tuple[str, ...], "one entry, commas included, each time that the flag is given"]
"""A run flag that is given once for each entry, such as --vary."""


@dataclasses.dataclass(frozen=True)
class Duration:
    """A length of training in steps, epochs or examples: `Duration(20, "epochs")`, written `20 epochs`."""

    amount: float
    unit: str = "steps"

    UNITS = ("steps", "epochs", "examples")

    def __post_init__(self) -> None:
        if self.unit not in self.UNITS:
            raise UsageError(f"a duration is in {', '.join(self.UNITS)}, not {self.unit!r}. Write for example '20 epochs'.")
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise UsageError(f"a duration is finite and >= 0, got {self.amount:g} {self.unit}.")
        if self.unit != "epochs" and self.amount != int(self.amount):
            raise UsageError(f"a duration in {self.unit} is a whole number, got {self.amount:g}.")

    @classmethod
    def parse(cls, text: str) -> "Duration":
        """Parses `500`, `500 steps`, `20 epochs`, `1.5epochs` or `1e6 examples`."""
        match = re.fullmatch(r"\s*([0-9.eE+-]+)\s*(step|epoch|example)?s?\s*", text)
        try:
            return cls(float(match[1]), f"{match[2] or 'step'}s") if match else cls(math.nan)
        except (ValueError, UsageError):
            raise UsageError(f"{text!r} is not a duration. Write '500 steps', '20 epochs' or '100000 examples'.") from None

    def steps(self, *, size: int, batch_size: int) -> int:
        """Returns the number of steps for a training set of `size` examples; a duration above zero is at least one step."""
        if self.unit == "steps":
            return int(self.amount)
        examples = self.amount * size if self.unit == "epochs" else self.amount
        return max(int(self.amount > 0), round(examples / batch_size))

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}" if self.amount < 1e6 else f"{int(self.amount)} {self.unit}"
