"""Learning rates of a run at a step, from its knobs, for TensorBoard."""

from collections.abc import Callable, Mapping
from typing import Any

from cnnlab import knobs
from cnnlab.core import Experiment
from cnnlab.errors import UsageError
from cnnlab.ops.schedules import SCHEDULES
from cnnlab.values import Choice


def learning_rates(given: Mapping[str, Any], experiment: Experiment) -> Callable[[int], Mapping[str, float]]:
    """Makes step -> {"learning_rate/optimizer": rate}, one for each optimiser whose knobs have `lr` and `schedule`.

    A run of several phases starts its schedules anew in each of them and has none here.

    Args:
        given: the resolved knobs of the run by path.
        experiment: what is trained.
    """
    if len(experiment.phases) > 1:
        return lambda step: {}
    schedules: dict[str, tuple[float, Callable[[Any], Any]]] = {}
    for path, value in given.items():
        above, _, last = path.rpartition(".")
        if last != "lr" or f"{above}.schedule" not in given:
            continue
        below = {name.removeprefix(f"{above}."): knob for name, knob in given.items() if name.startswith(f"{above}.schedule")}
        try:
            schedule = knobs.resolve(_schedule, below).call()
            schedules[f"learning_rate/{above}"] = float(value), schedule(experiment.steps)
        except (UsageError, TypeError, ValueError):  # a schedule of a user's own, or a rate that is no number
            continue
    return lambda step: {name: rate * float(at(step)) for name, (rate, at) in schedules.items()}


def _schedule(*, schedule: Choice[SCHEDULES] = "cosine") -> Any:
    """Returns the chosen schedule with its knobs filled in."""
    return schedule
