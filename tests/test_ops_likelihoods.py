"""Likelihoods of images: probabilities that sum to one, densities as scipy has them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from cnnlab.ops.likelihoods import LIKELIHOODS, bernoulli, discretized_logistic, gaussian

random = np.random.default_rng(0)


def images(*shape: int) -> jax.Array:
    return jnp.asarray(random.uniform(size=shape), jnp.float32)


def test_bernoulli_of_all_binary_images_sums_to_one():
    logits = jnp.asarray(random.normal(size=(1, 2, 3, 1)) * 3, jnp.float32)
    every = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=6)), jnp.float32).reshape(64, 2, 3, 1)
    assert float(jnp.sum(jnp.exp(bernoulli().log_p(logits, every)))) == pytest.approx(1.0, rel=1e-5)


def test_bernoulli_of_grey_levels_is_the_mean_over_images_drawn_from_them():
    logits, grey = jnp.asarray(random.normal(size=(1, 1, 4, 1)), jnp.float32), images(1, 1, 4, 1)
    every = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=4)), jnp.float32).reshape(16, 1, 4, 1)
    weight = jnp.prod(jnp.where(every > 0, grey, 1 - grey), axis=(1, 2, 3))
    expected = jnp.sum(weight * bernoulli().log_p(logits, every))
    np.testing.assert_allclose(bernoulli().log_p(logits, grey), [expected], rtol=1e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_discretized_logistic_sums_to_one_over_its_levels(levels: int):
    log_p = jax.jit(discretized_logistic(levels=levels).log_p)
    each = (np.arange(levels, dtype=np.float32) / np.float32(levels - 1)).reshape(-1, 1, 1, 1)
    for mean, log_scale in itertools.product((-0.3, 0.0, 0.5, 0.98, 1.4), (-9.0, -5.0, -2.0, 1.0, 9.0)):
        parameters = np.broadcast_to(np.float32([mean, log_scale]), (levels, 1, 1, 2))
        assert np.sum(np.exp(log_p(parameters, each))) == pytest.approx(1.0, abs=2e-4), (mean, log_scale)


def test_discretized_logistic_is_a_difference_of_distribution_functions():
    mean, scale, level = 0.4, 0.05, np.arange(1, 255)
    expected = stats.logistic.logcdf((level + 0.5) / 255, mean, scale)
    expected = np.log(np.exp(expected) - stats.logistic.cdf((level - 0.5) / 255, mean, scale))
    parameters = jnp.broadcast_to(jnp.float32([mean, np.log(scale)]), (254, 1, 1, 2))
    found = discretized_logistic().log_p(parameters, jnp.asarray(level / 255, jnp.float32).reshape(-1, 1, 1, 1))
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_gradients_are_finite_far_from_the_image():
    for name, make in LIKELIHOODS.items():
        p = make()
        slope = jax.jit(jax.grad(lambda x, colour, p=p: jnp.sum(p.log_p(x, jnp.full((1, 1, 2, 1), colour)))))
        for value in (-300.0, 300.0):
            parameters = jnp.full((1, 1, 2, p.outputs), value, jnp.float32)
            for colour in (0.0, 0.3, 1.0):
                assert np.all(np.isfinite(slope(parameters, colour))), (name, value, colour)


def test_gaussian_is_scipys_density():
    mean, x = images(3, 2, 2, 1), images(3, 2, 2, 1)
    expected = stats.norm.logpdf(np.asarray(x), np.asarray(mean), 0.2).sum((1, 2, 3))
    np.testing.assert_allclose(gaussian(scale=0.2).log_p(mean, x), expected, rtol=1e-5)
    spread = jnp.asarray(random.normal(size=(3, 2, 2, 1)), jnp.float32)
    deviation = 0.2 + np.log1p(np.exp(np.asarray(spread)))
    expected = stats.norm.logpdf(np.asarray(x), np.asarray(mean), deviation).sum((1, 2, 3))
    both = jnp.concatenate([mean, spread], axis=3)
    np.testing.assert_allclose(gaussian(scale=0.2, learned=True).log_p(both, x), expected, rtol=1e-5)


def test_every_likelihood_sums_over_colours_and_keeps_samples_apart():
    for make in LIKELIHOODS.values():
        p, x = make(), images(1, 2, 3, 3, 3)
        parameters = jnp.asarray(random.normal(size=(5, 2, 3, 3, 3 * p.outputs)), jnp.float32)
        found, mean = jax.device_get(jax.jit(lambda of, x, p=p: (p.log_p(of, x), p.mean(of)))(parameters, x))
        assert found.shape == (5, 2) and mean.shape == (5, 2, 3, 3, 3)
        np.testing.assert_allclose(found[4, 1], jax.jit(p.log_p)(parameters[4, 1], x[0, 1]), rtol=1e-5)
        assert mean.min() >= 0.0 and mean.max() <= 1.0


def test_a_number_may_be_a_tracer():
    x = images(1, 2, 2, 1)
    found = jax.jit(lambda scale: gaussian(scale=scale).log_p(x, 0.5 * x))(0.3)
    np.testing.assert_allclose(found, gaussian(scale=0.3).log_p(x, 0.5 * x), rtol=1e-5)
