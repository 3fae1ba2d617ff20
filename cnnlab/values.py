"""The types of knobs: choices, bounded numbers and durations, and how a text becomes a value of one. Imports no jax.

They are annotations, from whose names, types and defaults knobs.py makes the flags:

def dropout_net(*, activation: Choice[ACTIVATIONS] = jax.nn.relu, rate: Probability = 0.5, width: Count = 64): ...
"""

import contextlib
import dataclasses
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal

from cnnlab import files
from cnnlab.errors import UsageError
from cnnlab.text import split_items


@dataclasses.dataclass(frozen=True, eq=False)
class ChoiceOf:
    """A choice of one function from a plain dict of functions; its own keyword arguments are knobs below this one."""

    options: Mapping[str, Callable[..., Any]]
    supplied: frozenset[str] = frozenset()
    """Parameters of the options that the function with this knob supplies itself, so that they are no knobs."""
    is_list: bool = False
    """Whether it takes any number of the functions, in order."""


@dataclasses.dataclass(frozen=True)
class _ChoiceForm:
    is_list: bool

    def __getitem__(self, options: Mapping[str, Callable[..., Any]]) -> Any:
        return Annotated[Any, ChoiceOf(options, is_list=self.is_list)]

    def __call__(self, options: Mapping[str, Callable[..., Any]], *, supplied: Iterable[str]) -> Any:
        return Annotated[Any, ChoiceOf(options, frozenset(supplied), self.is_list)]


Choice: Any = _ChoiceForm(is_list=False)
"""`Choice[OPTIONS]` annotates a knob that takes one of the functions of the dict OPTIONS, by name.

`FILE.py:NAME` takes a function of a user's own file (own.py), which has to fit the place (fitting.py).

The default is a name, the function itself, or a `functools.partial` of it (whose keywords are then the defaults below).
The choices among these keywords stay when another option is named that has them too; the numbers do not (knobs.py).
`name:argument` on the command line binds the function's positional-only parameter (`--dataset=tfds:mnist`).
`Choice(OPTIONS, supplied=("normalize",))` is the same without the knob `normalize`, which the caller of the chosen function
passes to it.
"""

Choices: Any = _ChoiceForm(is_list=True)
"""`Choices[OPTIONS]` annotates a knob that takes a list of functions of the dict OPTIONS, in order: `--augment=flip,pad_crop`.

The function with the knob receives a tuple. `none` is the empty list, and no name may stand there twice. The knobs of each lie
below its name, that of FILE.py:NAME below NAME. The default is text, one function or partial, or a tuple of these. What is
recorded is the text: the names joined by commas.
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
LARGEST_SEED = 2**32 - 1
Seed = Annotated[int, Range(0, LARGEST_SEED)]
OF_RUN = "run"
DrawSeed = Seed | Literal["run"] | None
"""The seed by which examples are drawn: a number, that of each run (OF_RUN), or none for the usual draw, which is fixed."""


def seed_of_draw(drawn_by: DrawSeed, seed: int) -> int | None:
    """Returns the seed of a draw for the run of a seed; None for the usual draw."""
    return drawn_by if drawn_by is None or isinstance(drawn_by, int) else seed


Entries = Annotated[tuple[str, ...], "one entry, commas included, each time that the flag is given"]
"""A run flag that is given once for each entry, such as --vary."""


@dataclasses.dataclass(frozen=True)
class PathMark:
    """Marks a text that is a path, so that it is read by files.absolute or files.expand_home."""

    is_absolute: bool


PathText = Annotated[str, PathMark(is_absolute=True)]
"""The path of a file or folder that is read. It becomes absolute, so that what is recorded holds in any other folder, too."""
Target = Annotated[str, PathMark(is_absolute=False)]
"""The path of a file or folder that this command writes: `~` is the home folder; a relative path is shown as it was given."""


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
        # A text that `parse` reads as the same number.
        return f"{int(self.amount) if self.amount == int(self.amount) else float(self.amount)} {self.unit}"


LISTS = (tuple, list, Sequence)
"""Annotations of several values; each becomes a tuple."""


def below_partials(function: Any) -> Any:
    """Returns the function, or the class, below the partials that fill in its settings."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def metadata(annotation: Any, kind: type) -> Any:
    """Returns the first of an annotation's metadata that is of a kind, such as ChoiceOf; None where there is none."""
    found = [m for m in getattr(annotation, "__metadata__", ()) if isinstance(m, kind)]
    return found[0] if found else None


