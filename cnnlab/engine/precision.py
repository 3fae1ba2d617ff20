"""The dtype in which a network computes."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnlab.core import Batch, Dataset, PyTree

PRECISIONS = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f16": jnp.float16}
"""Dtypes in which a network computes. Parameters, batch statistics, losses and updates are always f32. In f16 the loss is
scaled (loss_scaling.py)."""


def computing_in(precision: str) -> Callable[[PyTree], PyTree]:
    """Returns a function that casts the f32 leaves of a tree to the compute dtype; gradients flow back through it in f32."""
    dtype = PRECISIONS[precision]
    return lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.dtype == jnp.float32 else leaf, tree)


def cast_batch(data: Dataset, cast: Callable[[PyTree], PyTree], batch: Batch) -> Batch:
    """Returns a batch with the columns in which a network computes cast; targets, boxes and the like stay in f32."""
    return {name: cast(v) if name not in data.kinds or data.kinds[name].takes_precision else v for name, v in batch.items()}
