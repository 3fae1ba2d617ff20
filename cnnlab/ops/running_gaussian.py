"""The mean and the covariance of a stream of vectors, and draws from the Gaussian that has them.

Letters in shapes: B examples of a batch, Z units of a vector, N draws.
"""

import jax
import jax.numpy as jnp

from cnnlab.ops import collectives

GaussianState = dict[str, jax.Array]
"""`batches` f32 [], `mean` f32 [Z], `covariance` f32 [Z, Z]."""


def start(size: int) -> GaussianState:
    """Of vectors of `size` units, before the first was seen."""
    return {
        "batches": jnp.zeros((), jnp.float32),
        "mean": jnp.zeros(size, jnp.float32),
        "covariance": jnp.zeros((size, size), jnp.float32),
    }


def update(moments: GaussianState, vectors: jax.Array, *, window: int) -> GaussianState:
    """With a batch of vectors [B, Z] more: of all up to `window` batches, from then on an exponential average over as many.

    The covariance stays positive semi-definite, and nothing large is subtracted from anything large.
    """
    vectors = jax.lax.stop_gradient(vectors.astype(jnp.float32))
    count = moments["batches"] + 1.0
    share = 1.0 / jnp.minimum(count, jnp.float32(window))
    mean = collectives.global_mean(jnp.mean(vectors, axis=0))
    apart = vectors - mean[None]
    own = collectives.global_mean(apart.T @ apart / jnp.float32(len(vectors)))
    shift = mean - moments["mean"]
    spread = (1.0 - share) * (moments["covariance"] + share * jnp.outer(shift, shift)) + share * own
    return {"batches": count, "mean": moments["mean"] + share * shift, "covariance": spread}


def draw(moments: GaussianState, keys: jax.Array, temperature: jax.Array) -> jax.Array:
    """f32 [N, Z]: one draw for each of keys [N] from the Gaussian, whose standard deviations `temperature` [] multiplies."""
    values, vectors = jnp.linalg.eigh(moments["covariance"])
    root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None]
    noise = jax.vmap(lambda key: jax.random.normal(key, moments["mean"].shape, jnp.float32))(keys)
    return moments["mean"][None] + temperature * (noise @ root.T)
