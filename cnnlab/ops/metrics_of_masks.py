"""Metrics of segmentation in f64 from exact counts of pixels, so that they do not depend on the batches. NumPy alone.

Counts are pooled over a split before anything is divided, pixels to be ignored are not among them, and a class that no label
has is left out of means over classes. Programs that average over images, or count what is ignored, give other numbers, by up to
eight points.

Letters in shapes: N images, K classes.
"""

import numpy as np

from cnnlab.ops.metrics_of_counts import macro


def ious(counts: np.ndarray) -> np.ndarray:
    """Returns the intersection over union of each class, f64 [..., K], of counts [..., K, K] (label, prediction).

    It is TP / (TP + FP + FN), and NaN for a class that no label has.
    """
    right, labelled, predicted = _parts(counts)
    return _where_labelled(right, labelled + predicted - right, labelled)


def dices(counts: np.ndarray) -> np.ndarray:
    """Returns 2 TP / (2 TP + FP + FN) of each class, f64 [..., K], of counts [..., K, K]; NaN for a class that no label has."""
    right, labelled, predicted = _parts(counts)
    return _where_labelled(2 * right, labelled + predicted, labelled)


def accuracies(counts: np.ndarray) -> np.ndarray:
    """Returns the share of each class's pixels that are right, f64 [..., K], of counts [..., K, K]; NaN without pixels."""
    right, labelled, _ = _parts(counts)
    return _where_labelled(right, labelled, labelled)


def pooled(counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Returns the counts f64 [G, G] of groups of classes, of counts [K, K] and the number of each class's group, [K]."""
    member = (groups[:, None] == np.arange(groups.max() + 1)).astype(np.float64)  # [K, G]
    return member.T @ np.asarray(counts, np.float64) @ member


def pixel_accuracy(counts: np.ndarray) -> float:
    """Returns the share of pixels that are right, of counts [K, K]; NaN without pixels."""
    whole = counts.sum(dtype=np.float64)
    return float(np.trace(counts.astype(np.float64)) / whole) if whole else float("nan")


def frequency_weighted_iou(counts: np.ndarray) -> float:
    """Returns Σ_k (pixels of class k) · IoU_k / (all pixels), of counts [K, K] (Long et al. 2015, section 5)."""
    labelled = counts.sum(axis=1, dtype=np.float64)
    return float(np.nansum(labelled * ious(counts)) / labelled.sum()) if labelled.sum() else float("nan")


def means(values: np.ndarray) -> np.ndarray:
    """Returns the mean of the defined values of each row, f64 [N], of values [N, K]; NaN for a row without any."""
    return np.array([macro(row) for row in values], np.float64)


def _parts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (right, labelled, predicted) pixels of each class, each f64 [..., K]."""
    counts = np.asarray(counts, np.float64)
    return np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1), counts.sum(axis=-2)


def _where_labelled(part: np.ndarray, whole: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    return np.where(labelled > 0, part / np.maximum(whole, 1), np.nan)
