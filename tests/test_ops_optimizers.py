"""Optimisers follow their papers (recurrences in NumPy, torch's conventions), and their knobs may be tracers."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.ops.optimizers import OPTIMIZERS, RULES, reduce_on_plateau
from cnnlab.ops.schedules import constant, step

MATRIX = np.random.default_rng(0).normal(size=(6, 4))
TARGET = np.random.default_rng(1).normal(size=(6, 3))
START = np.random.default_rng(2).normal(size=(4, 3))
STEPS = 30


def gradient(kernel: Any) -> Any:
    """Of half the squared error of least squares."""
    return MATRIX.T @ (MATRIX @ kernel - TARGET)


def ours(name: str, **knobs: Any) -> np.ndarray:
    """The kernel after thirty steps, computed in f64."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        optimizer = RULES[name](steps=STEPS, schedule=constant, **knobs)
        kernel = jnp.asarray(START)
        state = optimizer.init(kernel)
        for _ in range(STEPS):
            update, state = optimizer.update(gradient(kernel), state, kernel)
            kernel = optax.apply_updates(kernel, update)
        return np.asarray(kernel)


def reference(
    step: Callable[[int, np.ndarray, np.ndarray, dict[str, np.ndarray]], np.ndarray], decay: float = 0.0
) -> np.ndarray:
    kernel, memory = START.copy(), {"m": np.zeros_like(START), "v": np.zeros_like(START)}
    for count in range(1, STEPS + 1):
        kernel = kernel - step(count, gradient(kernel) + decay * kernel, kernel, memory)
    return kernel


def momentum(count: int, g: np.ndarray, kernel: np.ndarray, memory: dict[str, np.ndarray]) -> np.ndarray:
    memory["m"] = 0.9 * memory["m"] + g
    return 0.01 * memory["m"]


def nesterov(count: int, g: np.ndarray, kernel: np.ndarray, memory: dict[str, np.ndarray]) -> np.ndarray:
    memory["m"] = 0.9 * memory["m"] + g
    return 0.01 * (g + 0.9 * memory["m"])


def adam(count: int, g: np.ndarray, kernel: np.ndarray, memory: dict[str, np.ndarray]) -> np.ndarray:
    memory["m"] = 0.9 * memory["m"] + 0.1 * g
    memory["v"] = 0.999 * memory["v"] + 0.001 * g**2
    return 0.01 * memory["m"] / (1 - 0.9**count) / (np.sqrt(memory["v"] / (1 - 0.999**count)) + 1e-8)


def adamw(count: int, g: np.ndarray, kernel: np.ndarray, memory: dict[str, np.ndarray]) -> np.ndarray:
    return adam(count, g, kernel, memory) + 0.01 * 0.1 * kernel


def adagrad(count: int, g: np.ndarray, kernel: np.ndarray, memory: dict[str, np.ndarray]) -> np.ndarray:
    memory["v"] = memory["v"] + g**2
    return 0.01 * g / (np.sqrt(memory["v"]) + 1e-10)


def rmsprop(count: int, g: np.ndarray, kernel: np.ndarray, memory: dict[str, np.ndarray]) -> np.ndarray:
    memory["v"] = 0.99 * memory["v"] + 0.01 * g**2
    return 0.01 * g / (np.sqrt(memory["v"]) + 1e-8)


def lars(count: int, g: np.ndarray, kernel: np.ndarray, memory: dict[str, np.ndarray]) -> np.ndarray:
    """Algorithm 1 of You et al. 2017, with a decay of 0.1 and a trust of 0.2."""
    local = 0.2 * np.linalg.norm(kernel) / (np.linalg.norm(g) + 0.1 * np.linalg.norm(kernel))
    memory["m"] = 0.9 * memory["m"] + 0.01 * local * (g + 0.1 * kernel)
    return memory["m"]


