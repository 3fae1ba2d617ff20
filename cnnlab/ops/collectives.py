"""The one place that knows whether a batch is whole or split over devices inside `pmap`.

Under `jit` the batch is one global array, however it is sharded, and XLA inserts the communication: these functions then do
nothing. Under `pmap` each device sees its own part, on the axis named AXIS.
"""

from typing import Any

import jax
import jax.numpy as jnp

AXIS = "devices"


def bound_axis() -> str | None:
    """AXIS when the batch is split over devices in the code being traced, else None."""
    try:
        jax.lax.axis_index(AXIS)
    except NameError:  # jax's error for an axis that no enclosing map binds
        return None
    return AXIS


def global_mean(tree: Any) -> Any:
    """Means of per-device means: the mean over the global batch, since all parts are of one size."""
    return jax.lax.pmean(tree, AXIS) if bound_axis() else tree


def global_sum(tree: Any) -> Any:
    """Sums of per-device sums: the sum over the global batch."""
    return jax.lax.psum(tree, AXIS) if bound_axis() else tree


def positions(size: int) -> jax.Array:
    """i32 [size]: where the `size` examples of the local batch stand in the global batch."""
    offset = jax.lax.axis_index(AXIS) * size if bound_axis() else 0
    return jnp.arange(size, dtype=jnp.int32) + jnp.int32(offset)


def example_keys(key: jax.Array, size: int) -> jax.Array:
    """One PRNG key for each example of the local batch, key [size].

    Noise drawn from them is the same on one device and on eight (house rule 5).
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, positions(size))
