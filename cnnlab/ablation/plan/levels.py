"""Levels of a factor, as `--vary` gives them: a list of texts, or a distribution to draw from. Imports no jax."""

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from cnnlab.errors import UsageError, did_you_mean

FORMS = {
    "uniform": "uniform(LOW,HIGH)",
    "log": "log(LOW,HIGH)",
    "integer": "integer(LOW,HIGH)",
    "choice": "choice(LEVEL,LEVEL,…)",
}
"""The distributions of --vary, and how they are written."""


@dataclasses.dataclass(frozen=True)
class Distribution:
    """The distribution that a level is drawn from. `log` is uniform in the logarithm; both ends of `integer` belong to it."""

    kind: Literal["uniform", "log", "integer", "choice"]
    low: float = 0.0
    high: float = 1.0
    options: tuple[str, ...] = ()
    """The levels of a choice, all equally likely."""

    def at(self, share: float) -> str:
        """Returns the level below which `share`, in [0, 1), of the distribution lies (its inverse distribution function)."""
        if self.kind == "choice":
            return self.options[int(share * len(self.options))]
        if self.kind == "integer":
            return str(int(self.low) + int(share * (int(self.high) - int(self.low) + 1)))
        if self.kind == "log":
            low, high = math.log(self.low), math.log(self.high)
            return self.text(math.exp(low + share * (high - low)))
        return self.text(self.low + share * (self.high - self.low))

    def text(self, value: float) -> str:
        """Returns a number as text of six digits, or of all where rounding would leave the range."""
        value = min(max(value, self.low), self.high)
        return short if self.low <= float(short := f"{value:.6g}") <= self.high else repr(value)

    def __str__(self) -> str:
        inner = ",".join(map(shown, self.options)) if self.kind == "choice" else f"{self.low:g},{self.high:g}"
        return f"{self.kind}({inner})"


Levels = tuple[str, ...] | Distribution
"""What a factor takes: some texts, in grid, zip and one_factor_at_a_time the baseline's first; or a distribution."""


def parse_vary(texts: Sequence[str]) -> dict[str, Levels]:
    """Reads {knob: levels} from `norm:batch,none`, `lr:log(1e-4,1)` or `model.widths:(64,32),(128,)`, in the order given.

    A level with commas is written in brackets; `()` is the empty list. Raises UsageError for any other text, an empty level,
    a knob given twice, and an impossible distribution. Whether a level may occur twice depends on the design.
    """
    factors: dict[str, Levels] = {}
    for text in texts:
        knob, colon, rest = (part.strip() for part in text.partition(":"))
        if not colon or not re.fullmatch(r"[A-Za-z_][\w.]*", knob):
            raise UsageError(
                f"--vary={text} is not KNOB:LEVELS.\nExpected for example --vary=norm:batch,none or --vary='lr:log(1e-4,1)'."
            )
        if knob in factors:
            raise UsageError(
                f"--vary names {knob} twice.\nExpected each knob once. Give all its levels in one --vary={knob}:…."
            )
        factors[knob] = _read_levels(f"--vary={text}", rest)
    return factors


def _read_levels(where: str, text: str) -> Levels:
    """Reads what follows the knob's colon; `where` begins the error."""
    parts = _split(where, text)
    calls = [re.fullmatch(r"(\w+)\((.*)\)", part) for part in parts]
    known = [call for call in calls if call and call[1] in FORMS]
    if known and len(parts) > 1:
        raise UsageError(
            f"{where}: a distribution stands beside other levels.\n"
            f"Expected either {FORMS[known[0][1]]} alone or a list of levels."
        )
    if known:
        return _read_distribution(where, known[0][1], known[0][2])
    if len(parts) == 1 and calls[0] and all(number_or_none(part) is not None for part in calls[0][2].split(",")):
        guess = did_you_mean(calls[0][1], list(FORMS))
        raise UsageError(f"{where}: no distribution {calls[0][1]}.{guess}\nExpected one of {', '.join(FORMS.values())}.")
    return tuple(unwrapped(part) for part in parts)


def _split(where: str, text: str) -> list[str]:
    """Splits at the commas that are outside of all brackets; no part may be empty."""
    parts, awaited = [""], ""
    for letter in text:
        if letter in "([":
            awaited += ")]"["([".index(letter)]
        elif letter in ")]":
            if not awaited.endswith(letter):
                awaited += letter
                break
            awaited = awaited[:-1]
        if letter == "," and not awaited:
            parts.append("")
        else:
            parts[-1] += letter
    if awaited:
        raise UsageError(f"{where}: the brackets do not match.\nExpected levels such as (64,32),(128,): close each that opens.")
    parts = [part.strip() for part in parts]
    if not all(parts):
        raise UsageError(
            f"{where}: {'no levels' if len(parts) == 1 else 'an empty level'}.\n"
            "Expected levels separated by single commas, such as batch,none; write () for an empty list."
        )
    return parts


def unwrapped(level: str) -> str:
    """Removes enclosing brackets: `(64,32)` -> `64,32`, `(128,)` -> `128`, `()` -> ``; other brackets belong to the level."""
    depths = list(itertools.accumulate((letter == "(") - (letter == ")") for letter in level))
    whole = level.startswith("(") and not level.startswith("(?") and 0 in depths and depths.index(0) == len(level) - 1
    return level[1:-1].strip().removesuffix(",") if whole else level


def shown(level: str) -> str:
    """Returns the level as it is written in a list."""
    return f"({level})" if not level or ("," in level and not re.fullmatch(r"\[.*\]", level)) else level


def _read_distribution(where: str, kind: Any, text: str) -> Distribution:
    """Reads the distribution whose arguments `text` holds."""
    if kind == "choice":
        options = distinct(where, tuple(unwrapped(part) for part in _split(where, text)))
        return Distribution(kind, options=options)
    given = text.split(",")
    numbers = [number for part in given if (number := number_or_none(part)) is not None]
    whole = kind != "integer" or all(number == int(number) for number in numbers)
    if not len(given) == len(numbers) == 2 or not whole:
        what = "two whole numbers" if kind == "integer" else "two finite numbers"
        raise UsageError(f"{where}: {kind} takes {what}, got ({text}).\nExpected {FORMS[kind]}, such as {_EXAMPLES[kind]}.")
    low, high = numbers
    if low >= high:
        raise UsageError(f"{where}: low {low:g} is not below high {high:g}.\nExpected {FORMS[kind]} with LOW < HIGH.")
    if kind == "log" and low <= 0:
        raise UsageError(
            f"{where}: the logarithm of low {low:g} does not exist.\n"
            f"Expected LOW > 0. Raise it, or take uniform({low:g},{high:g})."
        )
    return Distribution(kind, low, high)


_EXAMPLES = {"uniform": "uniform(0,0.6)", "log": "log(1e-4,1)", "integer": "integer(8,64)"}


def number_or_none(text: str) -> float | None:
    """Returns the finite number that a text is, or None for any other text."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def key(level: str) -> float | str:
    """Returns a key that is equal for levels that are the same setting, such as 0.1 and 1e-1."""
    number = number_or_none(level)
    return level if number is None else number


def distinct(where: str, levels: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the levels; raises UsageError where one occurs twice: two arms would be the same runs."""
    seen: dict[float | str, str] = {}
    for level in levels:
        if key(level) in seen:
            raise UsageError(f"{where}: the level {shown(level)} stands there twice.\nExpected each level once. Remove one.")
        seen[key(level)] = level
    return levels
