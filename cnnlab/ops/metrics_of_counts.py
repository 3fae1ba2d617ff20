"""Metrics of predicted classes and labels, in f64 from exact counts, so that they do not depend on the batches. NumPy alone.

Letters in shapes: N examples, K classes or labels.

Each equals scikit-learn's function of the same name (tests/test_tasks_measures.py). A class that neither occurs nor is
predicted has no value (NaN) and is left out of means; a class that occurs and is never predicted has the precision 0, and one
that is predicted and never occurs the recall 0, as with `zero_division=0` there.
"""

import dataclasses
from typing import Literal

import numpy as np

KappaWeights = Literal["none", "linear", "quadratic"]


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
    """Numbers of examples by class, i64 [K]."""

    right: np.ndarray
    """Examples of the class that are predicted to be of it: the true positives."""
    predicted: np.ndarray
    """Examples that are predicted to be of the class."""
    occurring: np.ndarray
    """Examples of the class."""

    def together(self) -> "Counts":
        """Returns the counts of all classes together, [1]."""
        return Counts(*(np.sum(part, keepdims=True) for part in (self.right, self.predicted, self.occurring)))


def counts_of_classes(labels: np.ndarray, predictions: np.ndarray, classes: int) -> Counts:
    """Returns the counts of one class for each example.

    Args:
        labels: i32 [N] in [0, K).
        predictions: i32 [N] in [−1, K); −1 is no class, and wrong.
        classes: K.
    """

    def of(numbers: np.ndarray) -> np.ndarray:
        return np.bincount(numbers, minlength=classes)

    return Counts(of(labels[labels == predictions]), of(predictions[predictions >= 0]), of(labels))


def counts_of_labels(there: np.ndarray, predicted: np.ndarray) -> Counts:
    """Returns the counts of several labels for each example; both arguments are bool [N, K]."""
    return Counts(np.sum(there & predicted, axis=0), np.sum(predicted, axis=0), np.sum(there, axis=0))


def precision(counts: Counts) -> np.ndarray:
    """Returns the share of the examples predicted to be of a class that are of it, f64 [K]."""
    return _share(counts.right, counts.predicted, counts)


def recall(counts: Counts) -> np.ndarray:
    """Returns the share of the examples of a class that are predicted to be of it, f64 [K]."""
    return _share(counts.right, counts.occurring, counts)


def f1(counts: Counts) -> np.ndarray:
    """Returns the harmonic mean of precision and recall, f64 [K]."""
    return _share(2 * counts.right, counts.predicted + counts.occurring, counts)


def _share(part: np.ndarray, whole: np.ndarray, counts: Counts) -> np.ndarray:
    """Returns part / whole, f64 [K]: 0 where there is nothing to divide by, NaN for a class that is nowhere."""
    is_somewhere = (counts.predicted + counts.occurring) > 0
    return np.where(is_somewhere, part / np.maximum(whole, 1), np.nan)


def macro(values: np.ndarray) -> float:
    """Returns the mean of those of the values f64 [K] that are defined; NaN where none is."""
    defined = values[~np.isnan(values)]
    return float(np.mean(defined)) if len(defined) else float("nan")


def balanced_accuracy(counts: Counts) -> float:
    """Returns the mean recall of the classes that occur; where one class alone occurs, its recall."""
    occurs = counts.occurring > 0
    return macro(np.where(occurs, counts.right / np.maximum(counts.occurring, 1), np.nan))


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Returns the numbers of examples by label (row) and prediction (column), f64 [K + 1, K + 1], no class (−1) first."""
    cells = (labels.astype(np.int64) + 1) * (classes + 1) + predictions + 1
    counts = np.bincount(cells, minlength=(classes + 1) ** 2)
    return counts.reshape(classes + 1, classes + 1).astype(np.float64)  # [(K + 1)²] -> [K + 1, K + 1]


def cohen_kappa(matrix: np.ndarray, weights: KappaWeights = "none") -> float:
    """Returns Cohen's kappa (1960): 1 − disagreement / disagreement by chance, with the marginal shares of both.

    It is 0 for predictions that do not depend on the label, such as of one class alone, and NaN where labels and predictions
    are of one class alone: there is no disagreement by chance.

    Args:
        matrix: numbers of examples by label and prediction, f64 [K, K].
        weights: weight of a confusion of two classes: 1, the distance of their numbers, or its square (Cohen 1968).
    """
    distance = np.abs(np.subtract.outer(*2 * [np.arange(len(matrix))])).astype(np.float64)  # [K, K]
    weight = {"none": distance > 0, "linear": distance, "quadratic": distance**2}[weights]
    by_chance = np.sum(weight * np.outer(matrix.sum(axis=1), matrix.sum(axis=0))) / max(matrix.sum(), 1.0)
    return float(1 - np.sum(weight * matrix) / by_chance) if by_chance else float("nan")


def matthews_correlation(matrix: np.ndarray) -> float:
    """Returns the correlation of labels and predictions of several classes (Gorodkin 2004, eq. 8); 0 where one is constant.

    Args:
        matrix: numbers of examples by label and prediction, f64 [K, K].
    """
    labels, predictions, size = matrix.sum(axis=1), matrix.sum(axis=0), matrix.sum()
    covariance = np.trace(matrix) * size - labels @ predictions
    spread = (size**2 - labels @ labels) * (size**2 - predictions @ predictions)
    return float(covariance / np.sqrt(spread)) if spread > 0 else 0.0
