"""What a network learns to predict of an image: its class, several labels, or numbers. `classify` is the same for each of them.

Letters in shapes: B batch, N examples of a split, K outputs: classes, labels, or numbers.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from cnnlab.core import Array, Batch, Dataset, Prediction, Stats
from cnnlab.errors import UsageError
from cnnlab.metric import Metric
from cnnlab.ops import losses
from cnnlab.tasks import classification_metrics, multi_label_metrics, prediction, regression_metrics
from cnnlab.tasks.adversarial import Probe
from cnnlab.values import below_partials


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
    kept_rows: tuple[str, ...] | None = None
    """Names of the rows of the test split that a run keeps; None: all."""
    logged_metrics: tuple[str, ...] = ("loss",)
    """As core.Task.logged_metrics."""
    probes: tuple[Probe, ...] = ()
    """What is measured at the end of a run of a network on other images than those of the data (adversarial.py)."""
    log_probabilities: Callable[[np.ndarray], np.ndarray] | None = None
    """Outputs f64 [N, K] of a split -> natural logarithms of the probabilities, for the metrics of choice (measures.py); None:
    the outputs are no scores of classes."""

    def fields(self) -> dict[str, Any]:
        """Returns the fields of core.Task that say how a network with this goal is measured."""
        names = ("summary", "metrics", "logged_metrics", "kept_rows", "prediction")
        return {name: getattr(self, name) for name in names}


def _measure_classes(outputs: Array, losses: Array, batch: Batch) -> Stats:
    return classification_metrics.measure(outputs, jax.nn.softmax(outputs, axis=1), losses, batch)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """Returns log softmax of scores f64 [N, K], exactly where the largest probability is nearly 1."""
    below = scores - np.max(scores, axis=1, keepdims=True)
    others = np.exp(below)
    np.put_along_axis(others, np.argmax(below, axis=1)[:, None], 0.0, axis=1)
    return below - np.log1p(np.sum(others, axis=1, keepdims=True))


def log_sigmoid(scores: np.ndarray) -> np.ndarray:
    """Returns log sigmoid of scores f64 [N, K], exactly where a probability is nearly 0 or 1."""
    return np.minimum(scores, 0.0) - np.log1p(np.exp(-np.abs(scores)))


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
    kept_rows=classification_metrics.KEPT_ROWS,
    log_probabilities=log_softmax,
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
    kept_rows=multi_label_metrics.KEPT_ROWS,
    log_probabilities=log_sigmoid,
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
    chosen = below_partials(loss)
    if chosen in losses.LOSSES.values() and chosen not in found.losses:
        name_of = {function: text for text, function in losses.LOSSES.items()}
        raise UsageError(
            f"--loss={name_of[chosen]}: {name} has {found.what} (its column `{found.column}`), which that loss does not take.\n"
            f"Give --loss={' or --loss='.join(name_of[one] for one in found.losses)}."
        )
    return found
