"""Reductions over the global batch: the one place that knows whether the batch is whole or split over devices by `pmap`.

Under `jit` the batch is one global array, however it is sharded, and XLA inserts the communication: these functions then
return their argument. Under `pmap` each device sees its own part [B / devices, …], on the axis named AXIS.

The contract: the mean, over the devices, of what they return as the loss is the loss of the global batch, and the step averages
their gradients (engine/program.py). Every device has the same number of examples, so a mean over all examples of the local
batch keeps the contract, inside or outside of `global_mean`. A mean over *some* of them (examples with a label, pixels that
are not ignored, boxes, padding masked out) does not, because devices then average over different counts: `weighted_mean`
divides the global sum of the values by the global sum of the weights. Every device returns the same number, and the mean of
their gradients is the gradient under `jit`, because the transpose of a sum over devices is again a sum over devices.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from cnnlab.ops.keys import of_each

AXIS = "devices"
_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("mesh", default=None)


@contextlib.contextmanager
def split_over(mesh: Mesh) -> Iterator[None]:
    """Says of the code that is traced within that XLA splits its batches over the devices of a mesh."""
    token = _mesh.set(mesh)
    try:
        yield
    finally:
        _mesh.reset(token)


def by_device(function: Callable[..., jax.Array], x: jax.Array, *whole: jax.Array) -> jax.Array:
    """Applies a function of a batch [B, …], example by example, so that every device computes its own examples alone.

    XLA does that by itself but for loops over parts of a batch: there it gathers the batch, and all devices compute all of it.

    Args:
        function: takes a batch and what is whole on every device, and returns a batch.
        x: a batch [B, …].
        whole: arrays such as a kernel, by which the function may be differentiated, too.
    """
    mesh = _mesh.get()
    if mesh is None or mesh.size == 1 or x.shape[0] % mesh.size:
        return function(x, *whole)
    rows = PartitionSpec(AXIS)
    in_specs = (rows, *[PartitionSpec()] * len(whole))
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=rows, check_vma=False)(x, *whole)


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


def global_extremes(low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the least and the largest number of the global batch from those of the local one."""
    return (jax.lax.pmin(low, AXIS), jax.lax.pmax(high, AXIS)) if bound_axis() else (low, high)


def weighted_mean(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Returns Σ values·weights / Σ weights over the global batch, f32 [], the same on every device; 0 where all weights are 0.

    A value whose weight is 0 counts for nothing, even if it is not finite.

    Args:
        values: numbers [B, …], such as a loss of each example, box or pixel of the local batch.
        weights: weights >= 0 of the same shape: a mask (bool) or f32.

    Raises ValueError where the shapes differ: broadcast the weights first.
    """
    if values.shape != weights.shape:
        raise ValueError(
            f"values {values.shape} and weights {weights.shape} differ: broadcast the weights to the values' shape."
        )
    values, weights = values.astype(jnp.float32), weights.astype(jnp.float32)
    weighted = jnp.where(weights == 0, 0.0, values) * weights
    total, whole = global_sum((jnp.sum(weighted), jnp.sum(weights)))
    return total / jnp.where(whole == 0, 1.0, whole)


def gather(x: jax.Array) -> jax.Array:
    """Returns the global batch [B, …], in its order, of the local one's array [B / devices, …]; `jit` has it whole already.

    It is differentiable: an example's gradient is the sum of what every device computes from it. A loss over all pairs of
    examples can compare the local examples with the gathered ones and return the mean over the local ones.
    """
    # [B / devices, …] -> [B, …]: part d holds the examples from d · B / devices on
    return jax.lax.all_gather(x, AXIS, tiled=True) if bound_axis() else x


def positions(size: int) -> jax.Array:
    """Returns the positions i32 [size] of the local batch's `size` examples in the global batch."""
    offset = jax.lax.axis_index(AXIS) * size if bound_axis() else 0
    return jnp.arange(size, dtype=jnp.int32) + jnp.int32(offset)


def example_keys(key: jax.Array, size: int) -> jax.Array:
    """Returns one PRNG key for each example of the local batch, keys [size].

    Each key depends on the example's position in the global batch, so noise is the same on one device and on eight.
    """
    return of_each(key, positions(size))
