"""Mixtures of discretised logistics: probabilities add up, agree with the plain formula in f64 and with what is drawn."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops import logistic_mixture as mixture
from cnnlab.ops.pixel_distributions import PIXEL_DISTRIBUTIONS

random = np.random.default_rng(0)


def numbers(channels, components, scale=1.0):
    return jnp.asarray(scale * random.normal(size=mixture.parameter_count(channels, components)), jnp.float32)


def levels_of(levels):
    return 2 * np.arange(levels, dtype=np.float32) / (levels - 1) - 1


log_probability = jax.jit(mixture.log_probability, static_argnames="levels")


def probabilities(given, channels, levels):
    """f64 of every combination of levels, in order."""
    every = jnp.asarray(list(itertools.product(levels_of(levels), repeat=channels)), jnp.float32)
    return np.exp(np.asarray(log_probability(given[None], every, levels=levels), np.float64))


def test_a_pixel_has_three_numbers_a_component_in_grey_and_ten_in_colour():
    assert (
        mixture.parameter_count(1, 5) == 15 and mixture.parameter_count(3, 10) == 100
    )  # Salimans et al., the authors' nr_logistic_mix


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0, 30.0])
def test_256_levels_have_probabilities_that_add_up_to_one(scale):
    for components in (1, 5):
        total = probabilities(numbers(1, components, scale), 1, 256).sum()
        np.testing.assert_allclose(total, 1.0, rtol=2e-5)


def test_colours_have_probabilities_that_add_up_to_one():
    np.testing.assert_allclose(probabilities(numbers(3, 4), 3, 7).sum(), 1.0, rtol=1e-5)


def test_log_p_is_the_plain_formula_in_double_precision():
    levels, components = 256, 3
    given = numbers(1, components)
    logits, means, scales = np.asarray(given, np.float64).reshape(3, components)
    weights = np.exp(logits) / np.exp(logits).sum()

    def cumulative(x):
        return (weights / (1 + np.exp(-(x - means) / np.exp(scales)))).sum()

    edges = levels_of(levels).astype(np.float64)
    inside = [cumulative(x + 1 / 255) - cumulative(x - 1 / 255) for x in edges[1:-1]]
    expected = [cumulative(edges[0] + 1 / 255), *inside, 1 - cumulative(edges[-1] - 1 / 255)]
    np.testing.assert_allclose(probabilities(given, 1, levels), expected, rtol=1e-4)


def test_log_p_and_its_gradient_stay_finite_far_from_the_data():
    given = jnp.asarray([0.0, 40.0, -20.0], jnp.float32)
    value, gradient = jax.jit(
        jax.value_and_grad(lambda n: mixture.log_probability(n, jnp.asarray([-0.2], jnp.float32), levels=256))
    )(given)
    assert np.isfinite(value) and np.isfinite(gradient).all() and value < -1000


def test_a_channel_moves_the_mean_of_those_after_it_and_of_none_before():
    given, levels = numbers(3, 2), 6
    table = probabilities(given, 3, levels).reshape(levels, levels, levels)
    red = table.sum((1, 2))
    green_by_red = table.sum(2) / red[:, None]
    assert np.abs(green_by_red[0] - green_by_red[-1]).max() > 0.01
    changed = given.at[-2:].add(1.0)  # the slopes of blue on green
    other = probabilities(changed, 3, levels).reshape(levels, levels, levels)
    np.testing.assert_allclose(other.sum(2), table.sum(2), rtol=1e-4)
    assert np.abs(other - table).max() > 1e-4


def test_what_is_drawn_has_the_probabilities_that_log_p_says():
    channels, levels, count = 2, 4, 20_000
    given = numbers(channels, 3)
    keys = jax.jit(jax.vmap(jax.random.fold_in, in_axes=(None, 0)))(jax.random.key(0), jnp.arange(count))
    one = jnp.float32(1)
    drawn = jax.jit(jax.vmap(lambda key: mixture.draw(given, key, one, channels=channels, levels=levels)))(keys)
    place = np.rint((np.asarray(drawn) + 1) / 2 * (levels - 1)).astype(int)
    seen = np.bincount(place[:, 0] * levels + place[:, 1], minlength=levels**channels) / count
    expected = probabilities(given, channels, levels)
    assert (np.abs(seen - expected) < 5 * np.sqrt(expected * (1 - expected) / count) + 1e-6).all()


@pytest.mark.parametrize("name", PIXEL_DISTRIBUTIONS)
def test_a_low_temperature_draws_what_is_most_likely(name):
    output = PIXEL_DISTRIBUTIONS[name]() if name == "bernoulli" else PIXEL_DISTRIBUTIONS[name](levels=8)
    given = jnp.asarray(random.normal(size=output.parameter_count(1)), jnp.float32)
    values = jnp.arange(output.levels, dtype=jnp.float32)[:, None] / (output.levels - 1)
    if name == "mixture":  # one narrow component: the likeliest level is that of its mean
        given = jnp.concatenate([jnp.asarray([9.0, 0, 0, 0, 0]), jnp.full(5, 0.3), jnp.full(5, -2.0)]).astype(jnp.float32)
    best = values[np.argmax(jax.jit(output.log_p)(jnp.broadcast_to(given, (len(values), len(given))), values))]
    draw = jax.jit(output.draw, static_argnums=3)
    for seed in range(5):
        np.testing.assert_allclose(draw(given, jax.random.key(seed), jnp.float32(1e-3), 1), best, rtol=1e-6)
