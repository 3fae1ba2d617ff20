"""Averaged weights are evaluated with averaged statistics of batch normalisation, and with the rest of the state as it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from cnnlab.core import TrainState
from cnnlab.engine import averages


def test_only_statistics_of_batch_norm_are_found_wherever_they_lie():
    mean, queue = jnp.zeros(2), jnp.ones(3)
    state = {"generator": {"batch_stats": {"norm1": {"mean": mean}}}, "codebook": {"mean": queue}, "batch_stats": {"a": queue}}
    assert set(averages.batch_statistics(state)) == {"generator/batch_stats/norm1/mean", "batch_stats/a"}
    assert averages.batch_statistics({}) == {}


def test_what_is_evaluated_has_the_averages_and_the_rest_of_the_model_state():
    model_state = {"batch_stats": {"norm": {"mean": jnp.full(2, 5.0)}}, "seen": jnp.float32(7)}
    plain = TrainState(jnp.int32(0), jax.random.key(0), {"net": jnp.ones(1)}, model_state, {}, {})
    params, state = averages.evaluated(plain)
    assert params is plain.params and state is model_state
    averaged = dataclasses.replace(
        plain, average={"net": jnp.zeros(1)}, average_statistics={"batch_stats/norm/mean": jnp.full(2, 3.0)}
    )
    params, state = averages.evaluated(averaged)
    assert params["net"] == 0 and state["seen"] == 7
    np.testing.assert_array_equal(state["batch_stats"]["norm"]["mean"], 3.0)


def test_statistics_are_averaged_with_the_same_weights_as_the_parameters():
    """The average is linear: that of 2 x is twice that of x."""
    average = (jnp.zeros(1), jnp.zeros(1))
    for step in range(30):
        new = jnp.float32(step * step)[None]
        average = averages.next_average(average, (new, 2 * new), decay=0.9, step=jnp.int32(step))
    assert 0 < average[0] < 29 * 29 and average[1] == 2 * average[0]
