"""Losses of the game at known scores, their optima, and penalties on slopes against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnlab.ops.gan_losses import (
    GAN_LOSSES,
    gradient_penalty,
    interpolate,
    loss_with_image_gradient,
    saturating,
    squared_gradient_norms,
)

LN2 = float(np.log(2))


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("saturating", 2 * LN2, -LN2),
        ("non_saturating", 2 * LN2, LN2),
        ("least_squares", 0.5, 0.5),
        ("wgan_gp", 0.0, 0.0),
        ("hinge", 2.0, 0.0),
    ],
)
def test_losses_of_an_undecided_discriminator_are_known(name: str, discriminator: float, generator: float):
    objective, zero = GAN_LOSSES[name](), jnp.zeros(3)
    np.testing.assert_allclose(objective.discriminator(zero, zero), np.full(3, discriminator), rtol=1e-6)
    np.testing.assert_allclose(objective.generator(zero), np.full(3, generator), rtol=1e-6)


def test_losses_at_scores_by_hand():
    real, fake = jnp.array([2.0]), jnp.array([-1.0])
    p, q = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(1.0))
    expected = {
        "saturating": (-np.log(p) - np.log(1 - q), np.log(1 - q)),
        "non_saturating": (-np.log(p) - np.log(1 - q), -np.log(q)),
        "least_squares": (0.5 * (1 + 1), 0.5 * 4),
        "wgan_gp": (-3.0, 1.0),
        "hinge": (0.0, 1.0),
    }
    for name, (discriminator, generator) in expected.items():
        objective = GAN_LOSSES[name]()
        assert float(objective.discriminator(real, fake)[0]) == pytest.approx(discriminator, rel=1e-6), name
        assert float(objective.generator(fake)[0]) == pytest.approx(generator, rel=1e-6), name
    assert (
        float(saturating().reported_score(real)[0]) == pytest.approx(p) and GAN_LOSSES["hinge"]().reported_score(real) is real
    )


DATA, MODEL = np.array([0.5, 0.3, 0.2], np.float32), np.array([0.1, 0.3, 0.6], np.float32)


def expected_loss(name: str, scores: jax.Array, **knobs) -> jax.Array:
    """Returns the expected loss of a discriminator with the scores [3] at three points, from likely real to likely fake."""
    losses = GAN_LOSSES[name](**knobs).discriminator(scores[:, None], scores[None, :])
    return jnp.sum(losses * DATA[:, None] * MODEL[None, :])


@pytest.mark.parametrize("name", ["saturating", "non_saturating"])
def test_the_best_discriminator_is_the_share_of_the_data(name: str):
    best = jnp.log(DATA / MODEL)  # D = p / (p + q): Goodfellow et al. 2014, proposition 1
    np.testing.assert_allclose(jax.jit(jax.grad(lambda s: expected_loss(name, s)))(best), np.zeros(3), atol=1e-6)
    mean = (DATA + MODEL) / 2
    divergence = 0.5 * np.sum(DATA * np.log(DATA / mean)) + 0.5 * np.sum(MODEL * np.log(MODEL / mean))
    assert float(expected_loss(name, best)) == pytest.approx(2 * LN2 - 2 * divergence, rel=1e-5)  # their theorem 1
    smooth = jnp.log(0.9 * DATA / (0.1 * DATA + MODEL))  # Salimans et al. 2016, section 3.4
    np.testing.assert_allclose(
        jax.jit(jax.grad(lambda s: expected_loss(name, s, smoothing=0.1)))(smooth), np.zeros(3), atol=1e-6
    )


def test_the_best_discriminators_of_least_squares_and_hinge():
    best = jnp.asarray(DATA / (DATA + MODEL))  # Mao et al. 2017, eq. 4
    np.testing.assert_allclose(jax.jit(jax.grad(lambda s: expected_loss("least_squares", s)))(best), np.zeros(3), atol=1e-7)
    grid = [jnp.array([a, 0.0, b]) for a in np.linspace(-2, 2, 9) for b in np.linspace(-2, 2, 9)]
    lowest = min(grid, key=lambda scores: float(expected_loss("hinge", scores)))
    assert (float(lowest[0]), float(lowest[2])) == (1.0, -1.0)


def test_a_certain_discriminator_leaves_the_saturating_generator_without_a_gradient():
    certain = jnp.array([-20.0])
    gradient = {
        name: float(jax.jit(jax.grad(lambda s, n=name: GAN_LOSSES[n]().generator(s)[0]))(certain)[0]) for name in GAN_LOSSES
    }
    assert abs(gradient["saturating"]) < 1e-8 and gradient["non_saturating"] == pytest.approx(-1.0)
    assert gradient["wgan_gp"] == gradient["hinge"] == -1.0 and gradient["least_squares"] == -21.0


def critic(images: jax.Array, weight: jax.Array) -> jax.Array:
    return jnp.sum(jnp.tanh(images.reshape(len(images), -1) @ weight), axis=1)


def test_slopes_and_the_penalty_equal_finite_differences():
    draw = np.random.default_rng(0)
    images = jnp.asarray(draw.normal(size=(5, 2, 3, 1)), jnp.float32)
    weight = jnp.asarray(draw.normal(size=(6, 4)), jnp.float32)
    squared = squared_gradient_norms(lambda x: critic(x, weight), images)
    step = 1e-2
    bumps = step * jnp.eye(6).reshape(6, 1, 2, 3, 1)
    numeric = jnp.stack([critic(images + b, weight) - critic(images - b, weight) for b in bumps]) / (2 * step)
    np.testing.assert_allclose(squared, jnp.sum(numeric**2, axis=0), rtol=3e-3)

    def penalty(weight: jax.Array) -> jax.Array:
        return jnp.sum(gradient_penalty(squared_gradient_norms(lambda x: critic(x, weight), images)))

    gradient = jax.jit(jax.grad(penalty))(weight)
    for row, column in [(0, 0), (2, 3), (5, 1)]:
        bump = jnp.zeros_like(weight).at[row, column].set(step)
        slope = (penalty(weight + bump) - penalty(weight - bump)) / (2 * step)
        assert float(gradient[row, column]) == pytest.approx(float(slope), rel=2e-2, abs=2e-3)


def test_the_penalty_is_one_with_a_finite_gradient_where_the_critic_is_flat():
    value, gradient = jax.jit(jax.value_and_grad(lambda s: jnp.sum(gradient_penalty(s))))(jnp.zeros(2))
    assert float(value) == pytest.approx(2.0, abs=1e-5) and bool(jnp.all(jnp.isfinite(gradient)))
    assert float(gradient_penalty(jnp.ones(1))[0]) == pytest.approx(0.0, abs=1e-9)


def test_points_between_lie_on_the_way_and_belong_to_the_example():
    keys = jax.random.split(jax.random.key(0), 200)
    real, fake = jnp.ones((200, 2, 2, 1)), jnp.zeros((200, 2, 2, 1))
    middle = interpolate(real, fake, keys)
    assert bool(jnp.all(middle == middle[:, :1, :1])) and 0.0 <= float(middle.min()) <= float(middle.max()) <= 1.0
    assert float(middle.mean()) == pytest.approx(0.5, abs=0.06)
    np.testing.assert_array_equal(interpolate(real[50:60], fake[50:60], keys[50:60]), middle[50:60])


def test_a_loss_through_images_has_the_gradient_of_the_direct_one():
    weight, codes = jnp.array([[0.3, -1.0], [0.5, 2.0]]), jnp.array([[1.0, 2.0], [-1.0, 0.5]])

    def of_images(images: jax.Array) -> tuple[jax.Array, jax.Array]:
        each = jnp.sum(jnp.sin(images), axis=1)
        return jnp.mean(each), each

    def through(weight: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        loss, each, gradient = loss_with_image_gradient(of_images, codes @ weight)
        return loss, (each, gradient)

    (loss, (each, gradient)), slope = jax.jit(jax.value_and_grad(through, has_aux=True))(weight)
    direct, expected = jax.jit(jax.value_and_grad(lambda w: of_images(codes @ w)[0]))(weight)
    assert float(loss) == pytest.approx(float(direct)) and float(each.mean()) == pytest.approx(float(direct))
    np.testing.assert_allclose(slope, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient, jnp.cos(codes @ weight) / 2, rtol=1e-6)
