"""Local response normalisation, by which neighbouring channels inhibit one another."""

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.values import Count, NonNegative, Positive


def local_response_normalization(
    x: jax.Array, *, size: Count = 5, alpha: NonNegative = 1e-4, beta: NonNegative = 0.75, k: Positive = 2.0
) -> jax.Array:
    """Returns x / (k + α/n Σ x²)^β for x [..., C], the sum over n adjacent channels (Krizhevsky et al. 2012, section 3.3).

    Deviation: the paper multiplies the sum by α; Caffe and PyTorch, whose numbers are published, by α / n, as here.

    Args:
        size: n, number of neighbouring channels, the channel itself in the middle.
        alpha: α.
        beta: β.
        k: k; 2 in the paper, 1 in Caffe's files.
    """
    low, high = size // 2, (size - 1) // 2
    padded = jnp.pad(x * x, [(0, 0)] * (x.ndim - 1) + [(low, high)])
    window = (1,) * (x.ndim - 1) + (size,)
    total = jax.lax.reduce_window(padded, np.zeros((), x.dtype), jax.lax.add, window, (1,) * x.ndim, "VALID")
    scale = jnp.asarray(k, x.dtype) + jnp.asarray(alpha / size, x.dtype) * total
    return x * scale ** jnp.asarray(-beta, x.dtype)
