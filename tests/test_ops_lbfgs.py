"""L-BFGS finds what linear algebra finds, with and without a penalty, and its line search sees the global batch."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.engine import line_search
from cnnlab.engine.accumulation import in_parts
from cnnlab.ops.lbfgs import lbfgs
from cnnlab.ops.regularizers import penalties
from tests.toys import chase, gap, run

MATRIX = np.random.default_rng(0).normal(size=(40, 6)) * np.logspace(0, -1, 6)
TARGET = np.random.default_rng(1).normal(size=(40, 2))


def squared(own: Any, model_state: Any, batch: Any, key: Any) -> Any:
    """The mean over the rows of half the squared error of least squares, as a player's loss."""
    error = batch["x"] @ own["kernel"] - batch["y"]
    return 0.5 * jnp.mean(jnp.sum(error**2, axis=-1)), (model_state, {"sums": {}})


def minimised(optimizer: Any, steps: int) -> np.ndarray:
    """The kernel [6, 2] after some steps on the whole batch."""
    batch, key = {"x": jnp.asarray(MATRIX, jnp.float32), "y": jnp.asarray(TARGET, jnp.float32)}, jax.random.key(0)
    value_fn = line_search.value_function(in_parts(1), squared, {}, batch, key, {})

    def step(carry: Any, _: Any) -> Any:
        own, state = carry
        value, gradient = jax.value_and_grad(value_fn)(own)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, own, value=value, value_fn=value_fn)
        return (optax.apply_updates(own, updates), state), None

    start = {"kernel": jnp.zeros((6, 2))}
    (own, _), _ = jax.jit(lambda: jax.lax.scan(step, (start, optimizer.init(start)), length=steps))()
    return np.asarray(own["kernel"])


@pytest.mark.slow
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_it_reaches_the_minimum_of_least_squares_with_the_penalty_in_its_line_search(l2: float):
    found = minimised(penalties(lbfgs(steps=25), l2=l2), 25)
    normal = MATRIX.T @ MATRIX / len(MATRIX) + 2 * l2 * np.eye(6)
    exact = np.linalg.solve(normal, MATRIX.T @ TARGET / len(MATRIX))
    np.testing.assert_allclose(found, exact, atol=5e-3)
    slow = minimised(optax.sgd(1 / np.linalg.eigvalsh(normal).max()), 25) if not l2 else None
    assert slow is None or np.abs(slow - exact).max() > 0.05, "gradient descent is far away after as many steps"


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["pmap", "fsdp"])
def test_several_devices_take_the_steps_of_one(strategy: str):
    experiment = chase(steps=4)
    experiment = dataclasses.replace(experiment, optimizers=dict.fromkeys(("scout", "hunter"), lbfgs(steps=4)))
    (one, *_), (several, *_) = run(experiment), run(experiment, strategy=strategy, devices=4)
    assert gap(one.params, several.params) < 1e-4
    start, *_ = run(experiment, stop=0)
    assert gap(one.params, start.params) > 0.1


def test_parts_of_a_batch_give_the_values_of_the_whole():
    batch = {"x": jnp.asarray(MATRIX, jnp.float32), "y": jnp.asarray(TARGET, jnp.float32)}
    own = {"kernel": jnp.ones((6, 2))}
    make = functools.partial(line_search.value_function, batch=batch, key=jax.random.key(0), loss_scale={})
    whole, parts = (jax.jit(jax.value_and_grad(make(in_parts(count), squared, {})))(own) for count in (1, 4))
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-6)
    np.testing.assert_allclose(parts[1]["kernel"], whole[1]["kernel"], rtol=1e-5)
