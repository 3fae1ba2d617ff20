"""What a network learns to predict of an image: its class, several labels, or numbers. `classify` is the same for each of them.

Letters in shapes: B batch, K outputs: classes, labels, or numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from cnnlab.core import Array, Batch, Dataset, Prediction, Stats
from cnnlab.errors import UsageError
from cnnlab.metric import Metric
from cnnlab.ops import losses
from cnnlab.tasks import classification_metrics, multi_label_metrics, prediction, regression_metrics


@dataclasses.dataclass(frozen=True)
class Goal:
    """A column that a network predicts, and how its predictions are measured and shown."""

    column: str
    """Name of the column of the data set."""
    what: str
    """What the column holds, for errors."""
    losses: tuple[Callable[..., Array], ...]
    """Losses of LOSSES that suit it; a loss of a user's own file may suit it too."""
    sums: Callable[[Array, Array, Batch], dict[str, Array]]
    """(outputs f32 [B, K], losses f32 [B], batch) -> sums over the examples of a training batch."""
    measure: Callable[[Array, Array, Batch], Stats]
    """(outputs f32 [B, K], losses f32 [B], batch) -> the statistics of a held-out batch."""
    summary: Callable[[Stats], dict[str, float]]
    figures: Callable[[Stats, Dataset, str], dict[str, Any]]
    metrics: tuple[Metric, ...]
    prediction: Prediction


def _measure_classes(outputs: Array, losses: Array, batch: Batch) -> Stats:
    return classification_metrics.measure(outputs, jax.nn.softmax(outputs, axis=1), losses, batch)


CLASS = Goal(
    column="label",
    what="the class of an image",
    losses=(losses.cross_entropy, losses.focal, losses.hinge, losses.perceptron, losses.sigmoid, losses.squared),
    sums=classification_metrics.sums,
    measure=_measure_classes,
    summary=classification_metrics.summary,
    figures=classification_metrics.draw_figures,
    metrics=classification_metrics.METRICS,
    prediction=prediction.of_classes(),
)
TAGS = Goal(
    column="tags",
    what="several labels of an image",
    losses=(losses.sigmoid,),
    sums=multi_label_metrics.sums,
    measure=multi_label_metrics.measure,
    summary=multi_label_metrics.summary,
    figures=multi_label_metrics.draw_figures,
    metrics=multi_label_metrics.METRICS,
    prediction=prediction.of_tags(),
)


def numbers(column: str = "target") -> Goal:
    """Returns the goal of predicting a column of numbers f32 [B, T], such as one of a kind of a user's own."""
    return Goal(
        column=column,
        what="numbers that belong to an image",
        losses=(losses.squared, losses.absolute, losses.huber),
        sums=functools.partial(regression_metrics.sums, column=column),
        measure=functools.partial(regression_metrics.measure, column=column),
        summary=regression_metrics.summary,
        figures=regression_metrics.draw_figures,
        metrics=regression_metrics.METRICS,
        prediction=prediction.of_numbers(),
    )


NUMBERS = numbers()
GOALS = (CLASS, TAGS, NUMBERS)


def goal_of(name: str, columns: Mapping[str, Any], loss: Callable[..., Array]) -> Goal:
    """Returns what a network learns from a data set: the first of its columns `label`, `tags` and `target`.

    Raises UsageError where there is none of them, or where the loss does not suit it.

    Args:
        name: name of the data set.
        columns: its columns.
        loss: the loss, with its knobs filled in.
    """
    found = next((goal for goal in GOALS if goal.column in columns), None)
    if found is None:
        raise UsageError(
            f"classification needs the class of every image, and {name} has no column {', '.join(g.column for g in GOALS)} "
            f"(its columns: {', '.join(columns)}).\nGive a data set with classes, labels or numbers to predict."
        )
    chosen = loss.func if isinstance(loss, functools.partial) else loss
    if chosen in losses.LOSSES.values() and chosen not in found.losses:
        name_of = {function: text for text, function in losses.LOSSES.items()}
        raise UsageError(
            f"--loss={name_of[chosen]}: {name} has {found.what} (its column `{found.column}`), which that loss does not take.\n"
            f"Give --loss={' or --loss='.join(name_of[one] for one in found.losses)}."
        )
    return found
