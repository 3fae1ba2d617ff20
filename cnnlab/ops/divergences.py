"""Divergences between distributions, in nats."""

import math

import jax
import jax.numpy as jnp


def kl_to_standard_normal(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Returns KL(N(mean, variance) ‖ N(0, 1)) >= 0 of each unit (Kingma and Welling 2014, arXiv 1312.6114, appendix B).

    Args:
        mean: f32 [..., Z].
        log_variance: natural logarithm of the variance, f32 [..., Z].
    """
    return 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance)


def normal_log_density(points: jax.Array, mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Returns log N(points; mean, variance), summed over the last axis: [..., Z] -> [...]."""
    each = jnp.square(points - mean) * jnp.exp(-log_variance) + log_variance + math.log(2 * math.pi)
    return -0.5 * jnp.sum(each, axis=-1)
