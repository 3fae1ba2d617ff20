"""The dtype in which losses and statistics are computed."""

import jax
import jax.numpy as jnp


def at_least_f32(x: jax.Array) -> jax.Array:
    """Returns x in f32 where it has half precision or whole numbers, since sums need the digits; f64 stays f64."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)
