"""Metrics of scores and probabilities, in f64, over all examples of a split. NumPy alone.

Letters in shapes: N examples, K classes, M bins.

Each equals scikit-learn's function of the same name, or the formula that its docstring names (tests/test_tasks_measures.py).
A score that is NaN makes the metric NaN.
"""

import dataclasses

import numpy as np


def roc_auc(is_positive: np.ndarray, scores: np.ndarray) -> float:
    """Returns the area under the receiver operating characteristic.

    It is the probability that a positive example has a larger score than a negative one; equal scores count one half. NaN where
    all examples are positive, or all negative.

    Args:
        is_positive: bool [N].
        scores: [N], in any monotone scale.
    """
    positives = int(np.sum(is_positive))
    negatives = len(is_positive) - positives
    if not positives or not negatives or np.isnan(scores).any():
        return float("nan")
    _, places, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(sizes) - (sizes - 1) / 2  # the mean rank of each group of equal scores, from 1
    above = np.sum(ranks[places][is_positive]) - positives * (positives + 1) / 2  # Mann and Whitney's U
    return float(above / (positives * negatives))


def average_precision(is_positive: np.ndarray, scores: np.ndarray) -> float:
    """Returns Σ_n (R_n − R_{n−1}) P_n, precision P and recall R at every threshold, from the largest score to the smallest.

    Examples of equal scores pass a threshold together. NaN where no example is positive.

    Args:
        is_positive: bool [N].
        scores: [N], in any monotone scale.
    """
    if not is_positive.any() or np.isnan(scores).any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(is_positive[order])  # positive examples among the first n
    ordered = scores[order]  # compared, not subtracted: logarithms of votes may be −inf
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # the last example of each group of equal scores
    precision, recall = found[last] / (last + 1), found[last] / found[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def log_loss(labels: np.ndarray, log_probabilities: np.ndarray) -> float:
    """Returns the mean of −log p of the labels, in nats; infinite where a label has the probability 0, as votes may give it.

    Args:
        labels: i32 [N].
        log_probabilities: natural logarithms, f64 [N, K].
    """
    return float(-np.mean(log_probabilities[np.arange(len(labels)), labels]))  # [N, K] at [N], [N] -> [N]


def brier_score(labels: np.ndarray, log_probabilities: np.ndarray) -> float:
    """Returns the mean of Σ_k (p_k − t_k)² in [0, 2], t the one-hot label (Brier 1950, eq. 2).

    Args:
        labels: i32 [N].
        log_probabilities: natural logarithms, f64 [N, K].
    """
    errors = np.exp(log_probabilities)
    errors[np.arange(len(labels)), labels] -= 1.0
    return float(np.mean(np.sum(errors**2, axis=1)))


@dataclasses.dataclass(frozen=True, eq=False)
class Bins:
    """Examples by the confidence of their prediction, in M bins of equal width; bin m holds those in (m / M, (m + 1) / M]."""

    counts: np.ndarray
    """Number of examples, i64 [M]."""
    confidence: np.ndarray
    """Mean probability of the predicted class, f64 [M]; NaN where the bin is empty."""
    accuracy: np.ndarray
    """Share that is right, f64 [M]; NaN where the bin is empty."""

    @property
    def calibration_error(self) -> float:
        """Returns Σ_m n_m / N |accuracy − confidence| (Guo et al. 2017, arXiv 1706.04599, eq. 3); NaN without examples."""
        total = np.sum(self.counts)
        gaps = np.where(self.counts > 0, np.abs(self.accuracy - self.confidence), 0.0)
        return float(np.sum(self.counts * gaps) / total) if total else float("nan")


def confidence_bins(confidence: np.ndarray, is_right: np.ndarray, bins: int) -> Bins:
    """Returns the bins of N examples; a confidence that is NaN makes its bin and the calibration error NaN.

    Args:
        confidence: probability of the predicted class, f64 [N] in [0, 1]; 0 lies in the first bin.
        is_right: bool [N].
        bins: M.
    """
    inner = np.arange(1, bins) / bins
    places = np.searchsorted(inner, confidence, side="left")  # NaN is sorted behind all edges: into the last bin
    counts = np.bincount(places, minlength=bins)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.bincount(places, weights=values, minlength=bins)
        return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)

    return Bins(counts, mean(confidence), mean(is_right.astype(np.float64)))
