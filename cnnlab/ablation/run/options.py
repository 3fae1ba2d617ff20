"""Reads --launcher_options. Imports no jax."""

import contextlib
from collections.abc import Sequence

from cnnlab.errors import UsageError

Value = str | int | float | bool
"""What an option of Ray can be."""
REPEATED = ("setup",)
"""Options that may be given several times."""


def parse_options(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Reads KEY=VALUE texts into (key, value) pairs; a text without `=` goes on with the value before it: exclude=n1,n2.

    Raises UsageError for a text that belongs to no key, and for a key that is given twice.
    """
    pairs: list[tuple[str, str]] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals and not pairs:
            raise UsageError(
                f"--launcher_options={text}: expected KEY=VALUE, such as time=60 (Slurm) or num_cpus=2 (Ray).\n"
                "A flag without a value is written exclusive=true."
            )
        if not equals:
            pairs[-1] = (pairs[-1][0], f"{pairs[-1][1]},{text}")
            continue
        name = name.strip().removeprefix("--").replace("-", "_")
        before = [other for key, other in pairs if key == name]
        if before and name not in REPEATED:
            raise UsageError(f"--launcher_options: {name} is given twice: {before[0]} and {value}. Keep one of them.")
        pairs.append((name, value))
    return tuple(pairs)


def typed(pairs: Sequence[tuple[str, str]]) -> dict[str, Value]:
    """Returns {key: number, true, false or the text itself}, as Ray takes them."""
    return {name: _value(text) for name, text in pairs}


def _value(text: str) -> Value:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text
