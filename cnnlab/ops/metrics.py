"""Measures of a classifier, batched on the device where that is natural and in NumPy where they end a pass."""

import jax
import jax.numpy as jnp
import numpy as np


def predicted(scores: jax.Array) -> jax.Array:
    """Returns the predicted class i32 [B]: that of the largest of the scores f32 [B, K]; −1, no class, where one is NaN.

    argmax takes a NaN for the largest, so that a network of NaN alone would predict class 0 and be right by chance.
    """
    best = jnp.argmax(scores, axis=1).astype(jnp.int32)
    return jnp.where(jnp.any(jnp.isnan(scores), axis=1), jnp.int32(-1), best)


def top_correct(scores: jax.Array, labels: jax.Array, top: int) -> jax.Array:
    """Returns bool [B]: whether the label i32 [B] is among the `top` largest of the scores f32 [B, K].

    Ties go to the smaller class, as in argmax. Scores with a NaN among them have no order: the answer is false.
    """
    own = jnp.take_along_axis(scores, labels[:, None], axis=1)  # [B, K] at [B, 1] -> [B, 1]
    classes = jnp.arange(scores.shape[1], dtype=labels.dtype)
    ahead = (scores > own) | ((scores == own) & (classes[None] < labels[:, None]))
    return (jnp.sum(ahead, axis=1) < top) & ~jnp.any(jnp.isnan(scores), axis=1)


def confusion_counts(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Counts, i64 [K, K], how many examples of each label (row) got each prediction (column); −1 is none and not counted."""
    some = predictions >= 0
    cells = labels[some].astype(np.int64) * classes + predictions[some]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)  # [K·K] -> [K, K]
