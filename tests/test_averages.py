"""Averaged weights are evaluated with averaged statistics of batch normalisation, and with the rest of the state as it is."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab import knobs
from cnnlab.core import TrainState
from cnnlab.engine import averages
from cnnlab.ops.averaging import Averaging, ema, swa
from cnnlab.recipes.classification import classification


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


@pytest.mark.parametrize("averaging", [ema(30, average_decay=0.9), swa(30)])
def test_statistics_are_averaged_with_the_same_weights_as_the_parameters(averaging: Averaging):
    """The average is linear: that of 2 x is twice that of x."""
    average = (jnp.zeros(1), jnp.zeros(1))
    for step in range(30):
        new = jnp.float32(step * step)[None]
        average = averaging(average, (new, 2 * new), jnp.int32(step))
    assert 0 < average[0] < 29 * 29 and average[1] == 2 * average[0]


def test_stochastic_weight_averaging_weighs_all_steps_from_its_start_on_alike_and_follows_the_weights_before():
    weights, average = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32), jnp.zeros(3)
    for step, new in enumerate(weights):
        average = swa(12, average_from=0.5)(average, jnp.asarray(new), jnp.int32(step))
        expected = new if step < 6 else weights[6 : step + 1].mean(axis=0)
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-6)


def test_the_exponential_average_has_its_warm_up_and_no_decay_means_none():
    averaging = ema(100, average_decay=0.5)
    assert averaging is not None and ema(100) is None
    for step, kept in [(0, 0.1), (2, 0.25), (50, 0.5)]:
        assert averaging(jnp.float32(1), jnp.float32(0), jnp.int32(step)) == pytest.approx(kept, rel=1e-6)


def test_knobs_of_older_runs_name_the_exponential_average_and_others_can_be_chosen():
    given = {"dataset": "digits", "model": "linear", "duration": "8 steps"}
    plain, older, other = (
        knobs.resolve(classification, given | more) for more in ({}, {"average_decay": 0.9}, {"average": "swa"})
    )
    assert older.values["average"] == "ema" and older.values["average.average_decay"] == 0.9
    assert knobs.resolve(classification, given | {"average_decay": 0.0}).digest == plain.digest
    assert other.values["average.average_from"] == 0.75
