"""Measures of a classifier, batched on the device where that is natural and in NumPy where they end a pass."""

import jax
import jax.numpy as jnp
import numpy as np


def top_correct(scores: jax.Array, labels: jax.Array, top: int) -> jax.Array:
    """Returns bool [B]: whether the label i32 [B] is among the `top` largest of the scores f32 [B, K].

    Ties go to the smaller class, as in argmax.
    """
    own = jnp.take_along_axis(scores, labels[:, None], axis=1)  # [B, K] at [B, 1] -> [B, 1]
    classes = jnp.arange(scores.shape[1], dtype=labels.dtype)
    ahead = (scores > own) | ((scores == own) & (classes[None] < labels[:, None]))
    return jnp.sum(ahead, axis=1) < top


def confusion_counts(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Counts, i64 [K, K], how many examples of each label (row) got each prediction (column)."""
    cells = labels.astype(np.int64) * classes + predictions
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)  # [K·K] -> [K, K]
