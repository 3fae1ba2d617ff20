"""Reductions over the global batch: the one place that knows whether the batch is whole or split over devices by `pmap`.

Under `jit` the batch is one global array, however it is sharded, and XLA inserts the communication: these functions then
return their argument. Under `pmap` each device sees its own part [B / devices, …], on the axis named AXIS.

The contract: every device has the same number of examples, so every device's mean has the same weight. A mean over all
examples of the local batch may therefore go through `global_mean`. A mean over *some* of them (examples with a label, pixels
that are not ignored, padding masked out) may not, because devices then average over different counts: divide the
`global_sum` of the values by the `global_sum` of the weights, so that `pmap` and `jit` agree.
"""

from typing import Any

import jax
import jax.numpy as jnp

AXIS = "devices"


def bound_axis() -> str | None:
    """Returns AXIS when the batch is split over devices in the code being traced, else None."""
    try:
        jax.lax.axis_index(AXIS)
    except NameError:  # jax's error for an axis that no enclosing map binds
        return None
    return AXIS


def global_mean(tree: Any) -> Any:
    """Averages per-device means into the mean over the global batch, with equal weight for every device.

    This is right for means over all examples of the local batch only; see the contract above.
    """
    return jax.lax.pmean(tree, AXIS) if bound_axis() else tree


def global_sum(tree: Any) -> Any:
    """Adds per-device sums into the sum over the global batch; right for any weights and masks."""
    return jax.lax.psum(tree, AXIS) if bound_axis() else tree


def positions(size: int) -> jax.Array:
    """Returns the positions i32 [size] of the local batch's `size` examples in the global batch."""
    offset = jax.lax.axis_index(AXIS) * size if bound_axis() else 0
    return jnp.arange(size, dtype=jnp.int32) + jnp.int32(offset)


def example_keys(key: jax.Array, size: int) -> jax.Array:
    """Returns one PRNG key for each example of the local batch, keys [size].

    Each key depends on the example's position in the global batch, so noise is the same on one device and on eight.
    """
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, positions(size))
