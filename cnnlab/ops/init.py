"""Initialisers of kernels: `initializer(key, shape, dtype, *, …) -> Array`.

A kernel is [..., I, O] (I inputs, O outputs, the axes before them space); its fan-in is space · I and its fan-out space · O.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jax.nn import initializers

from cnnlab.values import Positive

Distribution = Literal["uniform", "normal"]


def zeros(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Returns zeros: right for one layer; in a deeper network the units of a layer stay equal for ever."""
    return jnp.zeros(shape, dtype)


def normal(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32, *, std: Positive = 0.01) -> jax.Array:
    """Draws from a Gaussian of the same width in every layer (0.01: Krizhevsky et al. 2012, section 5).

    Args:
        std: standard deviation.
    """
    return jnp.asarray(std, dtype) * jax.random.normal(key, shape, dtype)


def lecun(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32, *, distribution: Distribution = "normal"
) -> jax.Array:
    """Draws with variance 1 / fan-in (LeCun et al. 1998, Efficient BackProp, eq. 16).

    Args:
        distribution: uniform or normal.
    """
    return initializers.variance_scaling(1.0, "fan_in", distribution)(key, shape, dtype)


def lecun_1998(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Draws uniformly from ± 2.4 / fan-in (LeCun et al. 1998, Gradient-based learning, Appendix A)."""
    fan_in = 1
    for size in shape[:-1]:
        fan_in *= size
    return jax.random.uniform(key, shape, dtype, -2.4 / fan_in, 2.4 / fan_in)


def xavier(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32, *, distribution: Distribution = "uniform"
) -> jax.Array:
    """Draws with variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010, eq. 16), which keeps the scale through tanh layers.

    Args:
        distribution: uniform or normal.
    """
    return initializers.variance_scaling(1.0, "fan_avg", distribution)(key, shape, dtype)


def he(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32, *, distribution: Distribution = "normal"
) -> jax.Array:
    """Draws with variance 2 / fan-in (He et al. 2015, arXiv 1502.01852, eq. 10), which keeps the scale through ReLU layers.

    Args:
        distribution: uniform or normal.
    """
    return initializers.variance_scaling(2.0, "fan_in", distribution)(key, shape, dtype)


def orthogonal(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32, *, gain: Positive = 1.0) -> jax.Array:
    """Draws orthonormal rows or columns of the kernel as a matrix [space · I, O] (Saxe et al. 2014, arXiv 1312.6120).

    Args:
        gain: factor; the square root of 2 suits ReLU.
    """
    return jnp.asarray(gain, dtype) * initializers.orthogonal()(key, shape, dtype)


def partial_identity(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Passes each input on unchanged to an output of its own; outputs beyond the inputs are drawn uniformly from ± 1/√fan-in.

    The identity lies in the middle of the kernel (Jordan 2024, arXiv 2404.00498, section 3.3).
    """
    *space, inputs, outputs = shape
    drawn = initializers.variance_scaling(1 / 3, "fan_in", "uniform")(key, shape, dtype)
    count = min(inputs, outputs)
    middle = tuple(size // 2 for size in space)
    identity = jnp.zeros((*space, inputs, count), dtype).at[middle].set(jnp.eye(inputs, count, dtype=dtype))
    return jnp.concatenate([identity, drawn[..., count:]], axis=-1)


INITIALIZERS: dict[str, Callable[..., jax.Array]] = {
    "zeros": zeros,
    "normal": normal,
    "lecun": lecun,
    "lecun_1998": lecun_1998,
    "xavier": xavier,
    "he": he,
    "orthogonal": orthogonal,
    "partial_identity": partial_identity,
}
