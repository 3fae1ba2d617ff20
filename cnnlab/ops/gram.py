"""Gram matrices of feature maps, which describe a texture without its places (Gatys, Ecker and Bethge 2015, arXiv 1505.07376).

Letters in shapes: B batch, H W space, C channels.
"""

import jax
import jax.numpy as jnp

from cnnlab.ops.precision import at_least_f32

TINY = 1e-12


def gram(features: jax.Array) -> jax.Array:
    """Returns the means over space of products of two channels (eq. 1, over H·W), f32 [B, C, C], of features [B, H, W, C]."""
    batch, height, width, channels = features.shape
    rows = at_least_f32(features).reshape(batch, height * width, channels)  # [B, H, W, C] -> [B, H·W, C]
    return jnp.matmul(rows.swapaxes(1, 2), rows) / (height * width)


def relative_distance(values: jax.Array, target: jax.Array) -> jax.Array:
    """Returns ‖values − target‖² / ‖target‖² of each example, f32 [B].

    Deviation: Gatys et al. 2015 (eq. 3) and Johnson et al. 2016 divide by the number of values. Divided by the target's own
    size, layers weigh the same whatever the scale of their activations, in any network.

    Args:
        values: numbers [B, …].
        target: numbers [B, …], or [1, …] for one target of all examples.
    """
    wide, aim = at_least_f32(values), at_least_f32(target)
    aim = jnp.broadcast_to(aim, wide.shape)  # [1, …] -> [B, …]
    axes = tuple(range(1, wide.ndim))
    return jnp.sum((wide - aim) ** 2, axes) / jnp.maximum(jnp.sum(aim**2, axes), TINY)
