"""What is done to a state before the first step of a phase (core.Phase.begin), one thing after another."""

from collections.abc import Callable

from cnnlab.core import Batch, TrainState

Begin = Callable[[TrainState, Batch], TrainState]
"""As core.Phase.begin."""


def one_after_other(first: Begin | None, second: Begin | None) -> Begin | None:
    """Returns the beginning that does one after the other; None where neither does anything."""
    if first is None or second is None:
        return first or second
    return lambda state, batch: second(first(state, batch), batch)