def read_value(path: str, annotation: Any, raw: Any, default: Any) -> Any:
    """Reads a knob's value from text, or checks one that has its type already; UsageError says what was expected."""
    try:
        return _convert(annotation, raw)
    except (ValueError, UsageError) as error:
        if isinstance(error, UsageError):
            raise UsageError(f"--{path}: {error}") from None
        fallback = "none" if default is None else plain(default)
        raise UsageError(f"--{path}={raw}: expected {describe_type(annotation)} (default {fallback}), got {raw!r}.") from None


def _convert(annotation: Any, raw: Any) -> Any:
    """Returns the value; ValueError where `raw` does not fit the annotation."""
    bounds = metadata(annotation, Range)
    if bounds is not None:
        value = _convert(annotation.__origin__, raw)
        return value if value in bounds else _reject()
    path = metadata(annotation, PathMark)
    if path is not None:
        return str(files.absolute(raw) if path.is_absolute else files.expand_home(raw))
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        if raw is None or (isinstance(raw, str) and raw.lower() in ("none", "")):
            return None
        return _convert_to_first([a for a in arguments if a is not types.NoneType], raw)
    if origin is Literal:
        return next((option for option in arguments if str(option) == str(raw)), None) or _reject()
    if origin in LISTS:
        arguments = arguments if origin is tuple else (*arguments, Ellipsis)
        if isinstance(raw, str):
            is_text = arguments[0] is str or metadata(arguments[0], PathMark) is not None
            items = split_items(raw) if is_text else re.findall(r"[^,()\[\]\s]+", raw)
        else:
            items = list(raw)
        kinds = [arguments[0]] * len(items) if arguments[-1] is Ellipsis else arguments
        return tuple(_convert(kind, item) for kind, item in zip(kinds, items, strict=True))
    if annotation not in _READERS:
        raise TypeError(f"knobs do not know the annotation {annotation!r}")
    return _READERS[annotation](raw)


def _convert_to_first(annotations: Sequence[Any], raw: Any) -> Any:
    """Returns the value by the first of the annotations that it fits; ValueError where it fits none."""
    for annotation in annotations[:-1]:
        with contextlib.suppress(ValueError):
            return _convert(annotation, raw)
    return _convert(annotations[-1], raw)


def takes_list(annotation: Any) -> bool:
    """Returns whether an annotation is a list of choices or a tuple of any length, whose flag may be given several times."""
    if (choice := metadata(annotation, ChoiceOf)) is not None:
        return bool(choice.is_list)
    kinds = [annotation, *typing.get_args(annotation)]
    lists = [(typing.get_origin(kind), typing.get_args(kind)) for kind in kinds if typing.get_origin(kind) in LISTS]
    return any(origin is not tuple or arguments[-1] is Ellipsis for origin, arguments in lists)


def is_readable(annotation: Any) -> bool:
    """Returns whether a text can give a value of this annotation."""
    if annotation in _READERS or annotation is types.NoneType:
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return is_readable(annotation.__origin__)
    kinds = [kind for kind in arguments if kind is not Ellipsis]
    return origin is Literal or (origin in (typing.Union, types.UnionType, *LISTS) and all(map(is_readable, kinds)))


def _reject() -> Any:
    raise ValueError


def _read_bool(raw: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    return raw if isinstance(raw, bool) else words[text] if (text := str(raw).lower()) in words else _reject()


def _read_int(raw: Any) -> int:
    return _reject() if isinstance(raw, float | bool) else int(raw)


def _read_float(raw: Any) -> float:
    value = float(raw)
    return value if value in Range() else _reject()


_READERS: dict[Any, Callable[[Any], Any]] = {
    bool: _read_bool,
    int: _read_int,
    float: _read_float,
    str: str,
    Duration: lambda raw: raw if isinstance(raw, Duration) else Duration.parse(str(raw)),
}


def describe_type(annotation: Any) -> str:
    """Describes what a knob takes: `float > 0`, `int or none`, `one of: a, b`, `comma-separated int`."""
    bounds = metadata(annotation, Range)
    if bounds is not None:
        return f"{describe_type(annotation.__origin__)} {bounds}"
    if metadata(annotation, PathMark) is not None:
        return "path"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("none" if a is types.NoneType else describe_type(a).removeprefix("one of: ") for a in arguments)
    if origin is Literal:
        return f"one of: {', '.join(map(str, arguments))}"
    if origin in LISTS:
        return f"comma-separated {describe_type(arguments[0])}"
    if annotation is Duration:
        return "duration such as '20 epochs' or '500 steps'"
    return getattr(annotation, "__name__", str(annotation))


def plain(value: Any) -> Any:
    """Returns a value as JSON holds it: a duration as its text, a tuple as a list."""
    if isinstance(value, Duration):
        return str(value)
    return [plain(v) for v in value] if isinstance(value, tuple) else value
