"""Adds the metrics that the knobs `metrics` and `headline` choose to what a task measures of held-out splits.

The outputs of the network for all examples are rows of the statistics, so the numbers are exact: they are computed once, in
f64, when the padding is gone and the parts of all batches and devices are together. Training steps are not changed.

Letters in shapes: B batch, N examples, K classes or labels.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Stats
from cnnlab.errors import UsageError, did_you_mean
from cnnlab.metric import Metric
from cnnlab.tasks.classification_metrics import TOP
from cnnlab.tasks.goals import Goal
from cnnlab.tasks.measures import MEASURES, Measure, Scored
from cnnlab.values import below_partials

OUTPUTS = "outputs"
"""Name of the rows with the outputs of the network, f32 [B, K]."""


def with_metrics(
    goal: Goal, chosen: Sequence[Callable[[Sequence[str]], Measure]], headline: str | None, class_names: Sequence[str]
) -> Goal:
    """Returns the goal with more metrics for held-out splits, the headline first, by which checkpoints and studies rank.

    Raises UsageError for a metric that does not suit the goal, and for a headline that is not measured or has no sense.

    Args:
        goal: what a network predicts.
        chosen: functions of MEASURES or a user's own, their knobs filled in.
        headline: name of the metric that comes first; None: that of the goal.
        class_names: names of the classes or labels.
    """
    measures = [_measure_of(one, goal, class_names) for one in chosen]
    metrics = list(goal.metrics)
    for one in [metric for measure in measures for metric in measure.metrics]:
        same = next((known for known in metrics if known.name == one.name), None)
        if same is not None and same != one:
            raise UsageError(f"--metrics: two of the metrics here are called {one.name}. Give yours another name.")
        metrics += [] if same else [one]
    late = [metric.name for measure in measures if measure.probe for metric in measure.metrics]
    if headline in late:
        raise UsageError(
            f"--headline={headline}: it is measured at the end of a run alone, so it cannot rank checkpoints.\n"
            "Leave --headline out; a study can still compare by it."
        )
    first = metrics[0] if headline is None else _headline(headline, metrics, class_names)
    metrics.sort(key=lambda metric: metric is not first)
    # The metric that ranks runs by default is still watched where another takes its place.
    watched = (*goal.logged_metrics, *({goal.metrics[0].name} - {first.name, *goal.logged_metrics}))
    goal = dataclasses.replace(goal, metrics=tuple(metrics), logged_metrics=watched)
    if not measures:
        return goal
    rows = tuple(row for measure in measures for row in measure.probed)
    return dataclasses.replace(
        goal,
        probes=tuple(measure.probe for measure in measures if measure.probe),
        kept_rows=None if goal.kept_rows is None else (*goal.kept_rows, *rows),
        measure=functools.partial(_measure, goal.measure),
        summary=functools.partial(_summary, goal, measures),
        figures=functools.partial(_figures, goal, measures),
    )


def _measure_of(chosen: Callable[[Sequence[str]], Measure], goal: Goal, class_names: Sequence[str]) -> Measure:
    """Returns the measure that a function makes; raises UsageError where it makes none, or one that does not suit the goal."""
    inner = below_partials(chosen)
    name = getattr(inner, "__name__", str(inner))
    if goal.log_probabilities is None:
        raise UsageError(f"--metrics={name}: the data have {goal.what}, and these metrics are for classes. Leave it out.")
    measure = chosen(class_names)
    if not isinstance(measure, Measure):
        raise UsageError(
            f"--metrics={name}: it returns {type(measure).__name__}.\nExpected a cnnlab.tasks.measures.Measure, such as:\n"
            '    Measure((Metric("errors", higher_is_better=False),), lambda scored: {"errors": …})'
        )
    if goal.column not in measure.columns:
        fitting = [known for known, one in MEASURES.items() if goal.column in one([*class_names, *"0123"]).columns]
        raise UsageError(
            f"--metrics={name}: the data have {goal.what} (their column `{goal.column}`), for which it has no meaning.\n"
            f"Give some of {', '.join(fitting)}."
        )
    return measure


def _headline(name: str, metrics: Sequence[Metric], class_names: Sequence[str]) -> Metric:
    """Returns the metric of a name, by which runs are to be ranked; UsageError where it is not measured or has no sense."""
    lacks = {f"top{TOP}_accuracy"} if len(class_names) <= TOP and f"top{TOP}_accuracy" == name else set()
    known = {metric.name: metric for metric in metrics if metric.name not in lacks}
    if name not in known:
        raise UsageError(
            f"--headline={name}: no such metric is measured here.{did_you_mean(name, list(known))} There are: "
            f"{', '.join(known)}.\nAdd others with --metrics ({', '.join(MEASURES)})."
        )
    known[name].require_sense(f"--headline={name}")
    return known[name]


def _measure(of_goal: Callable[[Array, Array, Batch], Stats], outputs: Array, losses: Array, batch: Batch) -> Stats:
    """Implements Goal.measure: the statistics of the goal, and the outputs."""
    stats = of_goal(outputs, losses, batch)
    return {**stats, "rows": {**stats["rows"], OUTPUTS: outputs.astype(jnp.float32)}}


def _summary(goal: Goal, measures: Sequence[Measure], stats: Stats) -> dict[str, float]:
    """Implements Goal.summary: the numbers of the goal and, of held-out splits, those of the measures."""
    found = goal.summary(stats)
    if not stats["rows"]:
        return found
    scored = _scored(goal, stats)
    for measure in _measured(measures, stats):
        found = {**measure.compute(scored), **found}  # what the goal measures itself stays
    return found


def _measured(measures: Sequence[Measure], stats: Stats) -> list[Measure]:
    """Returns the measures whose rows there are: those of probes are measured at the end of a run alone."""
    return [measure for measure in measures if all(name in stats["rows"] for name in measure.probed)]


def _figures(goal: Goal, measures: Sequence[Measure], stats: Stats, data: Dataset, split: str) -> dict[str, Any]:
    """Implements Goal.figures: those of the goal and, of held-out splits, those of the measures."""
    shown = goal.figures(stats, data, split)
    if not stats["rows"]:
        return shown
    scored = _scored(goal, stats)
    return {
        **shown,
        **{name: figure for one in _measured(measures, stats) for name, figure in one.figures(scored, split).items()},
    }


def _scored(goal: Goal, stats: Stats) -> Scored:
    """Returns what the network made of all examples of a split."""
    rows = stats["rows"]
    assert goal.log_probabilities is not None
    truth, outputs = np.asarray(rows[goal.column]), np.asarray(rows[OUTPUTS])
    is_class = truth.ndim == 1
    predictions = np.asarray(rows["prediction"]) if is_class else outputs > 0  # probabilities above one half
    return Scored(truth if is_class else truth > 0.5, predictions, outputs, goal.log_probabilities, rows)
