"""What a classifier may learn from examples without labels: losses f32 [U], one number for each, and how their weight rises.

Letters in shapes: U examples without labels, K classes.
"""

import jax
import jax.numpy as jnp

from cnnlab.ops.bounds import between, largest
from cnnlab.ops.metrics import predicted


def entropy(logits: jax.Array) -> jax.Array:
    """Returns −Σ_k p_k log p_k in nats, p the softmax of logits [U, K] (Grandvalet and Bengio 2005, eq. 6)."""
    log_p = jax.nn.log_softmax(logits, axis=1)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=1)


def squared_gap(logits: jax.Array, others: jax.Array) -> jax.Array:
    """Returns the mean over the classes of (p_k − q_k)², p and q the softmax of both logits [U, K].

    It is the unsupervised part of the loss of Laine and Aila 2017 (arXiv 1610.02242, algorithm 1).
    """
    return jnp.mean(jnp.square(jax.nn.softmax(logits, axis=1) - jax.nn.softmax(others, axis=1)), axis=1)


def confidence(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the likeliest class i32 [U] (−1, none, where a logit is NaN) and its probability [U], from logits [U, K]."""
    return predicted(logits), largest(jax.nn.softmax(logits, axis=1), 1)


def linear_rise(progress: jax.Array, start: float | jax.Array, end: float | jax.Array) -> jax.Array:
    """Returns a weight f32 [] that is 0 up to `start`, 1 from `end` on, and linear between (Lee 2013, eq. 16).

    Args:
        progress: share of training that is over, f32 [].
        start: share of training at which it begins to rise.
        end: share of training from which on it is 1; where it is not after `start`, the weight leaps there.
    """
    start, end = jnp.asarray(start, jnp.float32), jnp.asarray(end, jnp.float32)
    return between((progress - start) / jnp.maximum(end - start, 1e-9), 0.0, 1.0)


def gaussian_rise(progress: jax.Array, end: float | jax.Array) -> jax.Array:
    """Returns a weight f32 [] of exp(−5 (1 − t)²), t from 0 to 1 at `end` (Laine and Aila 2017, section 2.1).

    Args:
        progress: share of training that is over, f32 [].
        end: share of training from which on it is 1; 0: it always is.
    """
    reached = between((progress + 1e-9) / jnp.maximum(jnp.asarray(end, jnp.float32), 1e-9), 0.0, 1.0)
    return jnp.exp(-5.0 * jnp.square(1.0 - reached))
