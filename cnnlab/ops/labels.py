"""Labels of images: numbers of classes, i32 [B], or soft ones, f32 [B, K], the share of every class, as mixup makes them."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def class_shares(labels: jax.Array, classes: int, dtype: DTypeLike) -> jax.Array:
    """Returns the share of every class, [B, K]: labels that are soft already, one-hot vectors of numbers."""
    return labels.astype(dtype) if labels.ndim == 2 else jax.nn.one_hot(labels, classes, dtype=dtype)


def largest_share(labels: jax.Array) -> jax.Array:
    """Returns labels i32 [B]; of soft labels the class with the largest share."""
    return jnp.argmax(labels, axis=1).astype(jnp.int32) if labels.ndim == 2 else labels


def labels_of(batch: Mapping[str, Any]) -> jax.Array:
    """Returns the labels of a batch; zeros i32 [B] where its images have none, for tasks that do not learn from them."""
    return batch["label"] if "label" in batch else jnp.zeros(batch["index"].shape, jnp.int32)
