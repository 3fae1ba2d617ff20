"""Activation functions of one array, of any shape and float type. Their keyword arguments may be tracers."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from cnnlab.ops.bounds import at_most
from cnnlab.values import NonNegative, Positive


def identity(x: jax.Array) -> jax.Array:
    """Returns x itself; a deep network of these is linear."""
    return x


def step(x: jax.Array) -> jax.Array:
    """Returns 1 where x >= 0, else 0 (McCulloch and Pitts 1943). Its gradient is 0 everywhere, so nothing below it learns."""
    return (x >= 0).astype(x.dtype)


def scaled_tanh(x: jax.Array) -> jax.Array:
    """Returns 1.7159 tanh(2x/3), which maps ±1 to ±1 (LeCun et al. 1998, Appendix A)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def relu6(x: jax.Array) -> jax.Array:
    """Clips x to [0, 6] (Howard et al. 2017, arXiv 1704.04861, as in the authors' code)."""
    return at_most(jax.nn.relu(x), 6.0)


def leaky_relu(x: jax.Array, *, slope: NonNegative = 0.01) -> jax.Array:
    """Returns x where it is positive, else slope · x (Maas et al. 2013).

    Args:
        slope: slope below zero.
    """
    return jnp.where(x >= 0, x, x * _like(slope, x))


def prelu(x: jax.Array, *, slope: NonNegative = 0.25) -> jax.Array:
    """Applies a leaky ReLU with a learned slope, one for each use (He et al. 2015, arXiv 1502.01852, channel-shared).

    It has a parameter, so it works only inside the `__call__` of a Linen module.

    Args:
        slope: initial slope below zero.
    """
    return nn.PReLU(negative_slope_init=slope)(x)


def elu(x: jax.Array, *, alpha: Positive = 1.0) -> jax.Array:
    """Returns x where it is positive, else alpha (exp(x) − 1) (Clevert et al. 2016, arXiv 1511.07289).

    Args:
        alpha: minus the limit for x far below zero.
    """
    return jax.nn.elu(x, _like(alpha, x))


def gelu(x: jax.Array, *, approximate: bool = False) -> jax.Array:
    """Returns x Φ(x), Φ the standard normal distribution function (Hendrycks and Gimpel 2016, arXiv 1606.08415).

    Args:
        approximate: whether Φ is approximated by tanh, as in the first GPT.
    """
    return jax.nn.gelu(x, approximate=approximate)


def _like(knob: float, x: jax.Array) -> jax.Array:
    return jnp.asarray(knob, x.dtype)


ACTIVATIONS: dict[str, Callable[..., jax.Array]] = {
    "identity": identity,
    "step": step,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "scaled_tanh": scaled_tanh,
    "softsign": jax.nn.soft_sign,
    "softplus": jax.nn.softplus,
    "relu": jax.nn.relu,
    "relu6": relu6,
    "leaky_relu": leaky_relu,
    "prelu": prelu,
    "elu": elu,
    "gelu": gelu,
    "silu": jax.nn.silu,
}

PARAMETER_FREE = {name: function for name, function in ACTIVATIONS.items() if function is not prelu}
"""Those without a parameter, which also work outside the `__call__` of a module and in a loop of jax.lax."""
