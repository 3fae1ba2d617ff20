"""The way between two codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.slerp import slerp


def test_slerp_begins_and_ends_at_its_ends():
    start, end = jax.random.normal(jax.random.key(0), (2, 20))
    np.testing.assert_allclose(slerp(start, end, jnp.float32(0)), start, rtol=1e-5)
    np.testing.assert_allclose(slerp(start, end, jnp.float32(1)), end, rtol=1e-5)


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_slerp_goes_round_the_circle_at_an_even_pace(share: float):
    angle = 1.9
    found = slerp(jnp.array([2.0, 0.0]), 4 * jnp.array([np.cos(angle), np.sin(angle)], jnp.float32), jnp.float32(share))
    np.testing.assert_allclose(np.arctan2(found[1], found[0]), share * angle, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found), 2 + 2 * share, rtol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_slerp_of_parallel_codes_is_the_straight_way(factor: float):
    start = jnp.array([0.6, 0.8])
    found = slerp(start, factor * start, jnp.float32(0.5))
    np.testing.assert_allclose(found, (1 + factor) / 2 * start, rtol=1e-5)
