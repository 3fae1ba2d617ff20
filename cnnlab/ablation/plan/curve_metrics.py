"""Metrics of a run that follow from its curve: the steps of training until a logged number reaches a level. Imports no jax.

`train/steps_to_accuracy_0.75` is the number of steps until the training accuracy is 0.75, between two log lines by linear
interpolation. `log_every` sets how close they are; a training number is the mean over the steps since the line before. A run
that never reaches the level counts as if it did at its last step, which understates a difference and never makes one.
"""

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


def steps_to_level(metric: str, curve: Sequence[Mapping[str, float | None]], known: Mapping[str, Metric]) -> float | None:
    """Returns the steps until a run reaches a level; None for another metric, and for a run without the number that it follows.

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
                return step
            before, worse = points[number - 1]
            return before + (step - before) * (level - worse) / (value - worse)
    return points[-1][0] if points else None


def with_curve_metric(metric: str, outcome: RunResult, known: Mapping[str, Metric]) -> Mapping[str, float]:
    """Returns the metrics of a finished run, with the compared one where that follows from its curve."""
    steps = steps_to_level(metric, outcome.curve, known) if outcome.metrics else None
    return outcome.metrics if steps is None else {**outcome.metrics, metric: steps}
