"""Losses that compare the views of an image with those of others, over the global batch.

Letters in shapes: b images of the local batch, B of the global one, D numbers of a projection, Q entries of a queue.
"""

import jax
import jax.numpy as jnp

from cnnlab.ops import collectives
from cnnlab.ops.bounds import at_least

SMALLEST_NORM = 1e-4
"""Length below which a vector is not brought to 1, since the gradient grows with what it is multiplied by."""


def normalised(vectors: jax.Array) -> jax.Array:
    """Returns vectors [..., D] of length 1; those below SMALLEST_NORM are divided by that, so that zeros stay zeros."""
    squares = jnp.sum(vectors * vectors, axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(at_least(squares, SMALLEST_NORM**2))


def nt_xent(first: jax.Array, second: jax.Array, *, temperature: float) -> tuple[jax.Array, jax.Array]:
    """Returns the loss f32 [b] of each image, and whether each of its views finds the other, as a share f32 [b].

    The normalised temperature-scaled cross-entropy (Chen et al. 2020, arXiv 2002.05709, equation 1) is that of finding the
    other view among all 2B − 1 other views of the global batch; an image's loss is the mean of those of its two views. Where
    views say nothing it is ln(2B − 1).

    Args:
        first: projections f32 [b, D] of one view of each image, of length 1.
        second: those of the other.
        temperature: number by which cosines are divided.
    """
    everyone = jnp.concatenate([collectives.gather(first), collectives.gather(second)])  # [2B, D]
    half, own = len(everyone) // 2, collectives.positions(len(first))

    def found(anchors: jax.Array, self: jax.Array, other: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns the losses and hits f32 [b] of anchors at the places `self`, whose other view is at `other`, i32 [b]."""
        similarity = _products(anchors, everyone) / temperature  # [b, 2B]
        similarity = jnp.where(jnp.arange(2 * half)[None] == self[:, None], -jnp.inf, similarity)
        right = jnp.take_along_axis(similarity, other[:, None], axis=1)[:, 0]  # [b, 2B] at [b, 1] -> [b]
        return jax.nn.logsumexp(similarity, axis=1) - right, (jnp.argmax(similarity, axis=1) == other).astype(jnp.float32)

    one, two = found(first, own, own + half), found(second, own + half, own)
    return (one[0] + two[0]) / 2, (one[1] + two[1]) / 2


def info_nce(queries: jax.Array, keys: jax.Array, queue: jax.Array, *, temperature: float) -> tuple[jax.Array, jax.Array]:
    """Returns the loss f32 [b] of finding a query's own key before all of a queue, and whether it is found, f32 [b].

    He et al. 2020 (arXiv 1911.05722), equation 1. Where queries say nothing it is ln(Q + 1).

    Args:
        queries: f32 [b, D] of length 1.
        keys: f32 [b, D] of length 1.
        queue: f32 [Q, D] of length 1.
        temperature: number by which cosines are divided.
    """
    own = jnp.sum(queries * keys, axis=1, keepdims=True)  # [b, 1]
    similarity = jnp.concatenate([own, _products(queries, queue)], axis=1) / temperature  # [b, 1 + Q]
    hits = (jnp.argmax(similarity, axis=1) == 0).astype(jnp.float32)
    return jax.nn.logsumexp(similarity, axis=1) - similarity[:, 0], hits


def _products(left: jax.Array, right: jax.Array) -> jax.Array:
    """Returns the products [b, N] of vectors [b, D] and [N, D]."""
    return jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)
