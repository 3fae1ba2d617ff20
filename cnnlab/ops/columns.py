"""Columns of a batch that not every data set has."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def labels_of(batch: Mapping[str, Any]) -> jax.Array:
    """Returns the labels i32 [B] of a batch; zeros where its images have none, for tasks that do not learn from them."""
    return batch["label"] if "label" in batch else jnp.zeros(batch["index"].shape, jnp.int32)
