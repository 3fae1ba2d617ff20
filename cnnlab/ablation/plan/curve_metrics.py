"""Metrics of a run that follow from its curve: the steps of training until a logged number reaches a level. Imports no jax.

`train/steps_to_accuracy_0.75` is the number of steps until the training accuracy is 0.75, between two log lines by linear
interpolation. `log_every` sets how close they are; a training number is the mean over the steps since the line before. A run
that never reaches the level counts as if it did at its last step: that number is a lower bound, and RunResult.lower_bounds
names it.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from cnnlab.ablation.plan.study import RunResult
from cnnlab.metric import Metric

PATTERN = re.compile(r"steps_to_(?P<name>\w+)_(?P<level>\d+(\.\d*)?(e-?\d+)?)")
"""Name of such a metric: the metric that is followed, and the level."""


def declaration(name: str, known: Mapping[str, Metric]) -> Metric | None:
    """Returns the declaration of such a metric; None for another name, or where the metric that it follows has no sense.

    Args:
        name: the metric without its split, such as steps_to_accuracy_0.75.
        known: {name: declaration} of the tasks' metrics.
    """
    found = PATTERN.fullmatch(name)
    followed = known.get(found["name"]) if found else None
    if followed is None or followed.higher_is_better is None:
        return None
    return Metric(name, unit="steps", higher_is_better=False, log_scale=True)


def steps_to_level(
    metric: str, curve: Sequence[Mapping[str, float | None]], known: Mapping[str, Metric]
) -> tuple[float, bool] | None:
    """Returns (steps until a run reaches a level, whether it does); None for another metric, and without the number it follows.

    Args:
        metric: SPLIT/NAME, such as train/steps_to_accuracy_0.75.
        curve: the records of metrics.jsonl, which hold `step`.
        known: {name: declaration} of the tasks' metrics.
    """
    split, _, name = metric.rpartition("/")
    found = PATTERN.fullmatch(name)
    if found is None or declaration(name, known) is None:
        return None
    key, level = f"{split}/{found['name']}", float(found["level"])
    sign = 1 if known[found["name"]].higher_is_better else -1
    points = [(float(record["step"] or 0), value) for record in curve if (value := record.get(key)) is not None]
    for number, (step, value) in enumerate(points):
        if sign * value >= sign * level:
            if not number:
                return step, True
            before, worse = points[number - 1]
            return before + (step - before) * (level - worse) / (value - worse), True
    return (points[-1][0], False) if points else None


def with_curve_metric(metric: str, outcome: RunResult, known: Mapping[str, Metric]) -> RunResult:
    """Returns the result of a finished run with the compared metric, where that follows from its curve."""
    found = steps_to_level(metric, outcome.curve, known) if outcome.metrics else None
    if found is None:
        return outcome
    steps, is_reached = found
    bounds = outcome.lower_bounds if is_reached else (*outcome.lower_bounds, metric)
    return dataclasses.replace(outcome, metrics={**outcome.metrics, metric: steps}, lower_bounds=bounds)
