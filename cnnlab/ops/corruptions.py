"""Corruptions of a denoising autoencoder's input: `corrupt(x f32 [B, …], keys [B], *, …) -> f32 [B, …]`.

The reconstruction target is the clean x. Each example is corrupted by its own key, so that the noise does not depend on how
many devices share the batch. Vincent et al. 2010 (JMLR 11, section 3.3). Float knobs may be tracers.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from cnnlab.ops import draws
from cnnlab.values import Positive, Probability


def no_corruption(x: jax.Array, keys: jax.Array) -> jax.Array:
    """Returns x itself, for an ordinary autoencoder."""
    return x


def gaussian(x: jax.Array, keys: jax.Array, *, std: Positive = 0.3) -> jax.Array:
    """Adds isotropic Gaussian noise.

    Args:
        std: standard deviation; images are in [0, 1].
    """
    return x + jnp.asarray(std, x.dtype) * jax.vmap(lambda key: draws.normal(key, x.shape[1:], x.dtype))(keys)


def masking(x: jax.Array, keys: jax.Array, *, rate: Probability = 0.25) -> jax.Array:
    """Sets values to 0 at random.

    Deviation: each value is set with a probability, where the paper sets a fixed number of the values of each example.

    Args:
        rate: probability that a value is set.
    """
    return jnp.where(_uniform(x, keys) < rate, jnp.zeros_like(x), x)


def salt_and_pepper(x: jax.Array, keys: jax.Array, *, rate: Probability = 0.25) -> jax.Array:
    """Sets values at random to 0 or 1, the smallest and the largest of an image, with equal probability.

    Deviation: each value is set with a probability, as in `masking`.

    Args:
        rate: probability that a value is set.
    """
    # One uniform number decides both: below rate / 2 the value becomes 1, from there to rate 0.
    uniform, probability = _uniform(x, keys), jnp.asarray(rate, jnp.float32)
    return jnp.where(uniform < probability, (uniform < probability / 2).astype(x.dtype), x)


def _uniform(x: jax.Array, keys: jax.Array) -> jax.Array:
    """Draws f32 in [0, 1) for each value of x, [B, …]."""
    return jax.vmap(lambda key: jax.random.uniform(key, x.shape[1:], jnp.float32))(keys)


CORRUPTIONS: dict[str, Callable[..., jax.Array]] = {
    "none": no_corruption,
    "gaussian": gaussian,
    "masking": masking,
    "salt_and_pepper": salt_and_pepper,
}
"""Corruptions by name, for `Choice[CORRUPTIONS]`."""
