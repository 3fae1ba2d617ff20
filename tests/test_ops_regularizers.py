"""Penalties and constraints of the weights: closed forms, the proximal step of forward-backward splitting, exact zeros."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.ops.optimizers import RULES
from cnnlab.ops.regularizers import penalties
from cnnlab.ops.schedules import constant

random = np.random.default_rng(0)
CENTRE = np.array([[2.0, -1.5, 0.3, -0.1, 0.02, 0.0]])
"""Minimum of ½ ‖w − CENTRE‖², the loss of an orthonormal design."""


def plain(name: str, lr: float) -> optax.GradientTransformation:
    return RULES[name](steps=1, schedule=constant, lr=lr)


def minimised(optimizer: optax.GradientTransformation, steps: int) -> np.ndarray:
    """The kernel after many steps on ½ ‖w − CENTRE‖² from a start without zeros, in f64."""

    def step(carry, _):
        kernel, state = carry
        updates, state = optimizer.update(kernel - jnp.asarray(CENTRE), state, kernel)
        return (optax.apply_updates(kernel, updates), state), None

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        start = jnp.full(CENTRE.shape, 0.7)
        run = jax.jit(lambda start: jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[0][0])
        return np.asarray(run(start))


def soft(values: np.ndarray, threshold: float) -> np.ndarray:
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0.0)


@pytest.mark.parametrize(("name", "lr"), [("sgd", 0.1), ("momentum", 0.02), ("adam", 0.01), ("adagrad", 0.3)])
def test_a_proximal_step_ends_at_the_soft_threshold_with_exact_zeros(name: str, lr: float):
    regularized = penalties(plain(name, lr), l1=0.25, l1_step="proximal", l2=0.5)
    found = minimised(regularized, 1500)
    np.testing.assert_allclose(found, soft(CENTRE, 0.25) / (1 + 2 * 0.5), atol=1e-5)
    assert (found[0, 3:] == 0).all() and (found[0, :3] != 0).all()


def test_a_subgradient_step_ends_near_the_soft_threshold_without_zeros():
    found = minimised(penalties(plain("sgd", 0.03), l1=0.25), 501)
    np.testing.assert_allclose(found, soft(CENTRE, 0.25), atol=0.03 * 0.5)
    assert (found[0, 3:5] != 0).all()


def test_a_proximal_step_of_gradient_descent_is_that_of_forward_backward_splitting():
    """Except that a weight which changes its sign rests at 0 for a step."""
    lr, l1, kernel = 0.1, 1.0, random.normal(scale=0.3, size=(40, 30)) * random.integers(0, 2, size=(40, 30))
    gradient = random.normal(scale=2.0, size=kernel.shape)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        optimizer = penalties(plain("sgd", lr), l1=l1, l1_step="proximal")
        update, _ = optimizer.update(jnp.asarray(gradient), optimizer.init(jnp.asarray(kernel)), jnp.asarray(kernel))
        ours = np.asarray(optax.apply_updates(jnp.asarray(kernel), update))
    splitting = soft(kernel - lr * gradient, lr * l1)
    crosses = splitting * kernel < 0
    np.testing.assert_allclose(ours, np.where(crosses, 0.0, splitting), atol=1e-12)
    assert crosses.any() and (ours[~crosses & (kernel != 0)] == 0).any() and (ours[kernel == 0] != 0).any()


def test_penalties_are_terms_of_the_loss_and_leave_biases_alone():
    params = {"kernel": jnp.asarray(random.normal(size=(2, 3)), jnp.float32), "bias": jnp.ones(3)}
    gradient = jax.tree.map(jnp.ones_like, params)

    def penalty(kernel):
        return 0.1 * jnp.sum(jnp.abs(kernel)) + 0.2 * jnp.sum(kernel**2)

    def step(l1, l2):  # knobs as tracers
        optimizer = penalties(optax.sgd(1.0), l1=l1, l2=l2)
        return optimizer.update(gradient, optimizer.init(params), params)[0]

    updates = jax.jit(step)(0.1, 0.2)
    np.testing.assert_allclose(updates["kernel"], -1 - jax.jit(jax.grad(penalty))(params["kernel"]), rtol=1e-5)
    np.testing.assert_array_equal(updates["bias"], -1)


def test_a_largest_norm_scales_the_weights_of_long_units_down():
    params = {"dense": {"kernel": jnp.ones((4, 2)), "bias": jnp.full(2, 9.0)}, "conv": {"kernel": jnp.ones((3, 3, 2, 2))}}
    aim = {
        "dense": {"kernel": jnp.array([[3.0, 0.3]] * 4), "bias": jnp.full(2, 8.0)},
        "conv": {"kernel": params["conv"]["kernel"]},
    }
    optimizer = penalties(optax.sgd(1.0), max_norm=2.0)
    updates, _ = jax.jit(optimizer.update)(jax.tree.map(jnp.subtract, params, aim), optimizer.init(params), params)
    new = optax.apply_updates(params, updates)
    np.testing.assert_allclose(new["dense"]["kernel"], [[1.0, 0.3]] * 4, rtol=1e-6)  # norms 6 and 0.6 become 2 and 0.6
    np.testing.assert_allclose(jnp.sqrt(jnp.sum(new["conv"]["kernel"] ** 2, axis=(0, 1, 2))), [2.0, 2.0], rtol=1e-6)
    np.testing.assert_array_equal(new["dense"]["bias"], 8.0)


def test_without_penalties_the_optimizer_is_the_same_object():
    optimizer = plain("momentum", 0.1)
    assert penalties(optimizer) is optimizer


def test_what_the_optimizer_reads_beside_the_gradient_reaches_it():
    scale_by_value = optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(),
        lambda g, state, params, *, value, **_: (jax.tree.map(lambda leaf: value * leaf, g), state),
    )
    updates, _ = functools.partial(penalties(scale_by_value, l2=1.0).update, value=3.0)(
        jnp.zeros((1, 1)), optax.EmptyState(), jnp.ones((1, 1))
    )
    np.testing.assert_array_equal(updates, 6.0)
