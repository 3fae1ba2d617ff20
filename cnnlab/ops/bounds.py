"""Bounds and maxima whose gradient does not depend on how often XLA computes their input.

JAX's own derivative of a maximum looks for the operands that equal the result. XLA may compute an operand twice, once for the
result and once for the comparison, and round it differently; then no operand equals the result, and the gradient is lost
(`jnp.maximum`) or not a number (`jnp.max`, which divides by the number of equals). The functions here compare operands with
each other. A bound that lets no gradient pass where it holds is the usual subgradient at the bound itself, too.
"""

import jax
import jax.numpy as jnp


def at_least(x: jax.Array, low: float | jax.Array) -> jax.Array:
    """Returns x where it is above `low`, else `low`, through which no gradient passes to x.

    Args:
        x: numbers [...].
        low: a number, or an array with as many axes as x that broadcasts to it.
    """
    bound = jnp.asarray(low, x.dtype)
    return jnp.where(x <= bound, bound, x)  # what is not a number stays so


def at_most(x: jax.Array, high: float | jax.Array) -> jax.Array:
    """Returns x where it is below `high`, else `high`, through which no gradient passes to x.

    Args:
        x: numbers [...].
        high: a number, or an array with as many axes as x that broadcasts to it.
    """
    bound = jnp.asarray(high, x.dtype)
    return jnp.where(x >= bound, bound, x)


def between(x: jax.Array, low: float | jax.Array, high: float | jax.Array) -> jax.Array:
    """Returns x clipped to [low, high], each as in `at_least`."""
    return at_most(at_least(x, low), high)


def largest(x: jax.Array, axis: int) -> jax.Array:
    """Returns the largest numbers along an axis, which it removes; the gradient goes to the first place of each.

    Args:
        x: numbers [..., N, ...].
        axis: the place of N.
    """
    axis %= x.ndim
    first = jnp.expand_dims(jnp.argmax(x, axis), axis)  # i32 [..., 1, ...]
    places = jax.lax.broadcasted_iota(first.dtype, x.shape, axis)
    return jnp.sum(jnp.where(places == first, x, jnp.zeros((), x.dtype)), axis)
