"""The dtype in which losses and statistics are computed."""

import jax
import numpy as np


def at_least_f32(x: jax.Array) -> jax.Array:
    """Returns x in f32 where it has half precision, since sums over a batch need more digits; f64 stays f64."""
    return x.astype(np.promote_types(x.dtype, np.float32))
