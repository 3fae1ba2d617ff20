"""Penalties of codes against closed forms and the whole Jacobian; fidelities; moments of codes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import rel_entr

from cnnlab.ops import penalties, reconstruction_losses, running_gaussian
from cnnlab.ops.collectives import AXIS

random = np.random.default_rng(0)
INPUTS = jnp.asarray(random.uniform(size=(5, 4, 3, 1)), jnp.float32)
KERNEL = jnp.asarray(random.normal(size=(12, 7)), jnp.float32)
DEEPER = jnp.asarray(random.normal(size=(7, 4)), jnp.float32)


def one_layer(inputs: jax.Array, kernel: jax.Array = KERNEL) -> jax.Array:
    return jax.nn.sigmoid(inputs.reshape(len(inputs), -1) @ kernel)


def two_layers(inputs: jax.Array, kernel: jax.Array = KERNEL) -> jax.Array:
    return jnp.tanh(one_layer(inputs, kernel) @ DEEPER)


def by_whole_jacobian(encode, inputs: jax.Array) -> jax.Array:
    whole = jax.jit(jax.vmap(jax.jacobian(lambda image: encode(image[None])[0])))(inputs)
    return jnp.sum(whole**2, axis=(1, 2, 3, 4))


@pytest.mark.parametrize("encode", [one_layer, two_layers])
def test_squared_jacobian_equals_that_of_the_whole_jacobian_with_its_gradient(encode):
    units = encode(INPUTS).shape[1]
    np.testing.assert_allclose(penalties.squared_jacobian(encode, INPUTS, units), by_whole_jacobian(encode, INPUTS), rtol=1e-5)
    ours = jax.jit(
        jax.grad(lambda kernel: penalties.contractive(lambda x: encode(x, kernel), INPUTS, encode(INPUTS), weight=2.0))
    )(KERNEL)
    theirs = jax.jit(jax.grad(lambda kernel: 2.0 * by_whole_jacobian(lambda x: encode(x, kernel), INPUTS).mean()))(KERNEL)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_contraction_of_a_sigmoid_layer_is_the_published_closed_form():
    h = one_layer(INPUTS)
    closed = ((h * (1 - h)) ** 2) @ (KERNEL**2).sum(0)  # Rifai et al. 2011, eq. 7
    np.testing.assert_allclose(penalties.squared_jacobian(one_layer, INPUTS, 7), closed, rtol=1e-5)


def test_sparse_kl_is_zero_at_its_target_and_the_divergence_of_coins_elsewhere():
    codes = jnp.asarray([[0.1, 0.3], [0.3, 0.7]], jnp.float32)
    mean = codes.mean(0)
    expected = rel_entr(0.2, mean) + rel_entr(0.8, 1 - mean)
    np.testing.assert_allclose(
        penalties.sparse_kl(one_layer, INPUTS, codes, rho=0.2, weight=3.0), 3 * expected.sum(), rtol=1e-5
    )
    assert abs(penalties.sparse_kl(one_layer, INPUTS, jnp.full((4, 3), 0.2), rho=0.2)) < 1e-6
    dead = penalties.sparse_kl(one_layer, INPUTS, jnp.zeros((4, 3)), rho=0.2)
    assert jnp.isfinite(dead) and dead > 1


def test_sparse_l1_is_the_mean_sum_of_magnitudes():
    codes = jnp.asarray([[1.0, -2.0], [0.5, 0.0]], jnp.float32)
    np.testing.assert_allclose(penalties.sparse_l1(one_layer, INPUTS, codes, weight=0.1), 0.1 * (3.0 + 0.5) / 2, rtol=1e-6)


def test_sparse_kl_of_a_split_batch_is_that_of_the_whole_with_its_gradient():
    batch = jnp.asarray(random.uniform(size=(8, 12)), jnp.float32)

    def loss(kernel: jax.Array, inputs: jax.Array) -> jax.Array:
        return penalties.sparse_kl(one_layer, inputs, jax.nn.sigmoid(inputs @ kernel))

    whole, gradient = jax.jit(jax.value_and_grad(loss))(KERNEL, batch)
    values, gradients = jax.pmap(jax.value_and_grad(loss), axis_name=AXIS, in_axes=(None, 0))(KERNEL, batch.reshape(4, 2, 12))
    np.testing.assert_allclose(values, np.full(4, whole), rtol=1e-5)
    np.testing.assert_allclose(gradients.mean(0), gradient, rtol=1e-4, atol=1e-6)


def test_fidelities_are_the_sums_over_a_whole_image():
    outputs, images = jnp.asarray(random.normal(size=(3, 4, 4, 2)), jnp.float32), jnp.asarray(random.uniform(size=(3, 4, 4, 2)))
    plain = reconstruction_losses.squared()
    np.testing.assert_allclose(plain.losses(outputs, images), ((outputs - images) ** 2).sum((1, 2, 3)), rtol=1e-6)
    squashed = reconstruction_losses.squared(output="sigmoid")
    np.testing.assert_allclose(
        squashed.losses(outputs, images), ((jax.nn.sigmoid(outputs) - images) ** 2).sum((1, 2, 3)), rtol=1e-5
    )
    coins, p = reconstruction_losses.cross_entropy(), jax.nn.sigmoid(outputs)
    np.testing.assert_array_equal(coins.reconstruct(outputs), p)
    nats = -(images * jnp.log(p) + (1 - images) * jnp.log(1 - p)).sum((1, 2, 3))
    np.testing.assert_allclose(coins.losses(outputs, images), nats, rtol=1e-5)


def followed(batches: np.ndarray, window: int) -> running_gaussian.GaussianState:
    state = running_gaussian.start(batches.shape[-1])
    for batch in batches:
        state = running_gaussian.update(state, jnp.asarray(batch, jnp.float32), window=window)
    return state


def test_moments_are_those_of_all_vectors_within_the_window():
    batches = random.normal(size=(10, 8, 3)) @ random.normal(size=(3, 3)) + 100.0
    state, flat = followed(batches, 10), batches.reshape(-1, 3)
    np.testing.assert_allclose(state["mean"], flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(state["covariance"], np.cov(flat.T, bias=True), rtol=1e-3)


def test_moments_forget_what_lies_behind_the_window():
    batches = np.concatenate([random.normal(50.0, 9.0, size=(20, 8, 2)), random.normal(0.0, 1.0, size=(60, 8, 2))])
    state = followed(batches, 5)
    assert np.abs(state["mean"]).max() < 1 and 0.5 < state["covariance"][0, 0] < 1.6


def test_draws_have_the_moments_and_temperature_scales_their_deviation():
    spread = np.array([[2.0, 0.9], [0.9, 0.5]], np.float32)
    state = {"batches": jnp.float32(1), "mean": jnp.asarray([3.0, -1.0]), "covariance": jnp.asarray(spread)}
    keys = jax.random.split(jax.random.key(0), 20_000)
    drawn = np.asarray(running_gaussian.draw(state, keys, jnp.float32(1)))
    np.testing.assert_allclose(drawn.mean(0), [3, -1], atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), spread, atol=0.06)
    np.testing.assert_allclose(
        np.cov(np.asarray(running_gaussian.draw(state, keys, jnp.float32(0.5))).T), spread / 4, atol=0.02
    )
    np.testing.assert_allclose(running_gaussian.draw(state, keys[:3], jnp.float32(0)), [[3, -1]] * 3)
    np.testing.assert_allclose(running_gaussian.draw(state, keys[5:6], jnp.float32(1))[0], drawn[5], rtol=1e-5)
    boxed = np.asarray(running_gaussian.draw_box(state, keys, jnp.float32(1)))
    np.testing.assert_allclose(boxed.mean(0), [3, -1], atol=0.05)
    np.testing.assert_allclose(np.cov(boxed.T), np.diag(np.diag(spread)), atol=0.06)  # the same variances, but independent
    assert np.abs(boxed - [3, -1]).max(0) == pytest.approx(np.sqrt(3 * np.diag(spread)), rel=0.01)
