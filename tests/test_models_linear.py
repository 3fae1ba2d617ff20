"""M1 and M2 on the logic gates: what one unit can and cannot do, and what a hidden layer adds (claims C1, C42)."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.models.linear import Linear, mcculloch_pitts
from cnnlab.models.mlp import MLP
from cnnlab.ops.activations import identity
from cnnlab.ops.losses import LOSSES
from tests import jitted

INPUTS = jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
GATES = {"and": [0, 0, 0, 1], "or": [0, 1, 1, 1], "nand": [1, 1, 1, 0], "xor": [0, 1, 1, 0]}


@pytest.mark.parametrize(("gate", "weights", "threshold"), [("and", [1, 1], 2), ("or", [1, 1], 1), ("nand", [-1, -1], -1)])
def test_threshold_unit_computes(gate, weights, threshold):
    fired = mcculloch_pitts(INPUTS, jnp.array(weights, jnp.float32), jnp.float32(threshold))
    np.testing.assert_array_equal(fired, GATES[gate])


def test_threshold_unit_computes_not():
    np.testing.assert_array_equal(mcculloch_pitts(jnp.array([[0.0], [1.0]]), jnp.array([-1.0]), jnp.float32(0)), [1, 0])


def test_no_threshold_unit_on_a_grid_computes_xor_but_two_layers_do():
    grid = np.linspace(-3, 3, 25, dtype=np.float32)
    settings = jnp.array(list(itertools.product(grid, grid, grid)))
    fired = jax.jit(jax.vmap(lambda s: mcculloch_pitts(INPUTS, s[:2], s[2])))(settings)
    assert bool(jnp.any(jnp.all(fired == jnp.array([GATES["and"]], jnp.float32), axis=1)))
    assert not bool(jnp.any(jnp.all(fired == jnp.array([GATES["xor"]], jnp.float32), axis=1)))
    hidden = jnp.stack(
        [mcculloch_pitts(INPUTS, jnp.array(w), jnp.float32(t)) for w, t in (([1.0, 1.0], 1), ([-1.0, -1.0], -1))], 1
    )
    np.testing.assert_array_equal(mcculloch_pitts(hidden, jnp.array([1.0, 1.0]), jnp.float32(2)), GATES["xor"])


def errors_after_training(model, gate, loss, rate, steps):
    images, labels = INPUTS.reshape(4, 1, 2, 1), jnp.array(GATES[gate], jnp.int32)
    params = jitted.init(model, jax.random.key(1), images, train=False)
    optimizer = optax.sgd(rate)

    def step(carry, _):
        params, state = carry
        gradient = jax.grad(lambda p: jnp.mean(LOSSES[loss](model.apply(p, images, train=True)[0], labels)))(params)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, updates), state), None

    (params, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, steps))((params, optimizer.init(params)))
    return int(jnp.sum(jnp.argmax(jitted.apply(model, params, images, train=False)[0], axis=1) != labels))


@pytest.mark.parametrize("loss", ["perceptron", "cross_entropy", "hinge", "sigmoid"])
def test_linear_learns_and_but_never_xor(loss):
    assert errors_after_training(Linear(classes=2), "and", loss, 0.5, 300) == 0
    assert errors_after_training(Linear(classes=2), "xor", loss, 0.5, 300) > 0


def test_mlp_learns_xor_only_with_a_non_linearity():
    assert errors_after_training(MLP(classes=2, widths=(8,)), "xor", "cross_entropy", 0.5, 500) == 0
    assert errors_after_training(MLP(classes=2, widths=(8,), activation=identity), "xor", "cross_entropy", 0.1, 500) > 0


@pytest.mark.parametrize(("loss", "expected"), [("cross_entropy", np.log(10)), ("hinge", 9.0)])
def test_linear_starts_at_the_loss_of_guessing(loss, expected):
    model, images = Linear(classes=10), jax.random.normal(jax.random.key(0), (16, 8, 8, 1))
    logits, _ = jitted.apply(model, jitted.init(model, jax.random.key(0), images, train=False), images, train=False)
    np.testing.assert_allclose(LOSSES[loss](logits, jnp.arange(16, dtype=jnp.int32) % 10), np.full(16, expected), rtol=1e-6)