@pytest.mark.parametrize(
    ("name", "knobs", "step", "decay"),
    [
        ("sgd", {}, lambda count, g, kernel, memory: 0.01 * g, 0.0),
        ("momentum", {}, momentum, 0.0),
        ("momentum", {"nesterov": True}, nesterov, 0.0),
        ("momentum", {"weight_decay": 0.1}, momentum, 0.1),
        ("adam", {}, adam, 0.0),
        ("adam", {"weight_decay": 0.1}, adam, 0.1),
        ("adamw", {"weight_decay": 0.1}, adamw, 0.0),
        ("adagrad", {}, adagrad, 0.0),
        ("rmsprop", {}, rmsprop, 0.0),
        ("lars", {"weight_decay": 0.1, "trust": 0.2}, lars, 0.0),
    ],
)
def test_an_optimizer_follows_its_recurrence(name: str, knobs: dict[str, Any], step: Any, decay: float):
    np.testing.assert_allclose(ours(name, lr=0.01, **knobs), reference(step, decay), rtol=1e-9, atol=1e-12)


SCALED = {
    "sgd": lambda count, g, kernel, memory: 0.01 * g,
    "momentum": momentum,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "adam": adam,
    "adamw": lambda count, g, kernel, memory: adam(count, g, kernel, memory) + 0.01 * 0.01 * kernel,
}
"""The recurrence of every optimiser at rate 0.01 and its other defaults."""


@pytest.mark.parametrize("scale", [1e4, 1.0, 1e-4, 1e-6])
@pytest.mark.parametrize("name", SCALED)
def test_an_optimizer_follows_its_recurrence_in_f32_whatever_the_size_of_gradients(name: str, scale: float):
    """Where epsilon stands shows at small gradients alone; the gradients are given, so that steps do not feed back."""
    gradients = scale * np.random.default_rng(3).normal(size=(6, *START.shape)).astype(np.float32)
    kernel, memory = START.copy(), {"m": np.zeros_like(START), "v": np.zeros_like(START)}
    with jax.numpy_dtype_promotion("standard"):
        optimizer = RULES[name](steps=len(gradients), schedule=constant, lr=0.01)
        params = jnp.asarray(START, jnp.float32)
        state = optimizer.init(params)
        for count, g in enumerate(gradients, 1):
            update, state = optimizer.update(jnp.asarray(g, jnp.float32), state, params)
            expected = -SCALED[name](count, np.asarray(g, np.float64), kernel, memory)
            np.testing.assert_allclose(update, expected, rtol=2e-4, atol=1e-5 * np.abs(expected).max())
            params, kernel = optax.apply_updates(params, update), kernel + expected


@pytest.mark.parametrize(("name", "scale"), [("muon", 1e4), ("muon", 1e-4), ("muon", 1e-6), ("lars", 1e4), ("lars", 1e-6)])
def test_muon_and_lars_move_kernels_alike_whatever_the_size_of_gradients(name: str, scale: float):
    """Their updates are orthogonalised, or a share of the kernel's norm: they depend on the gradient's direction alone."""
    assert {*SCALED, "muon", "lars"} == set(RULES), "every optimiser is tried at small and large gradients"
    gradients = np.random.default_rng(3).normal(size=(3, *START.shape)).astype(np.float32)
    moved = []
    for factor in (1.0, scale):
        with jax.numpy_dtype_promotion("standard"):
            optimizer = RULES[name](steps=len(gradients), schedule=constant)
            params = {"kernel": jnp.asarray(START, jnp.float32)}
            state = optimizer.init(params)
            for g in gradients:
                update, state = optimizer.update({"kernel": jnp.asarray(factor * g)}, state, params)
        moved.append(np.asarray(update["kernel"]))
    np.testing.assert_allclose(moved[1], moved[0], atol=0.02 * np.abs(moved[0]).max())


@pytest.mark.parametrize("name", RULES)
def test_weight_decay_touches_kernels_alone(name: str):
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(3)}
    optimizer = RULES[name](steps=10, schedule=constant, weight_decay=0.1)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params)
    assert (updates["kernel"] < 0).all() and not updates["bias"].any() and not updates["scale"].any()


