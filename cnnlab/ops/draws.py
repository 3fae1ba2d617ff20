"""Random numbers that do not depend on the precision in which a network computes.

jax draws a number of half precision from 16 random bits: another number than in f32 with the same key, and one of a few
thousand, of which uniform ones in bf16 lie on a grid of 1/128. These draw in at least f32 and round.
"""

from typing import Any

import jax
import jax.numpy as jnp


def normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Returns standard normal numbers of a dtype."""
    return jax.random.normal(key, shape, _wide(dtype)).astype(dtype)


def uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any, low: float = 0.0, high: float = 1.0) -> jax.Array:
    """Returns uniform numbers of a dtype, at least `low` and below `high` up to rounding."""
    return jax.random.uniform(key, shape, _wide(dtype), low, high).astype(dtype)


def _wide(dtype: Any) -> Any:
    """Returns f32 in place of a dtype of half precision."""
    return jnp.float64 if dtype == jnp.float64 else jnp.float32
