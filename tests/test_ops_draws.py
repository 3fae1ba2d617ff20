"""Random numbers of any precision are those of f32, rounded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import draws


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_numbers_of_any_precision_are_those_of_f32_rounded(dtype):
    key = jax.random.key(3)
    for found, expected in (
        (draws.normal(key, (64,), dtype), jax.random.normal(key, (64,))),
        (draws.uniform(key, (64,), dtype, -1.0, 1.0), jax.random.uniform(key, (64,), minval=-1.0, maxval=1.0)),
    ):
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, expected.astype(dtype))
