"""Bounds on log p(x) and the divergence in them."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.divergences import kl_to_standard_normal, normal_log_density
from cnnlab.ops.elbo import ElboTerms, elbo, importance_weighted, log_mean_exp

random = np.random.default_rng(0)
END = jnp.float32(1.0)


def draws(samples: int = 4, batch: int = 3, units: int = 2) -> ElboTerms:
    shapes = ((samples, batch), (samples, batch), (batch, units))
    first, second, third = (jnp.asarray(random.normal(size=shape), jnp.float32) for shape in shapes)
    return ElboTerms(first, second, jnp.abs(third))


def test_the_closed_form_of_the_divergence_is_its_mean_over_samples():
    mean, log_variance = jnp.float32([0.5, -1.0, 2.0]), jnp.float32([0.3, -2.0, 0.0])
    codes = mean[None] + jnp.exp(0.5 * log_variance)[None] * jax.random.normal(jax.random.key(0), (200_000, 3))
    zeros = jnp.zeros((1, 3), jnp.float32)
    found = normal_log_density(codes, mean[None], log_variance[None]) - normal_log_density(codes, zeros, zeros)
    error = float(jnp.std(found)) / np.sqrt(len(found))
    assert float(jnp.mean(found)) == pytest.approx(float(jnp.sum(kl_to_standard_normal(mean, log_variance))), abs=4 * error)
    assert error < 0.01 and np.all(kl_to_standard_normal(zeros, zeros) == 0)


def test_the_density_is_that_of_a_normal():
    found = normal_log_density(jnp.float32([1.0, 2.0]), jnp.float32([0.0, 2.0]), jnp.float32([0.0, np.log(4.0)]))
    assert float(found) == pytest.approx(-0.5 - np.log(2 * np.pi) - np.log(2), rel=1e-6)


def test_beta_weighs_the_divergence_and_annealing_lets_it_rise():
    seen = draws()
    cost, nats = float(jnp.sum(jnp.mean(seen.kl, axis=0))), -float(jnp.mean(seen.log_likelihood))
    assert float(elbo().loss(seen, END)) == pytest.approx(nats + cost, rel=1e-5)
    assert float(elbo(beta=4.0).loss(seen, jnp.float32(1e-4))) == pytest.approx(nats + 4 * cost, rel=1e-5)
    for progress, share in ((0.05, 0.25), (0.1, 0.5), (0.2, 1.0), (0.9, 1.0)):
        found = elbo(beta=4.0, anneal=0.2).loss(seen, jnp.float32(progress))
        assert float(found) == pytest.approx(nats + 4 * share * cost, rel=1e-5)


def test_free_bits_take_the_gradient_of_cheap_units_away():
    kl = jnp.float32([[0.1, 1.0], [0.2, 3.0]])

    def loss(kl: jax.Array) -> jax.Array:
        return elbo(free_bits=0.5).loss(ElboTerms(jnp.zeros((1, 2)), jnp.zeros((1, 2)), kl), END)

    assert float(loss(kl)) == pytest.approx(0.5 + 2.0)
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(kl), [[0.0, 0.5], [0.0, 0.5]])


def test_a_tighter_bound_with_more_samples():
    """Over all sets of k of the same eight samples, the mean of the bound rises with k; that of one is the plain bound."""
    weights = jnp.asarray(3 * random.normal(size=(8, 5)), jnp.float32)
    sets = [np.array(list(itertools.combinations(range(8), k))) for k in range(1, 9)]  # [N, k] each
    found = jax.jit(lambda weights: [jnp.mean(jax.vmap(log_mean_exp)(weights[chosen])) for chosen in sets])(weights)
    assert all(more > less for less, more in itertools.pairwise(found))
    assert float(found[0]) == pytest.approx(float(np.mean(weights)), rel=1e-4)


def test_the_importance_weighted_loss_is_minus_the_log_of_the_mean_weight():
    seen = draws(samples=6)
    expected = -np.mean(np.log(np.mean(np.exp(np.asarray(seen.log_likelihood + seen.log_ratio)), axis=0)))
    assert float(importance_weighted(samples=6).loss(seen, END)) == pytest.approx(expected, rel=1e-5)
    assert importance_weighted(samples=6).metric == "bound" and importance_weighted(samples=1).metric == "elbo"


def test_numbers_of_the_bound_may_be_tracers():
    seen = draws()
    found = jax.jit(lambda b, a, f: elbo(beta=b, anneal=a, free_bits=f).loss(seen, jnp.float32(0.1)))(2.0, 0.5, 0.3)
    assert float(found) == pytest.approx(float(elbo(beta=2.0, anneal=0.5, free_bits=0.3).loss(seen, jnp.float32(0.1))))