@pytest.mark.parametrize("name", RULES)
def test_clipping_bounds_what_the_optimizer_sees(name: str):
    """By the norm of all leaves together; a second step shows it where the first is of one size for every gradient."""
    shapes = {"kernel": (2, 3), "output": (3, 2), "bias": (3,)}
    sizes = {"kernel": 1.0, "output": 10.0, "bias": 3.0}
    draw = np.random.default_rng(4)
    params = {leaf: jnp.asarray(draw.normal(size=shape), jnp.float32) for leaf, shape in shapes.items()}
    small, huge = (
        {leaf: jnp.asarray(scale * sizes[leaf] * draw.normal(size=shape), jnp.float32) for leaf, shape in shapes.items()}
        for scale in (0.01, 100.0)
    )
    norm = np.sqrt(sum(np.sum(np.asarray(leaf, np.float64) ** 2) for leaf in huge.values()))
    bounded = {leaf: jnp.asarray(value / norm, jnp.float32) for leaf, value in huge.items()}

    def last(second: dict[str, jax.Array], **knobs: Any) -> dict[str, jax.Array]:
        optimizer = RULES[name](steps=10, schedule=constant, **knobs)
        state = optimizer.init(params)
        for gradients in (small, second):
            updates, state = optimizer.update(gradients, state, params)
        return updates

    with jax.numpy_dtype_promotion("standard"):
        clipped, expected, unclipped = last(huge, clip_norm=1.0), last(bounded), last(huge)
    for leaf in shapes:
        np.testing.assert_allclose(clipped[leaf], expected[leaf], rtol=1e-4, atol=1e-7, err_msg=leaf)
    assert any(not np.allclose(unclipped[leaf], expected[leaf], rtol=1e-2) for leaf in shapes)


@pytest.mark.parametrize("name", RULES)
def test_the_learning_rate_and_the_decay_may_be_tracers(name: str):
    params = {"kernel": jnp.ones((2, 3))}

    def update(lr: Any, decay: Any) -> Any:
        optimizer = RULES[name](steps=10, schedule=constant, lr=lr, weight_decay=decay)
        return optimizer.update(params, optimizer.init(params), params)[0]["kernel"]

    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(jax.jit(update)(0.03, 0.2), update(0.03, 0.2), rtol=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_the_rate_follows_the_schedule_over_the_steps_of_the_call(name: str):
    params = {"kernel": jnp.ones((2, 3))}
    halved = functools.partial(step, at=(0.5,), factor=0.5)
    with jax.numpy_dtype_promotion("standard"):
        sizes = []
        for schedule in (constant, halved):
            # The velocity of lars holds steps of earlier rates.
            optimizer = RULES[name](steps=4, schedule=schedule, **({"momentum": 0.0} if name == "lars" else {}))
            state, seen = optimizer.init(params), []
            for _ in range(4):
                update, state = optimizer.update(params, state, params)
                seen.append(float(update["kernel"][0, 0]))
            sizes.append(np.array(seen))
    np.testing.assert_allclose(sizes[1] / sizes[0], [1.0, 1.0, 0.5, 0.5], rtol=1e-6)


def test_the_rate_is_reduced_where_the_loss_of_several_windows_does_not_fall():
    optimizer = reduce_on_plateau(
        steps=40, rule=functools.partial(OPTIMIZERS["sgd"], lr=1.0), window=2, patience=3, factor=0.5, tolerance=0.1, final=0.25
    )
    params = {"kernel": jnp.ones((2, 3))}
    with jax.numpy_dtype_promotion("standard"):
        state, rates = optimizer.init(params), []
        for count in range(40):
            loss = 2.0 if count < 4 else 1.0 if count < 20 else 0.95  # 0.95 is no improvement on 1 by a tenth
            update, state = optimizer.update(params, state, params, value=jnp.float32(loss))
            rates.append(-float(update["kernel"][0, 0]))
    # 1.0 is the lowest after six steps; three more windows end after step 12, the next three after 18, and the rate stays.
    assert rates == [1.0] * 11 + [0.5] * 6 + [0.25] * 23
