"""Optimisers of torch: thirty steps of least squares in f64 equal the rules of torch's documentation, and torch itself.

The rules are those of the algorithm boxes of torch.optim (2.x), with its defaults wherever a case gives no value.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnnlab.errors import UsageError
from cnnlab.ops.schedules import constant
from cnnlab.ops.torch_optimizers import TORCH_RULES, torch_adam, torch_sgd

MATRIX = np.random.default_rng(0).normal(size=(6, 4))
TARGET = np.random.default_rng(1).normal(size=(6, 3))
START = {"kernel": np.random.default_rng(2).normal(size=(4, 3)), "bias": np.array([0.3, -2.0, 1.0])}
STEPS = 30

CASES: list[tuple[str, dict[str, Any]]] = [
    ("torch_sgd", {"lr": 0.01}),
    ("torch_sgd", {"lr": 0.01, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}),
    ("torch_sgd", {"lr": 0.01, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("torch_adagrad", {}),
    ("torch_adagrad", {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.5, "weight_decay": 0.1}),
    ("torch_rmsprop", {}),
    ("torch_rmsprop", {"momentum": 0.5, "centered": True, "weight_decay": 0.1}),
    ("torch_adam", {}),
    ("torch_adam", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "b1": 0.8, "b2": 0.95}),
    ("torch_adamw", {"lr": 0.01}),
    ("torch_adamw", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
]


def gradients(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of half the squared error of least squares with a bias."""
    error = MATRIX @ params["kernel"] + params["bias"] - TARGET
    return {"kernel": MATRIX.T @ error, "bias": error.sum(0)}


@pytest.fixture(scope="module")
def ours() -> list[dict[str, np.ndarray]]:
    """The parameters after thirty steps of each case, all in one compilation."""

    def trajectory(optimizer: optax.GradientTransformation, start: Any) -> Any:
        def step(carry, _):
            params, state = carry
            updates, state = optimizer.update(gradients(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (start, optimizer.init(start)), length=STEPS)[0][0]

    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        optimizers = [TORCH_RULES[name](steps=STEPS, **knobs) for name, knobs in CASES]
        run = jax.jit(lambda start: [trajectory(optimizer, start) for optimizer in optimizers])
        return jax.tree.map(np.asarray, run(jax.tree.map(jnp.asarray, START)))


class Documented:
    """The rules of torch's documentation, for one parameter."""

    def __init__(self, p: np.ndarray, name: str, knobs: dict[str, Any]):
        self.p, self.t, self.k = p.copy(), 0, knobs
        self.step = {"torch_adamw": self.torch_adam}.get(name) or getattr(self, name)
        self.decoupled = knobs.get("weight_decay", 0.01) if name == "torch_adamw" else 0.0
        self.coupled = 0.0 if name == "torch_adamw" else knobs.get("weight_decay", 0.0)
        self.a, self.b, self.c = np.zeros_like(p), np.zeros_like(p), np.zeros_like(p)
        self.sum = np.full_like(p, knobs.get("initial_accumulator_value", 0.0))

    def move(self, g: np.ndarray) -> None:
        self.t += 1
        self.step(g + self.coupled * self.p)

    def torch_sgd(self, g: np.ndarray) -> None:
        mu, tau = self.k.get("momentum", 0.0), self.k.get("dampening", 0.0)
        if mu:
            self.a = mu * self.a + (1 - tau) * g if self.t > 1 else g
            g = g + mu * self.a if self.k.get("nesterov") else self.a
        self.p -= self.k["lr"] * g

    def torch_adagrad(self, g: np.ndarray) -> None:
        rate = self.k.get("lr", 1e-2) / (1 + (self.t - 1) * self.k.get("lr_decay", 0.0))
        self.sum += g**2
        self.p -= rate * g / (np.sqrt(self.sum) + 1e-10)

    def torch_rmsprop(self, g: np.ndarray) -> None:
        self.a = 0.99 * self.a + 0.01 * g**2
        v = self.a
        if self.k.get("centered"):
            self.b = 0.99 * self.b + 0.01 * g
            v = v - self.b**2
        self.c = self.k.get("momentum", 0.0) * self.c + g / (np.sqrt(v) + 1e-8)
        self.p -= 1e-2 * self.c

    def torch_adam(self, g: np.ndarray) -> None:
        b1, b2, lr = self.k.get("b1", 0.9), self.k.get("b2", 0.999), self.k.get("lr", 1e-3)
        self.p -= lr * self.decoupled * self.p
        self.a, self.b = b1 * self.a + (1 - b1) * g, b2 * self.b + (1 - b2) * g**2
        self.c = np.maximum(self.c, self.b)
        v = (self.c if self.k.get("amsgrad") else self.b) / (1 - b2**self.t)
        self.p -= lr * self.a / (1 - b1**self.t) / (np.sqrt(v) + 1e-8)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_trajectory_is_that_of_the_documented_rule(case: int, ours: list[dict[str, np.ndarray]]):
    name, knobs = CASES[case]
    rules = {key: Documented(value, name, knobs) for key, value in START.items()}
    for _ in range(STEPS):
        at = gradients({key: rule.p for key, rule in rules.items()})
        for key, rule in rules.items():
            rule.move(at[key])
    for key, found in ours[case].items():
        np.testing.assert_allclose(found, rules[key].p, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_trajectory_is_that_of_torch(case: int, ours: list[dict[str, np.ndarray]]):
    name, knobs = CASES[case]
    torch = pytest.importorskip("torch", reason="torch, which is no dependency, gives the trajectory")
    classes = {"sgd": "SGD", "adagrad": "Adagrad", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}
    own = {key: value for key, value in knobs.items() if key not in ("b1", "b2")}
    own |= {"betas": (knobs["b1"], knobs["b2"])} if "b1" in knobs else {}
    params = {key: torch.tensor(value) for key, value in START.items()}
    optimizer = getattr(torch.optim, classes[name.removeprefix("torch_")])(params.values(), **own)
    for _ in range(STEPS):
        for key, value in gradients({key: value.numpy() for key, value in params.items()}).items():
            params[key].grad = torch.tensor(value)
        optimizer.step()
    for key, found in ours[case].items():
        np.testing.assert_allclose(found, params[key].numpy(), rtol=1e-11, atol=1e-13)


def test_the_correction_of_adam_keeps_its_digits_in_f32():
    with jax.numpy_dtype_promotion("standard"):
        optimizer, params = torch_adam(steps=1), {"kernel": jnp.ones((1, 1))}
        updates, _ = optimizer.update({"kernel": jnp.full((1, 1), 1e-3)}, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.001 / (1 + 1e-5), rtol=3e-7)  # epsilon is 1e-5 of the gradient's size


def test_nesterov_needs_a_momentum_and_no_dampening():
    for knobs in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(UsageError, match="above 0 and no dampening"):
            torch_sgd(steps=1, schedule=constant, nesterov=True, **knobs)
