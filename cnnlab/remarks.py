"""Remarks on the data of a command: what was left out, guessed or cut. Each is printed once. Imports no jax.

A source returns its remarks with the data (`Source.remarks`), and the pipeline adds its own (`core.Dataset.remarks`), so they
are the same when the data come from a cache. A command prints them when it builds the data, and run.json holds them.
"""

import sys
from collections.abc import Iterable

_printed: set[str] = set()


def begin_command() -> None:
    """Forgets what was printed: a command begins in this process."""
    _printed.clear()


def print_once(remarks: Iterable[str]) -> None:
    """Prints the remarks that this command has not printed yet to stderr, a line for each; stdout is for results."""
    for remark in remarks:
        if remark not in _printed:
            _printed.add(remark)
            print(f"[data] {remark}", file=sys.stderr, flush=True)
