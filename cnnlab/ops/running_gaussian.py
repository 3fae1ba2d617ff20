"""A running estimate of the mean and the covariance of a stream of vectors, and samples from that Gaussian or a box.

Letters in shapes: B examples of a batch, Z units of a vector, N samples.
"""

import jax
import jax.numpy as jnp

from cnnlab.ops import collectives

GaussianState = dict[str, jax.Array]
"""`batches` f32 [], `mean` f32 [Z], `covariance` f32 [Z, Z]."""


def start(size: int) -> GaussianState:
    """Returns the state for vectors of `size` units, before any batch."""
    return {
        "batches": jnp.zeros((), jnp.float32),
        "mean": jnp.zeros(size, jnp.float32),
        "covariance": jnp.zeros((size, size), jnp.float32),
    }


def update(state: GaussianState, vectors: jax.Array, *, window: int) -> GaussianState:
    """Adds a batch of vectors [B, Z]: a plain average of the first `window` batches, then an exponential average over as many.

    The covariance stays positive semi-definite, and no large numbers are subtracted from each other: what is averaged is the
    covariance of each batch, and the shift of the mean is added as an outer product.
    """
    vectors = jax.lax.stop_gradient(vectors.astype(jnp.float32))
    count = state["batches"] + 1.0
    share = 1.0 / jnp.minimum(count, jnp.float32(window))
    mean = collectives.global_mean(jnp.mean(vectors, axis=0))
    centred = vectors - mean[None]  # [B, Z]
    own = collectives.global_mean(centred.T @ centred / jnp.float32(len(vectors)))  # [Z, B] x [B, Z] -> [Z, Z]
    shift = mean - state["mean"]
    spread = (1.0 - share) * (state["covariance"] + share * jnp.outer(shift, shift)) + share * own
    return {"batches": count, "mean": state["mean"] + share * shift, "covariance": spread}


def draw(state: GaussianState, keys: jax.Array, temperature: jax.Array) -> jax.Array:
    """Draws one sample for each of keys [N], f32 [N, Z]; `temperature` f32 [] multiplies the standard deviations."""
    values, vectors = jnp.linalg.eigh(state["covariance"])
    # A square root of the covariance, which exists where it is singular too (Cholesky's does not).
    root = vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None]
    noise = jax.vmap(lambda key: jax.random.normal(key, state["mean"].shape, jnp.float32))(keys)
    return state["mean"][None] + temperature * (noise @ root.T)


def draw_box(state: GaussianState, keys: jax.Array, temperature: jax.Array) -> jax.Array:
    """Draws one sample for each of keys [N], f32 [N, Z], uniformly from the box with each unit's mean and standard deviation.

    The units are independent. `temperature` f32 [] multiplies the sides of the box.
    """
    # A uniform variable on [−√3, √3] has the variance 1.
    half = jnp.sqrt(3.0 * jnp.diagonal(state["covariance"]))  # [Z, Z] -> [Z]
    noise = jax.vmap(lambda key: jax.random.uniform(key, state["mean"].shape, jnp.float32, -1.0, 1.0))(keys)
    return state["mean"][None] + temperature * half[None] * noise
