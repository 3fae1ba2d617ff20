"""Corruptions: how much they change, what they leave alone, and that the noise belongs to the example."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import corruptions
from cnnlab.ops.corruptions import CORRUPTIONS

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(0.2, 0.8, (64, 20, 20, 1)), jnp.float32)
KEYS = jax.random.split(jax.random.key(1), 64)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_noise_of_an_example_depends_on_its_own_key_alone(name: str):
    whole = CORRUPTIONS[name](IMAGES, KEYS)
    some = np.array([40, 3, 17])
    np.testing.assert_array_equal(CORRUPTIONS[name](IMAGES[some], KEYS[some]), whole[some])
    assert whole.shape == IMAGES.shape and whole.dtype == IMAGES.dtype
    if name == "none":
        np.testing.assert_array_equal(whole, IMAGES)
    else:
        assert not np.array_equal(whole[0] - IMAGES[0], whole[1] - IMAGES[1])


def test_gaussian_noise_has_its_mean_and_deviation():
    noise = np.asarray(corruptions.gaussian(IMAGES, KEYS, std=0.5) - IMAGES)
    assert abs(noise.mean()) < 5 * 0.5 / np.sqrt(noise.size) and abs(noise.std() - 0.5) < 0.01


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masking_zeroes_its_share_and_leaves_the_rest(rate: float):
    masked = np.asarray(corruptions.masking(IMAGES, KEYS, rate=rate))
    changed = masked != np.asarray(IMAGES)
    assert np.all(masked[changed] == 0) and abs(changed.mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / changed.size)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_salt_and_pepper_come_in_equal_shares(rate: float):
    noisy = np.asarray(corruptions.salt_and_pepper(IMAGES, KEYS, rate=rate))
    changed = noisy != np.asarray(IMAGES)
    sigma = np.sqrt(rate / 2 / changed.size)
    assert abs((noisy == 0).mean() - rate / 2) < 5 * sigma and abs((noisy == 1).mean() - rate / 2) < 5 * sigma
    assert np.all((noisy[changed] == 0) | (noisy[changed] == 1))


@pytest.mark.parametrize("name", ["masking", "salt_and_pepper"])
def test_rates_of_none_and_all(name: str):
    np.testing.assert_array_equal(CORRUPTIONS[name](IMAGES, KEYS, rate=0.0), IMAGES)
    assert set(np.unique(CORRUPTIONS[name](IMAGES, KEYS, rate=1.0))) <= {0.0, 1.0}


@pytest.mark.parametrize(("name", "knob"), [("gaussian", "std"), ("masking", "rate"), ("salt_and_pepper", "rate")])
def test_knobs_may_be_tracers(name: str, knob: str):
    function = CORRUPTIONS[name]
    traced = jax.jit(lambda value: function(IMAGES, KEYS, **{knob: value}))(jnp.float32(0.3))
    np.testing.assert_allclose(traced, functools.partial(function, **{knob: 0.3})(IMAGES, KEYS), atol=1e-6)
